"""`target list|add|set|drain|remove` and `ring show`: manage targets and show the ring."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.options import DryRun, ManifestFrom, sites
from drtool.cli.rebalancing import target_name, whole_weight
from drtool.cli.stale_config import tell_stale
from drtool.cli.text import Document, count, document_of, size
from drtool.cli.view import Cell, View, line, table, view
from drtool.config.schema import place_at
from drtool.config.urls import NO_ACCESS
from drtool.errors import UsageError

if TYPE_CHECKING:
    from drtool.cli.call import Call
    from drtool.operations.placing import TargetChange
    from drtool.repository import Repository

TargetArgument = Annotated[str, typer.Argument(metavar="SITE/NAME", help="A target; SITE alone means SITE/main.")]


def target_list(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """List the targets with state, contents and share.

    Examples:
        drtool target list
        drtool target list --json | jq '.targets[] | select(.reachable | not)'
    """
    from drtool.operations.targets import targets

    call: Call = context.obj
    with call.open_repository(sites(manifest_from)) as repository:
        document = document_of(targets(repository))
    call.show(document, targets_view(document))


def ring_show(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """Show the ring: number of copies, weights, and each target's share of the packs.

    Examples:
        drtool ring show
    """
    from drtool.operations.targets import ring

    call: Call = context.obj
    with call.open_repository(sites(manifest_from)) as repository:
        document = document_of(ring(repository))
    call.show(document, ring_view(document))


def target_add(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="SITE[/NAME]", help="Name the new target; NAME is main by default.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Use this empty or new directory, or another empty place.")],
    weight: Annotated[
        str | None,
        typer.Option(
            "--weight", metavar="N", help="Set its share of the copies, relative to the other targets' weights."
        ),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Add a target. New backups use it at once; `rebalance` moves existing packs to it.

    A new site stores data but does not vote until `site add`. The configuration is not edited. The command prints the
    line to add, which other hosts need too.

    Examples:
        drtool target add oslo /mnt/oslo/drtool && drtool rebalance
        drtool target add paris/nas2 file:///mnt/nas2/drtool --weight 4
    """
    from drtool.operations.placing import add_target
    from drtool.repository import TargetSpec

    call: Call = context.obj
    place, access = place_at(url, call.settings.directory)
    spec = TargetSpec(name=target_name(target), url=place, access=access)
    wanted = None if weight is None else whole_weight(weight, "--weight")
    _change(call, lambda repository: add_target(repository, spec, wanted, dry_run=dry_run, emit=call.emit))


def target_set(
    context: typer.Context,
    target: TargetArgument,
    weight: Annotated[
        str | None, typer.Option("--weight", metavar="N", help="Set its share of the copies from now on.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", metavar="URL", help="Record this new place of the target, if its directory was moved as it is."
        ),
    ] = None,
    gone: Annotated[
        bool,
        typer.Option("--gone", help="With --url, give up the copy at the old address even though it still answers."),
    ] = False,
    active: Annotated[bool, typer.Option("--active", help="Use it again; this ends a drain.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Change a target's weight or address, or use it again after a drain.

    A target that was moved is used at the place that the configuration names; --url records the place for other
    hosts. If the directory was copied and both copies answer, every command refuses (exit 11) until one copy is moved
    away or given up with --gone.

    Examples:
        drtool target set paris/nas --weight 8 && drtool rebalance
        drtool target set paris/nas --url /mnt/new-mount-point/drtool
        drtool target set paris/nas --url /mnt/new-disk/drtool --gone
        drtool target set paris/nas --active
    """
    from drtool.operations.placing import set_target

    call: Call = context.obj
    if weight is None and url is None and not active:
        raise UsageError("nothing to change", hint="give --weight N, --url URL or --active")
    if gone and url is None:
        raise UsageError(
            "--gone gives up an old address, so it needs a new one", hint="give the new address with --url URL"
        )
    name = target_name(target)
    number = None if weight is None else whole_weight(weight, "--weight")
    place, access = (None, NO_ACCESS) if url is None else place_at(url, call.settings.directory)
    _change(
        call,
        lambda repository: set_target(
            repository,
            name,
            weight=number,
            url=place,
            access=access,
            gone=gone,
            active=active,
            dry_run=dry_run,
            emit=call.emit,
        ),
        declares=place is not None,
    )


def target_drain(context: typer.Context, target: TargetArgument, dry_run: DryRun = False) -> None:
    """Store no new data on a target, so that `rebalance` can empty it. Its data stays readable.

    The command refuses if the remaining sites could not hold all copies.

    Examples:
        drtool target drain paris/nas && drtool rebalance && drtool target remove paris/nas
    """
    from drtool.operations.placing import drain_target

    call: Call = context.obj
    name = target_name(target)
    _change(call, lambda repository: drain_target(repository, name, dry_run=dry_run, emit=call.emit))


def target_remove(
    context: typer.Context,
    target: TargetArgument,
    gone: Annotated[
        bool, typer.Option("--gone", help="Remove it even though it is unreachable and will not come back.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Remove a target from the repository. Its stored objects are left in place.

    The command refuses while the target has the only good copy of anything, holds the register of a voting site, or
    may still receive data from an open session. Exit 5 if some data has fewer copies than configured without it.

    Examples:
        drtool target drain paris/nas && drtool rebalance && drtool target remove paris/nas
        drtool target remove paris/burnt --gone && drtool repair
    """
    from drtool.operations.placing import remove_target

    call: Call = context.obj
    name = target_name(target)
    _change(
        call,
        lambda repository: remove_target(repository, name, gone_for_good=gone, dry_run=dry_run, emit=call.emit),
    )


def _change(call: "Call", carry_out: "Callable[[Repository], TargetChange]", *, declares: bool = False) -> None:
    with call.open_repository(declares=declares) as repository:
        document = document_of(carry_out(repository))
        done = document["changed"] and not document["dry_run"]
        document["configuration"] = tell_stale(call, repository) if done else None
    call.show(document, change_view(document), exit_code=5 if document["below_copies"] else 0)


def change_view(document: Document) -> View:
    if not document["changed"]:
        parts = [line(f"nothing to do: {_described(document)}")]
    else:
        dry, verb = document["dry_run"], document["verb"]
        done = Cell(f"would {verb} " if dry else f"{_DONE[verb]} ", "warn" if dry else "good")
        parts = [line(done, _described(document)), line(Cell(f"ring epoch {document['to_epoch']}", "dim"))]
    if document["holds"] is not None and document["holds"]["objects"]:
        held = document["holds"]
        parts.append(line(f"it holds copies of {count(held['objects'], 'object')}, {size(held['bytes'])}"))
    if document["below_copies"]:
        parts.append(
            line(
                Cell(
                    f"without it, {count(document['below_copies'], 'object')} have fewer copies than configured", "warn"
                )
            )
        )
    return view(*parts, *(line(Cell(words, "dim")) for words in document["advice"]))


_DONE = {"add": "added", "set": "set", "drain": "draining:", "remove": "removed"}


def _described(document: Document) -> str:
    state = "" if document["state"] in ("active", "removed") else f", {document['state']}"
    return f"{document['target']} at {document['url']}, weight {document['weight']}{state}"


def targets_view(document: Document) -> View:
    rows = [
        (
            Cell(row["name"], "strong"),
            _state(row),
            str(row["weight"]),
            "-" if row["objects"] is None else f"{row['objects']:,}",
            "-" if row["bytes"] is None else size(row["bytes"]),
            _percent(row["share"]),
            _percent(row["expected_share"]),
            row["url"],
        )
        for row in document["targets"]
    ]
    problems = [line(Cell(f"{row['name']}: ", "warn"), row["problem"]) for row in document["targets"] if row["problem"]]
    return view(table("TARGET STATE WEIGHT> OBJECTS> BYTES> SHARE> EXPECTED> URL", rows), *problems)


def ring_view(document: Document) -> View:
    rows = [
        (
            Cell(row["name"], "strong"),
            row["state"],
            str(row["weight"]),
            _percent(row["share"]),
            _percent(row["expected_share"]),
        )
        for row in document["targets"]
    ]
    head = line(
        Cell(f"ring epoch {document['epoch']}", "strong"),
        f", {count(document['copies'], 'copy', 'copies')} of every pack",
    )
    return view(head, table("TARGET STATE WEIGHT> SHARE> EXPECTED>", rows))


def _state(row: Document) -> Cell:
    if not row["reachable"]:
        return Cell("offline", "bad")
    return Cell(row["state"], "good" if row["state"] == "active" else "warn")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"
