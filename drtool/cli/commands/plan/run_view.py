"""The view of a run: its verdict, steps and objectives."""

import sys

from drtool.cli.core.text import Document, brief, duration
from drtool.cli.core.view import Cell, Line, Style, Table, View, line, table, view

_STYLES: dict[str, Style] = {
    "passed": "good",
    "tolerated": "good",
    "simulated": "good",
    "skipped": "dim",
    "unproven": "warn",
    "missed": "warn",
}


def run_view(document: Document) -> View:
    """Show one line without a terminal if the run passed. On a terminal, show a table of the steps."""
    verdict = document["verdict"]
    cannot = [row for row in document["steps"] if row["status"].startswith("cannot run")]
    head: list[Cell | str] = [
        Cell(verdict, _STYLES.get(verdict, "bad")),
        f": {document['plan']}, run {document['run_id']}",
    ]
    if not document["dry_run"] and "wall_seconds" in document:
        head.append(f", {duration(document['wall_seconds'])}")
    if document["reason"]:
        head.append(f"; {document['reason']}")
    objectives = {name: row for name, row in document["objectives"].items() if "measured" in row}
    parts: list[Line | Table] = []
    if document["dry_run"] or cannot or sys.stdout.isatty():
        parts.append(table("STEP ACTION TAKES> STATUS", [_step_row(row) for row in document["steps"]]))
    elif verdict == "passed":
        head += [f"; {name} {_told(row)}" for name, row in objectives.items()]
        objectives = {}
    parts.append(line(*head))
    unproven = "  not checked beforehand: " if document["dry_run"] else "  not proven "
    parts += [line(Cell(unproven, "warn"), text) for text in document["unproven"]]
    parts += [line(Cell("  left ", "bad"), text) for text in document["leftovers"]]
    parts += [line(Cell("  not notified ", "warn"), text) for text in document.get("untold", ())]
    told = _asked if document["dry_run"] else _told
    parts += [line(f"  {name} {told(row)}; {_before(row)}") for name, row in objectives.items()]
    return view(*parts)


def _step_row(row: Document) -> tuple[Cell | str, ...]:
    status, detail = row["status"], row["detail"]
    detail = brief(detail) if status in ("passed", "tolerated") else detail
    shown = status if detail and detail in status else f"{status} ({detail})" if detail else status
    style: Style = "bad" if status.startswith(("cannot run", "failed")) else _STYLES.get(status, "")
    return (Cell(row["id"], "strong"), row["uses"], _takes(row), Cell(shown, style))


def _takes(row: Document) -> Cell | str:
    """Return the time that a step took, or its estimate."""
    if row["seconds"] is not None:
        return duration(row["seconds"])
    likely = row["estimate"]
    return Cell("-" if likely is None else f"about {duration(likely['median'])}", "dim")


def _told(values: Document) -> str:
    target, measured = values.get("target"), values.get("measured")
    told = "not measured" if measured is None else duration(measured)
    return f"{told}, of {duration(target)}" if target is not None else told


def _asked(values: Document) -> str:
    """Return an objective's target for a dry run."""
    return "no target" if values["target"] is None else f"at most {duration(values['target'])}"


def _before(values: Document) -> str:
    """Return an objective's results in earlier runs."""
    likely = values.get("estimate")
    if likely is None:
        return "no earlier run to estimate from"
    if likely["runs"] == 1:
        return f"{duration(likely['median'])} in the one earlier run"
    between = f"{duration(likely['min'])} to {duration(likely['max'])}"
    return f"{duration(likely['median'])} ({between}) in the last {likely['runs']} runs"
