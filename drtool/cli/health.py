"""`status` and `verify`: is everything there, and is it whole?"""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from drtool.cli.look import SHORT_ID, chosen_snapshot
from drtool.cli.options import Hosts, ManifestFrom, Sources, Tags, narrowing, sites
from drtool.cli.parser import refuse
from drtool.cli.text import Document, count, document_of, duration, local, size
from drtool.cli.view import Cell, Line, Table, View, line, table, view
from drtool.errors import worst_exit

if TYPE_CHECKING:
    from drtool.cli.call import Call

_SHOWN = 20


def status(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """Show on one screen how the repository is: sites, quorum, copies, the newest snapshots.

    Exit 7 when an objective is missed, copies included; 6 when there is no quorum.

    Examples:
        drtool status
        drtool -q status > trouble.txt || mail -s 'backup trouble' root < trouble.txt
    """
    from drtool.operations.status import status as run_status

    call: Call = context.obj
    with call.open_anyhow(sites(manifest_from)) as repository:
        document = document_of(run_status(repository, call.emit))
        promised = repository.view.state.policy.copies
    code = repository.uncertain.exit_code if repository.uncertain else status_exit(document, promised)
    call.show(document, status_view(document, promised), exit_code=code)


def verify(
    context: typer.Context,
    level: Annotated[
        Literal["structure", "sample", "full", "restore"],
        typer.Option(help="structure: every object is there with its size; full: read, hash and decrypt all."),
    ] = "structure",
    snapshot: Annotated[str | None, typer.Option(metavar="SNAPSHOT", help="Only what this one needs.")] = None,
    site: Annotated[str | None, typer.Option(metavar="SITE", help="Only this site's copies.")] = None,
    host: Hosts = None,
    tag: Tags = None,
    source: Sources = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """Check that what should be stored is stored, and is whole.

    Examples:
        drtool verify
        drtool verify --level full --site paris
        drtool verify --level full --snapshot latest --source home
    """
    if level == "sample" or level == "restore":  # noqa: PLR1714 - mypy narrows by comparisons only
        refuse(f"verify --level {level}")

    from drtool.operations.verify import VerifyRequest
    from drtool.operations.verify import verify as run_verify

    call: Call = context.obj
    with call.open_repository(sites(manifest_from)) as repository:
        chosen = chosen_snapshot(call, repository, snapshot, narrowing(host, tag, source)) if snapshot else None
        request = VerifyRequest(level=level, site=site, snapshot=chosen, workers=call.settings.workers)
        document = document_of(run_verify(repository, request, call.emit))
    call.show(document, verify_view(document), exit_code=verify_exit(document))


def status_exit(document: Document, promised: int) -> int:
    """6 without a quorum, else 7 for an objective that is missed; the promised copies are one."""
    if document["quorum"]["reachable"] < document["quorum"]["needed"]:
        return 6
    missed = any(row["met"] is False or _too_few(row, promised) for row in document["sources"])
    return 7 if missed else 0


def _too_few(row: Document, promised: int) -> bool:
    return row["copies"] is not None and row["copies"] < promised


def verify_exit(document: Document) -> int:
    """4 for what is missing or damaged where it was looked for; 5 when an absent target leaves too few copies."""
    codes = [4] if document["missing"] or document["damaged"] or document["unrepairable"] else []
    codes += [5] if document["degraded"] else []
    return worst_exit(0, *codes)


def verify_view(document: Document) -> View:
    checked = document["checked"]
    bad = len(document["missing"]) + len(document["damaged"])
    what = f"{count(checked['packs'], 'pack')}, {size(checked['bytes'])}"
    head = f"{what}, {document['level']}, {duration(document['wall_seconds'])}"
    blind = bool(document["offline"]) and checked["packs"] > 0 and checked["bytes"] == 0
    verdict = (
        Cell(f"{count(bad, 'object')} missing or damaged", "bad")
        if bad
        else Cell("nothing could be looked at", "bad")
        if blind
        else Cell("nothing missing, nothing damaged", "good")
    )
    parts = [line(verdict, f": {head}")]
    parts += [
        line(Cell("  missing ", "bad"), f"{row['target']}: {row['object']}") for row in document["missing"][:_SHOWN]
    ]
    parts += [
        line(Cell("  damaged ", "bad"), f"{row['target']}: {row['object']} ({row['reason']})")
        for row in document["damaged"][:_SHOWN]
    ]
    parts += [
        line(Cell("  lost ", "bad"), f"{row['snapshot'][:SHORT_ID]}: {row['path']}")
        for row in document["affected"][:_SHOWN]
    ]
    parts += [line(Cell("  offline ", "warn"), f"{row['target']}: {row['reason']}") for row in document["offline"]]
    parts += (
        [line(f"  {_objects(document['misplaced'])} not where the ring wants every copy")]
        if document["misplaced"]
        else []
    )
    parts += (
        [line(f"  {_objects(document['owed'])} owed to sites that should hold them too")] if document["owed"] else []
    )
    few = "  too few copies; `drtool repair` completes them"
    parts += [line(Cell(few, "warn"))] if document["degraded"] else []
    hidden = sum(max(0, len(document[key]) - _SHOWN) for key in ("missing", "damaged", "affected"))
    parts += [line(Cell(f"  … and {hidden} more (--json lists every one)", "dim"))] if hidden else []
    return view(*parts)


def _objects(number: int) -> str:
    return count(number, "object")


def status_view(document: Document, promised: int) -> View:
    healthy = Cell("healthy", "good") if document["healthy"] else Cell("needs attention", "bad")
    parts: list[Line] = [line(Cell("repository ", "dim"), healthy)]
    quorum = document["quorum"]
    enough = quorum["reachable"] >= quorum["needed"]
    text = f"{count(quorum['reachable'], 'voter')} reachable, {quorum['needed']} needed"
    parts.append(line(Cell("quorum     ", "dim"), Cell(text, "good" if enough else "bad")))
    parts.append(line(Cell("catalogue  ", "dim"), f"change {document['sequence']}"))
    sources = [_source_row(row, promised) for row in document["sources"]]
    table_of_sources: list[Line | Table] = []
    if sources:
        table_of_sources = [line(""), table("SOURCE HOST NEWEST AGE> COPIES> VERIFIED", sources)]
    problems = [line(Cell("! ", "bad"), problem) for problem in document["problems"]]
    return view(
        *parts, line(""), _sites_table(document), *table_of_sources, *([line("")] if problems else []), *problems
    )


def _sites_table(document: Document) -> Table:
    rows: list[tuple[Cell | str, ...]] = []
    for site in document["sites"]:
        for target in site["targets"]:
            free = "-" if target["free_bytes"] is None else size(target["free_bytes"])
            votes = "no" if not site["votes"] else "only" if target["state"] == "arbiter" else "yes"
            head = (Cell(target["name"], "strong"), _standing(target), votes)
            rows.append((*head, f"{target['objects']:,}", size(target["bytes"]), free))
    return table("TARGET STATE VOTES OBJECTS> HOLDS> FREE>", rows)


def _standing(target: Document) -> Cell:
    if target["state"] == "lost":
        return Cell("lost", "bad")
    return Cell("online", "good") if target["reachable"] else Cell("offline", "bad")


def _source_row(row: Document, promised: int) -> tuple[Cell | str, ...]:
    copies = "-" if row["copies"] is None else str(row["copies"])
    verified = local(row["last_verified"]) if row.get("last_verified") else "never"
    return (
        Cell(row["name"] or "-", "strong"),
        row["host"],
        row["newest_snapshot"][:SHORT_ID],
        Cell(duration(row["age_seconds"]), "bad" if row["met"] is False else ""),
        Cell(copies, "bad" if _too_few(row, promised) else ""),
        Cell(verified, "dim"),
    )
