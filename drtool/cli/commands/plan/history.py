"""`plan history`: list the runs of plans."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from drtool.cli.commands.plan.recording import VERDICT_STYLES, recorded_runs
from drtool.cli.core.options import ManifestFrom
from drtool.cli.core.text import Document, count, duration, local
from drtool.cli.core.view import Cell, Line, Table, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.plans.evidence.history import HistoryRow


def plan_history(
    context: typer.Context,
    plan: Annotated[str | None, typer.Argument(metavar="[PLAN]", help="Show only the runs of this plan.")] = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """List the runs of plans.

    The list has the runs of every host from the catalogue, and those of this host from its journals. A finished run
    of this host that is not in the catalogue yet is recorded now. A row says so if its journal differs from the
    recorded one. If no site is reachable, the runs of this host are still listed.

    Examples:
        drtool plan history
        drtool plan history game-day --json
    """
    from drtool.cli.commands.plan.recording import known_runs, record_owed

    call: Call = context.obj
    if manifest_from is None:
        record_owed(call)
    recorded = recorded_runs(call, manifest_from) or ()
    rows = [row for row in known_runs(call, recorded) if plan is None or row.plan == plan]
    document = {"runs": [_row(row) for row in rows]}
    call.show(document, _history_view(document))


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
        return view(line("no plan has run yet"))
    head = table("RUN PLAN HOST BEGAN TOOK> RTO> RPO> VERDICT RECORDED", [_cells(row) for row in rows])
    problems: list[Line | Table] = [
        line(Cell("! ", "bad"), f"{row['run_id']}: {row['problem']}") for row in rows if row["problem"]
    ]
    return view(head, line(count(len(rows), "run")), *problems)


def _cells(row: Document) -> tuple[Cell | str, ...]:
    verdict = "not trusted" if row["problem"] else row["verdict"]
    return (
        Cell(row["run_id"], "strong"),
        row["plan"] or "-",
        row["host"],
        local(row["began"]),
        duration(row["seconds"]),
        _objective(row, "rto"),
        _objective(row, "rpo"),
        Cell(verdict, VERDICT_STYLES.get(verdict, "bad")),
        "yes" if row["recorded"] else Cell("no", "warn"),
    )


def _objective(row: Document, name: str) -> Cell | str:
    values: dict[str, Any] = row["objectives"].get(name, {})
    measured, target = values.get("measured"), values.get("target")
    if measured is None:
        return Cell("-", "dim")
    told = duration(measured) if target is None else f"{duration(measured)} of {duration(target)}"
    return Cell(told, "bad") if target is not None and measured > target else told
