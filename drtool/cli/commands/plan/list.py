"""`plan list`: list the plans of the configured directory."""

from typing import TYPE_CHECKING

import typer

from drtool.cli.core.plan_files import plans_directory
from drtool.cli.core.text import Document
from drtool.cli.core.view import Cell, Line, Table, View, line, table, view
from drtool.errors import UsageError

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.plans.language import Plan
    from drtool.plans.library import Listed


def plan_list(context: typer.Context) -> None:
    """List the plans in the configured directory.

    The directory is `plans:` in the configuration, or `plans` beside it. An invalid plan is listed too, with its
    error. Nothing is opened or run.

    Examples:
        drtool plan list
        drtool plan list --json
    """
    from drtool.plans.library import list_plans

    call: Call = context.obj
    directory = plans_directory(call)
    if directory is None:
        raise UsageError(
            "no directory of plans is configured",
            hint="add `plans: DIRECTORY` to the configuration; see docs/plans.md",
        )
    listed = list_plans(directory, call.settings.trust)
    document = {"directory": str(directory), "plans": [_row(each) for each in listed]}
    call.show(document, _list_view(document))


def _row(listed: "Listed") -> Document:
    plan = listed.plan
    head = {"id": listed.id, "file": str(listed.file), "error": listed.error or None}
    return head | (_about(plan) if plan is not None else dict.fromkeys(_ABOUT))


_ABOUT = ("title", "exercise", "scope", "schedule", "owner", "tags")


def _about(plan: "Plan") -> Document:
    schedule = plan.schedule
    timed = None
    if schedule is not None:
        timed = {
            "cron": schedule.cron.text,
            "timezone": schedule.timezone,
            "must_pass_every_seconds": schedule.must_pass_every_s,
        }
    about = {"title": plan.title, "exercise": plan.exercise, "scope": plan.scope, "schedule": timed}
    return about | {"owner": plan.owner or None, "tags": list(plan.tags)}


def _list_view(document: Document) -> View:
    good = [row for row in document["plans"] if row["error"] is None]
    rows = [
        (
            Cell(row["id"], "strong"),
            row["exercise"],
            Cell(row["scope"], "warn" if row["scope"] == "live" else ""),
            Cell(row["schedule"]["cron"] if row["schedule"] else "-", "dim"),
            row["title"],
        )
        for row in good
    ]
    parts: list[Line | Table] = [table("ID EXERCISE SCOPE SCHEDULE TITLE", rows)] if rows else []
    if not document["plans"]:
        parts.append(line(f"there are no plans in {document['directory']}"))
    errors = [error for row in document["plans"] for error in (row["error"] or "").splitlines()]
    parts += [line(Cell("! ", "bad"), error) for error in errors]
    return view(*parts)
