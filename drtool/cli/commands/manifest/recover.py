"""`manifest recover`: continue from the remaining sites after a majority is lost."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.options import DryRun, sites
from drtool.cli.core.text import Document, count, document_of, local
from drtool.cli.core.view import Cell, View, line, view
from drtool.config.schema import check_name, place_at
from drtool.errors import Refused, UsageError

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.repository import TargetSpec


def manifest_recover(
    context: typer.Context,
    from_site: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="SITE", help="Recover from this remaining site. Name all of them."),
    ] = None,
    i_accept_lost_writes: Annotated[
        bool,
        typer.Option("--i-accept-lost-writes", help="Give up for ever the changes that only the other sites have."),
    ] = False,
    arbiter: Annotated[
        list[str] | None,
        typer.Option("--arbiter", metavar="NAME=URL", help="Add an empty place that votes and holds no copies."),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Continue without a majority that is lost for ever.

    The command recovers the catalogue from the remaining sites. Changes that only the lost sites have are given up.
    Make sure that the lost sites are gone. If they are alive and another host still reaches them, the changes that it
    makes there are lost too. Sites that come back join with `site add` or `site replace`. Reading needs no recovery:
    use --manifest-from SITE.

    Sites that do not vote have a copy of the catalogue, which may lag. The plan shows its time. If none of the
    remaining sites can vote, --arbiter names a place that can.

    Examples:
        drtool manifest recover --from attic --dry-run
        drtool manifest recover --from attic --from garage --i-accept-lost-writes
        drtool manifest recover --from bucket --arbiter judge=/mnt/usb/drtool --i-accept-lost-writes
    """
    from drtool.operations.catalogue import plan_recovery, recover

    call: Call = context.obj
    with call.open_for_report() as repository:
        judges = [_arbiter(call, word) for word in arbiter or ()]
        plan = plan_recovery(repository, sites(from_site), judges, dry_run=dry_run)
        if not dry_run:
            if not i_accept_lost_writes:
                raise _consent_wanted(call, document_of(plan))
            plan = recover(repository, plan, call.emit, judges)
        document = document_of(plan)
    call.show(document, recovery_view(document))


def _arbiter(call: "Call", word: str) -> "TargetSpec":
    """Return the target of an arbiter given as NAME=URL."""
    from drtool.model import TargetName
    from drtool.repository import TargetSpec

    name, equals, url = word.partition("=")
    if not equals:
        raise UsageError(f"--arbiter {word!r} has no URL", hint="write --arbiter judge=/mnt/usb/drtool")
    place, access = place_at(url, call.settings.directory)
    return TargetSpec(name=TargetName(f"{check_name(name, 'site')}/main"), url=place, access=access, vote="only")


def _consent_wanted(call: "Call", document: Document) -> Refused:
    """Return the refusal that shows what would be lost, before anything happens."""
    return Refused(
        f"this would give up for ever the changes known only to {', '.join(document['given_up']) or 'no other site'}: "
        f"{_kept(document)}, and {_known_to_be_lost(document)}. If those sites are alive, changes made there from "
        "now on are lost as well",
        hint=f"if they are gone for ever: {call.rerun} --i-accept-lost-writes",
    )


def _kept(document: Document) -> str:
    names = ", ".join(f"{site} has change {sequence}" for site, sequence in document["sequences"].items())
    copies = [f"{row['site']}'s of {local(row['time'])}" for row in document["copies"]]
    read = f"; read from copies of the catalogue, which may lag: {', '.join(copies)}" if copies else ""
    return f"change {document['sequence']} is kept ({names}), with {count(document['snapshots'], 'snapshot')}{read}"


def _known_to_be_lost(document: Document) -> str:
    confirmed, lost = document["confirmed_by_this_host"], document["lost_changes"]
    if lost:
        return f"this host saw change {confirmed} confirmed, so {count(lost, 'change')} would be lost"
    if confirmed:
        return f"this host saw nothing later than change {confirmed} confirmed, but other hosts may have"
    return "this host never saw a confirmed change, so the loss is unknown"


def recovery_view(document: Document) -> View:
    dry = document["dry_run"]
    parts = [
        line(
            Cell("would recover " if dry else "recovered ", "warn" if dry else "good"),
            f"from {', '.join(document['survivors'])}: generation {document['generation']}, change {document['sequence']}, "
            f"{count(document['snapshots'], 'snapshot')}",
        ),
        line(
            Cell("given up: ", "bad"),
            f"changes known only to {', '.join(document['given_up']) or 'no site'}; {_known_to_be_lost(document)}",
        ),
    ]
    begun = [f"{site} ({target})" for site, target in document["voters"].items() if target is not None]
    if begun:
        parts.append(
            line(
                f"{'would vote' if dry else 'votes'}: {', '.join(document['voters'])}; ",
                Cell(f"created at {', '.join(begun)}", "strong"),
                "; add the new targets to the configuration of each host (`drtool connect URL` writes a complete one)",
            )
        )
    if document["brought_back"]:
        parts.append(
            line(
                f"{count(document['brought_back'], 'snapshot')} of this host restored to the catalogue from its "
                "own journal"
            )
        )
    if document["advice"]:
        parts.append(line(Cell(document["advice"], "warn")))
    parts.append(
        line(
            "next: `drtool site replace OLD NEW=URL` replaces a lost site, and `drtool site add NEW` gives a "
            "site a vote"
        )
    )
    return view(*parts)
