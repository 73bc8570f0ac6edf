"""`plan history`, `plan report`: what was run, and what it proves."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from drtool.cli.options import ManifestFrom, sites
from drtool.cli.text import Document, count, duration, local
from drtool.cli.view import Cell, Line, Style, Table, View, line, table, view
from drtool.errors import DrtoolError
from drtool.events import Warned

if TYPE_CHECKING:
    from drtool.cli.call import Call
    from drtool.manifest.records import RecordedRun
    from drtool.plans.evidence.history import HistoryRow

_STYLES: dict[str, Style] = {
    "passed": "good",
    "unproven": "warn",
    "missed": "warn",
    "at work": "dim",
    "unfinished": "warn",
}


def plan_history(
    context: typer.Context,
    plan: Annotated[str | None, typer.Argument(metavar="[PLAN]", help="Only the runs of this plan.")] = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """List the runs of plans: of every host from the catalogue, and of this host from its journals.

    A run of this host that could not be recorded when it ended is recorded now. Where a journal is not the one that was recorded,
    the row says so. Without any site this host's own runs are listed all the same.

    Examples:
        drtool plan history
        drtool plan history game-day --json
    """
    from drtool.cli.plan_recording import known_runs, record_owed

    call: Call = context.obj
    if manifest_from is None:
        record_owed(call)
    rows = [row for row in known_runs(call, _recorded(call, manifest_from)) if plan is None or row.plan == plan]
    document = {"runs": [_row(row) for row in rows]}
    call.show(document, _history_view(document))


def _recorded(call: "Call", manifest_from: list[str] | None) -> "tuple[RecordedRun, ...]":
    """The catalogue's; a repository that cannot be opened is told of, and keeps nobody from what is here."""
    try:
        with call.open_anyhow(sites(manifest_from)) as repository:
            return repository.view.state.runs
    except DrtoolError as error:
        call.emit(Warned(message=f"only this host's runs are listed: {error.message}"))
        return ()


def _row(row: "HistoryRow") -> Document:
    from drtool.plans.language.values import Moment

    return {
        "run_id": row.run_id,
        "plan": row.plan,
        "host": row.host,
        "user": row.user,
        "began": str(Moment(row.began_ns)),
        "seconds": row.seconds,
        "human_seconds": row.human_seconds,
        "verdict": row.verdict,
        "exit_code": row.exit_code,
        "objectives": {
            name: {"target": row.targets.get(name), "measured": value} for name, value in row.measured.items()
        },
        "recorded": row.recorded,
        "here": row.here,
        "digest": row.digest,
        "problem": row.problem,
    }


def _history_view(document: Document) -> View:
    rows = document["runs"]
    if not rows:
        return view(line("no run of any plan is known"))
    head = table("RUN PLAN HOST BEGAN TOOK> RTO> RPO> VERDICT RECORDED", [_cells(row) for row in rows])
    problems: list[Line | Table] = [
        line(Cell("! ", "bad"), f"{row['run_id']}: {row['problem']}") for row in rows if row["problem"]
    ]
    return view(head, line(count(len(rows), "run")), *problems)


def _cells(row: Document) -> tuple[Cell | str, ...]:
    verdict = "not believed" if row["problem"] else row["verdict"]
    return (
        Cell(row["run_id"], "strong"),
        row["plan"] or "-",
        row["host"],
        local(row["began"]),
        duration(row["seconds"]),
        _objective(row, "rto"),
        _objective(row, "rpo"),
        Cell(verdict, _STYLES.get(verdict, "bad")),
        "yes" if row["recorded"] else Cell("no", "warn"),
    )


def _objective(row: Document, name: str) -> Cell | str:
    values: dict[str, Any] = row["objectives"].get(name, {})
    measured, target = values.get("measured"), values.get("target")
    if measured is None:
        return Cell("-", "dim")
    return Cell(duration(measured), "bad") if target is not None and measured > target else duration(measured)
