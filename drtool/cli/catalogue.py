"""`manifest status`, `log`, `check`, `compact` and `recover`: the replicated catalogue."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.options import DryRun, ManifestFrom, sites
from drtool.cli.text import Document, count, document_of, local
from drtool.cli.view import Cell, View, line, table, view
from drtool.config.schema import check_name, place_at
from drtool.errors import Refused, UsageError

if TYPE_CHECKING:
    from drtool.cli.call import Call
    from drtool.repository import TargetSpec

SHORT_DIGEST = 12


def manifest_status(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """Show each voter's state, and whether a quorum agrees.

    It also works without a quorum; the exit code is then 6.

    Examples:
        drtool manifest status
        drtool manifest status --json | jq .quorum
    """
    call: Call = context.obj
    from drtool.operations.catalogue import status

    with call.open_anyhow(sites(manifest_from)) as repository:
        document = document_of(status(repository))
    code = repository.uncertain.exit_code if repository.uncertain else quorum_exit(document)
    call.show(document, status_view(document), exit_code=code)


def quorum_exit(document: Document) -> int:
    """Return 6 if too few voters answered, even when the reader asked only for what some sites have."""
    quorum = document["quorum"]
    return 6 if quorum["reachable"] < quorum["needed"] else 0


def manifest_log(
    context: typer.Context,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Show only the newest N changes.")] = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """List the changes of the catalogue, newest first.

    Examples:
        drtool manifest log --limit 20
        drtool manifest log --manifest-from any
    """
    call: Call = context.obj
    with call.open_repository(sites(manifest_from)) as repository:
        entries = repository.manifest.log(repository.view, limit)
    document = document_of({"entries": entries})
    call.show(document, log_view(document))


def manifest_check(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """Check every voter's records, pages and digests, and list each mismatch.

    Examples:
        drtool manifest check
    """
    call: Call = context.obj
    from drtool.operations.catalogue import check

    with call.open_anyhow(sites(manifest_from)) as repository:
        document = document_of(check(repository))
    damaged = any(problem["kind"] not in ("unreachable", "no-quorum") for problem in document["problems"])
    code = repository.uncertain.exit_code if repository.uncertain else 4 if damaged else 0
    call.show(document, check_view(document), exit_code=code)


def manifest_compact(context: typer.Context, dry_run: DryRun = False) -> None:
    """Delete data that the catalogue no longer needs: old records, replaced pages, ended registers.

    Backups delete old records as they run. This command removes what an interrupted run or an unreachable site left
    behind.

    Examples:
        drtool manifest compact --dry-run
    """
    from drtool.operations.catalogue import compact

    call: Call = context.obj
    with call.open_repository() as repository:
        document = document_of(compact(repository, dry_run=dry_run))
    document["dry_run"] = dry_run
    call.show(document, compact_view(document))


def manifest_recover(
    context: typer.Context,
    from_site: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="SITE", help="Recover from this remaining site; name all of them."),
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
    """Continue from the remaining sites after a majority is lost for ever.

    Changes that only the lost sites have are given up. Make sure that the lost sites are gone. If they are alive and
    another host still reaches them, the changes that it makes there are lost too. Sites that come back join with
    `site add` or `site replace`. Reading needs no recovery: use --manifest-from SITE.

    Sites that do not vote have a copy of the catalogue, which may lag. The plan shows its time. If none of the
    remaining sites can vote, --arbiter names a place that can.

    Examples:
        drtool manifest recover --from attic --dry-run
        drtool manifest recover --from attic --from garage --i-accept-lost-writes
        drtool manifest recover --from bucket --arbiter judge=/mnt/usb/drtool --i-accept-lost-writes
    """
    from drtool.operations.catalogue import plan_recovery, recover

    call: Call = context.obj
    with call.open_anyhow() as repository:
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
        "this would give up for ever the changes that only "
        f"{', '.join(document['given_up']) or 'no other site'} has: {_kept(document)}; "
        f"{_known_to_be_lost(document)}. If those sites are alive, changes made there from now on are "
        "lost as well",
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


def status_view(document: Document) -> View:
    quorum = document["quorum"]
    enough = quorum["reachable"] >= quorum["needed"]
    rows = [
        (
            Cell(row["site"], "strong"),
            Cell("yes", "good") if row["reachable"] else Cell("no", "bad"),
            row["phase"] or "-",
            row["promised"] or "-",
            row["accepted"] or "-",
            "-" if row["lag"] is None else str(row["lag"]),
            Cell(row["problem"] or "", "warn"),
        )
        for row in document["acceptors"]
    ]
    recovery = f" (recovery {document['recovery'][:SHORT_DIGEST]})" if document["recovery"] else ""
    problem = [line(Cell(document["problem"], "bad"))] if document["problem"] else []
    return view(
        line(
            Cell(f"change {document['sequence']}", "strong"),
            f" of generation {document['generation']}{recovery}, configuration {document['config']}, "
            f"digest {document['digest'][:SHORT_DIGEST]}; ",
            Cell(
                f"{count(quorum['reachable'], 'voter')} reachable, {quorum['needed']} needed",
                "good" if enough else "bad",
            ),
        ),
        table("SITE REACHABLE PHASE PROMISED ACCEPTED LAG> PROBLEM", rows),
        *problem,
    )


def log_view(document: Document) -> View:
    rows = [
        (Cell(str(row["sequence"]), "strong"), local(row["time"]), row["host"], row["kind"], row["summary"])
        for row in document["entries"]
    ]
    return view(table("CHANGE> TIME HOST KIND SUMMARY", rows))


def check_view(document: Document) -> View:
    problems = document["problems"]
    where = f"generation {document['generation']}, configuration {document['config']}, change {document['sequence']}"
    if not problems:
        return view(line(Cell("the catalogue is sound", "good"), f" at {', '.join(document['sites'])}: {where}"))
    rows = [(row["site"] or "all", Cell(row["kind"], "warn"), row["message"]) for row in problems]
    return view(
        table("SITE KIND PROBLEM", rows),
        line(
            Cell(count(len(problems), "problem"), "bad"),
            f"; checked at {', '.join(document['sites']) or 'no site'}: {where}",
        ),
    )


def compact_view(document: Document) -> View:
    rows = [
        (Cell(site, "strong"), f"{objects:,}", f"{document['records'][site]:,}")
        for site, objects in document["objects"].items()
    ]
    done = Cell("would delete", "warn") if document["dry_run"] else Cell("deleted", "good")
    return view(line(done, " data that the catalogue no longer needs:"), table("SITE PAGES> RECORDS>", rows))


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
            f"changes that only {', '.join(document['given_up']) or 'no site'} had; {_known_to_be_lost(document)}",
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
