"""`manifest status`, `log` and `check`: the replicated catalogue itself."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.options import ManifestFrom, sites
from drtool.cli.text import Document, count, document_of, local
from drtool.cli.view import Cell, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.call import Call

SHORT_DIGEST = 12


def manifest_status(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """Show what every voter says of itself, and whether a quorum agrees.

    Works without a quorum too; the exit code then says so.

    Examples:
        drtool manifest status
        drtool manifest status --json | jq .quorum
    """
    call: Call = context.obj
    with call.open_anyhow(sites(manifest_from)) as repository:
        document = document_of(repository.manifest.status())
    call.show(document, status_view(document), exit_code=6 if repository.uncertain else 0)


def manifest_log(
    context: typer.Context,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the newest N.")] = None,
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
    """Check every voter's records, every page and digest; list what does not fit.

    Examples:
        drtool manifest check
    """
    call: Call = context.obj
    with call.open_anyhow(sites(manifest_from)) as repository:
        document = document_of({"problems": repository.manifest.check()})
    damaged = any(problem["kind"] not in ("unreachable", "no-quorum") for problem in document["problems"])
    call.show(document, check_view(document), exit_code=6 if repository.uncertain else 4 if damaged else 0)


def status_view(document: Document) -> View:
    quorum = document["quorum"]
    enough = quorum["reachable"] >= quorum["needed"]
    rows = [
        (
            Cell(row["site"], "strong"),
            Cell("yes", "good") if row["reachable"] else Cell("no", "bad"),
            row["promised"] or "-",
            row["accepted"] or "-",
            "-" if row["lag"] is None else str(row["lag"]),
            Cell(row["problem"] or "", "warn"),
        )
        for row in document["acceptors"]
    ]
    return view(
        line(
            Cell(f"change {document['sequence']}", "strong"),
            f" of generation {document['generation']}, digest {document['digest'][:SHORT_DIGEST]}; ",
            Cell(
                f"{count(quorum['reachable'], 'voter')} reachable, {quorum['needed']} needed",
                "good" if enough else "bad",
            ),
        ),
        table("SITE REACHABLE PROMISED ACCEPTED LAG> PROBLEM", rows),
    )


def log_view(document: Document) -> View:
    rows = [
        (Cell(str(row["sequence"]), "strong"), local(row["time"]), row["host"], row["kind"], row["summary"])
        for row in document["entries"]
    ]
    return view(table("CHANGE> TIME HOST KIND SUMMARY", rows))


def check_view(document: Document) -> View:
    problems = document["problems"]
    if not problems:
        return view(line(Cell("the manifest is sound at every site", "good")))
    rows = [(row["site"] or "all", Cell(row["kind"], "warn"), row["message"]) for row in problems]
    return view(table("SITE KIND PROBLEM", rows), line(Cell(count(len(problems), "problem"), "bad")))
