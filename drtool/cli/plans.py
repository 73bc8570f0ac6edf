"""`plan list` and `plan check`: list plans, and check their syntax and references."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.text import Document, count
from drtool.cli.trust import trust_of
from drtool.cli.view import Cell, Line, Table, View, line, table, view
from drtool.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from drtool.cli.call import Call
    from drtool.config.trust import Trust
    from drtool.plans.language import Plan
    from drtool.plans.library import Listed


def plan_list(context: typer.Context) -> None:
    """List the plans in the configured directory (`plans:`, or `plans` beside the configuration).

    An invalid plan is listed too, with its error. Nothing is opened or run.

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


def plan_check(
    context: typer.Context,
    plans: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE|ID…", help="Check these files, or ids of plans in the configured directory."),
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of plans, for editors.")] = False,
) -> None:
    """Check plans, and report every error with file, line, column and the nearest known name.

    Without a name, every plan in the configured directory is checked. Nothing is opened or run. `plan run --dry-run`
    also checks the repository. Exit 2 if a plan has errors.

    Examples:
        drtool plan check
        drtool plan check plans/site-loss.yaml
        drtool plan check single-file weekly-verify --json
        drtool plan check --schema > plan.schema.json
    """
    from drtool.plans.language import load_plan
    from drtool.plans.library import read_trusted

    call: Call = context.obj
    if schema:
        call.show(*_schema())
        return
    rows: list[Document] = []
    errors: list[str] = []
    for file, trust in [_named_plan(call, word) for word in plans] if plans else _all_plans(call):
        try:
            rows.append(_about_checked(file, load_plan(file, read_trusted(trust))))
        except ConfigError as error:
            errors += error.problems
    if errors:
        raise ConfigError(*errors, hint="docs/plans.md explains every key")
    call.show({"plans": rows}, _check_view(rows))


def _schema() -> tuple[Document, View]:
    """Return the schema file of the package. Generating it would import the whole plan language."""
    import json
    from importlib.resources import files

    text = (files("drtool.plans") / "plan.schema.json").read_text(encoding="utf-8")
    document: Document = json.loads(text)
    return document, view(*(line(each) for each in text.splitlines()))


def plans_directory(call: "Call") -> Path | None:
    """Return the directory of the plans, or None if there is none."""
    path, config = call.settings.config_path, call.settings.config
    if path is None:
        return None
    if config.plans is not None:
        return path.parent / config.plans
    return path.parent / "plans" if (path.parent / "plans").is_dir() else None


def plan_file(call: "Call", word: str) -> Path:
    """Return the file that FILE or ID names. The configuration is read only for an ID. Raise UsageError."""
    from drtool.plans.library import SUFFIXES, find_plan

    is_file = "/" in word or word.endswith(SUFFIXES)
    return find_plan(word, Path(), None if is_file else plans_directory(call))


def trusted_plan(call: "Call", word: str, file: Path) -> "Plan":
    """Return the plan in `file`, which FILE or ID named. Raise ConfigError, also for one that an untrusted user may have
    written.
    """
    from drtool.plans.language import load_plan
    from drtool.plans.library import read_trusted

    return load_plan(file, read_trusted(_trust(call, word)))


def _trust(call: "Call", word: str) -> "Trust":
    """Return who may have written a plan: a file named on the command line is trusted as the user is, one found by id is
    not.
    """
    from drtool.plans.library import SUFFIXES

    return trust_of(named=True) if "/" in word or word.endswith(SUFFIXES) else call.settings.trust


def _named_plan(call: "Call", word: str) -> "tuple[Path, Trust]":
    return plan_file(call, word), _trust(call, word)


def _all_plans(call: "Call") -> "list[tuple[Path, Trust]]":
    """Return every plan of the configured directory. Raise UsageError if there is none."""
    from drtool.plans.library import plan_files

    directory = plans_directory(call)
    if directory is None:
        raise UsageError("no plan is named, and there is no directory of plans", hint="drtool plan check FILE|ID…")
    found = [(file, call.settings.trust) for file in plan_files(directory)]
    if not found:
        raise UsageError(f"the directory of plans {directory} contains no plan", hint="drtool plan check FILE")
    return found


def _about_checked(file: Path, plan: "Plan") -> Document:
    return {
        "file": str(file),
        "id": plan.id,
        "title": plan.title,
        "digest": plan.digest,
        "files": [{"file": each.file, "sha256": each.sha256} for each in plan.files],
        "steps": len(plan.steps),
    }


def _check_view(rows: list[Document]) -> View:
    return view(
        *(line(Cell("ok ", "good"), f"{row['file']}: {row['id']}, {count(row['steps'], 'step')}") for row in rows)
    )


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
