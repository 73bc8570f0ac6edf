"""`status` and `verify`: is everything there, and is it whole?"""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from drtool.cli.look import SHORT_ID, chosen_snapshot
from drtool.cli.options import Hosts, ManifestFrom, Sources, Tags, narrowing, sites
from drtool.cli.parser import refuse
from drtool.cli.text import Document, count, document_of, duration, local, size
from drtool.cli.view import Cell, Line, Style, Table, View, line, table, view
from drtool.errors import worst_exit

if TYPE_CHECKING:
    from drtool.cli.call import Call

_SHOWN = 20


def status(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """Show on one screen how the repository is: sites, quorum, copies, the newest snapshots.

    Exit 7 when an objective is missed, copies included; 6 when there is no quorum.

    Examples:
        drtool status
        drtool -q status || mail -s 'backup trouble' root
    """
    from drtool.operations.status import status as run_status

    call: Call = context.obj
    repository, uncertain = call.open_anyhow(sites(manifest_from))
    with repository:
        document = document_of(run_status(repository, call.emit))
    call.show(document, status_view(document), exit_code=6 if uncertain else status_exit(document))


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
    if level in ("sample", "restore"):
        refuse(f"verify --level {level}")

    from drtool.operations.verify import VerifyRequest
    from drtool.operations.verify import verify as run_verify

    call: Call = context.obj
    with call.open_repository(sites(manifest_from)) as repository:
        chosen = chosen_snapshot(call, repository, snapshot, narrowing(host, tag, source)) if snapshot else None
        request = VerifyRequest(level=level, site=site, snapshot=chosen)
        document = document_of(run_verify(repository, request, call.emit))
    call.show(document, verify_view(document), exit_code=verify_exit(document))


def status_exit(document: Document) -> int:
    missed = any(row.get("met") is False for row in document["sources"])
    return 7 if missed or not document["healthy"] else 0


def verify_exit(document: Document) -> int:
    """4 for what is missing or damaged where it was looked for; 5 when an absent target leaves too few copies."""
    codes = [4] if document["missing"] or document["damaged"] or document["unrepairable"] else []
    codes += [5] if document.get("degraded") else []
    return worst_exit(0, *codes)


def verify_view(document: Document) -> View:
    checked = document["checked"]
    bad = len(document["missing"]) + len(document["damaged"])
    what = f"{count(checked['packs'], 'pack')}, {size(checked['bytes'])}"
    head = f"{what}, {document['level']}, {duration(document['wall_seconds'])}"
    verdict = (
        Cell(f"{count(bad, 'object')} missing or damaged", "bad")
        if bad
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
    hidden = sum(max(0, len(document[key]) - _SHOWN) for key in ("missing", "damaged", "affected"))
    parts += [line(Cell(f"  … and {hidden} more (--json lists every one)", "dim"))] if hidden else []
    return view(*parts)


def status_view(document: Document) -> View:
    healthy = Cell("healthy", "good") if document["healthy"] else Cell("needs attention", "bad")
    parts: list[Line] = [line(Cell("repository ", "dim"), healthy)]
    quorum = document["quorum"]
    if isinstance(quorum, dict):
        enough = quorum["reachable"] >= quorum["needed"]
        text = f"{quorum['reachable']} of the {quorum['needed']} needed"
        parts.append(line(Cell("quorum     ", "dim"), Cell(text, "good" if enough else "bad")))
    sources = [_source_row(row) for row in document["sources"]]
    table_of_sources: list[Line | Table] = []
    if sources:
        table_of_sources = [line(""), table("SOURCE NEWEST AGE> COPIES> VERIFIED", sources)]
    problems = [line(Cell("! ", "bad"), _problem(problem)) for problem in document["problems"]]
    return view(
        *parts, line(""), _sites_table(document), *table_of_sources, *([line("")] if problems else []), *problems
    )


def _sites_table(document: Document) -> Table:
    rows = []
    for site in document["sites"]:
        name = site["name"] if isinstance(site, dict) else str(site)
        reachable = site.get("reachable", True) if isinstance(site, dict) else True
        rows.append((Cell(name, "strong"), Cell("online", "good") if reachable else Cell("offline", "bad")))
    return table("SITE STATE", rows)


def _source_row(row: Document) -> tuple[Cell | str, ...]:
    newest = row["newest_snapshot"]
    taken = newest if isinstance(newest, str) else "-"
    age = duration(row["age_seconds"]) if row["age_seconds"] is not None else "never"
    style: Style = "bad" if row["met"] is False else ""
    verified = local(row["last_verified"]) if row["last_verified"] else "never"
    return row["name"] or "-", taken[:SHORT_ID], Cell(age, style), str(row["copies"]), Cell(verified, "dim")


def _problem(problem: object) -> str:
    return str(problem.get("message", problem)) if isinstance(problem, dict) else str(problem)
