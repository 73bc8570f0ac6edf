"""`plan check`: check plans without running them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.plan_files import plan_file, plans_directory, trust_of_plan
from drtool.cli.core.text import Document, count
from drtool.cli.core.view import Cell, View, line, view
from drtool.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.config.trust import Trust
    from drtool.plans.language import Plan


def plan_check(
    context: typer.Context,
    plans: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE|ID…", help="Check these files, or ids of plans in the configured directory."),
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of plans, for editors.")] = False,
) -> None:
    """Check plans without running them.

    Every error is reported with file, line, column and the nearest known name. Without a name, every plan in the
    configured directory is checked. Nothing is opened or run. `plan run --dry-run` also checks the repository. Exit 2
    if a plan has errors.

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


def _named_plan(call: "Call", word: str) -> "tuple[Path, Trust]":
    return plan_file(call, word), trust_of_plan(call, word)


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
