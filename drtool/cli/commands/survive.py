"""`survive`: show which snapshots survive the loss of sites."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.options import ManifestFrom, sites
from drtool.cli.core.selection import SHORT_ID
from drtool.cli.core.text import Document, count, document_of, local
from drtool.cli.core.view import Cell, Line, Table, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call

_SHOWN = 20


def survive(
    context: typer.Context,
    lose: Annotated[
        list[str] | None,
        typer.Option(
            "--lose", metavar="SITE|SITE/TARGET", help="Assume that this site or target is lost (repeatable)."
        ),
    ] = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """Show what could be restored if sites were lost.

    Without options, each site and each pair of sites is tried. The answer uses the current listing of every target
    and the damage that `verify` found. A target that cannot be read counts as lost. Nothing is changed.

    Exit 4 if something cannot be restored now. Exit 7 if losing fewer sites than there are configured copies would
    cost a snapshot.

    Examples:
        drtool survive
        drtool survive --lose paris --lose oslo/nas
    """
    from drtool.operations.survive import SurviveRequest
    from drtool.operations.survive import survive as run_survive
    from drtool.operations.survive.run import exit_code

    call: Call = context.obj
    with call.open_for_reading(sites(manifest_from)) as repository:
        result = run_survive(repository, SurviveRequest(lose=tuple(lose or ())), call.emit)
    document = document_of(result)
    call.show(document, survive_view(document), exit_code=exit_code(result))


def survive_view(document: Document) -> View:
    parts: list[Line | Table] = [line(Cell("away ", "warn"), f"{r['target']}: {r['reason']}") for r in document["away"]]
    total = document["summary"]["total"]
    if document["lost"] or document["summary"]["restorable"] < total or not document["scenarios"]:
        parts += _one(document)
    if document["scenarios"]:
        parts.append(table("LOST RESTORABLE> NEWEST CATALOGUE", [_row(row) for row in document["scenarios"]]))
        reasons = [(row["lost"], reason) for row in document["scenarios"] for reason in row["reasons"]]
        parts += [line(Cell(f"{' + '.join(lost)}: ", "dim"), reason) for lost, reason in reasons]
        short = [
            row
            for row in document["scenarios"]
            if row["promised"] and row["summary"]["restorable"] < document["summary"]["restorable"]
        ]
        if short:
            parts.append(
                line(Cell("losing fewer sites than the configured copies would cost snapshots: drtool repair", "bad"))
            )
    return view(*parts)


def _one(document: Document) -> list[Line]:
    summary = document["summary"]
    whole = summary["restorable"] == summary["total"]
    what = f"without {' + '.join(document['lost'])}" if document["lost"] else "now"
    parts = [
        line(
            Cell(f"{summary['restorable']} of {count(summary['total'], 'snapshot')}", "good" if whole else "bad"),
            f" restorable {what}; {_catalogue(document)}",
        )
    ]
    parts += [line(Cell("  because ", "warn"), reason) for reason in document["reasons"]]
    gone = [row for row in document["snapshots"] if not row["restorable"]]
    for row in gone[:_SHOWN]:
        told = f"{row['id'][:SHORT_ID]} {row['host']} {row['source']} {local(row['time'])}"
        parts.append(line(Cell("  lost ", "bad"), f"{told}: no copy of {count(row['missing_packs'], 'pack')}"))
    hidden = len(gone) - _SHOWN
    parts += [line(Cell(f"  … and {hidden} more (--json lists every one)", "dim"))] if hidden > 0 else []
    return parts


def _row(row: Document) -> list[Cell | str]:
    summary = row["summary"]
    whole = summary["restorable"] == summary["total"]
    newest = row["newest_restorable"]
    return [
        Cell(" + ".join(row["lost"]), "strong"),
        Cell(f"{summary['restorable']} of {summary['total']}", "good" if whole else "bad"),
        local(newest) if newest else "-",
        _catalogue(row),
    ]


def _catalogue(row: Document) -> str:
    """Return the state of the catalogue."""
    quorum, copies = row["quorum"], row["catalogue_copies"]
    if not quorum["reachable"]:
        return f"read-only (no voter; copies: {copies})" if copies else "catalogue lost"
    if quorum["reachable"] < quorum["needed"]:
        return f"read-only ({quorum['reachable']} of {quorum['needed']} voters)"
    return f"writable ({quorum['reachable']} voters, {quorum['needed']} needed)"
