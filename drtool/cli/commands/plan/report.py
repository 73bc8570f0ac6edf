"""`plan report`: report what a run did and proved."""

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.commands.plan.recording import VERDICT_STYLES, recorded_runs
from drtool.cli.core.options import ManifestFrom
from drtool.cli.core.text import Document, document_of, duration
from drtool.cli.core.view import Cell, Line, Table, View, line, table, view
from drtool.errors import DamageFound, DrtoolError

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.manifest.records import RecordedRun
    from drtool.plans.evidence.history import HistoryRow
    from drtool.reports.plan_page import Surroundings
    from drtool.reports.plan_story import Story


def plan_report(
    context: typer.Context,
    run: Annotated[
        str, typer.Argument(metavar="[RUN]", help="Report this run of this host: an id or a unique prefix of one.")
    ] = "latest",
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a self-contained HTML page.")
    ] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML for CI servers.")
    ] = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """Report what a run did and proved.

    The report goes through the run step by step, as text, a page, JUnit XML or JSON. The page begins with the
    requirements that were not proven. Exit 4 if the journal was changed or cut afterwards, because the run is then no
    evidence. The report is made from the journal alone. The catalogue is only asked whether it recorded the same run.

    Examples:
        drtool plan report --html drill.html
        drtool plan report 20261123-140500-3f2a --junit drill.xml --json
    """
    from drtool.cli.commands.plan.recording import known_runs
    from drtool.reports.plan_junit import junit as as_junit
    from drtool.reports.plan_page import page

    call: Call = context.obj
    story, folder, damage = _story(call, run)
    recorded = recorded_runs(call, manifest_from)
    around = _surroundings(story, folder, known_runs(call, recorded or ()), recorded, damage)
    if html is not None:
        _write(html, page(story, around))
    if junit is not None:
        _write(junit, as_junit(story, _no_evidence(around)))
    document = _report(story, around, html, junit)
    call.show(document, _report_view(document), exit_code=4 if _no_evidence(around) else 0)


def _no_evidence(around: "Surroundings") -> str:
    return around.damage or (around.recorded if around.agrees is False else "")


def _story(call: "Call", word: str) -> "tuple[Story, Path, str]":
    """Return the named run, its folder, and what is wrong with its journal.

    Raise DrtoolError if no single run matches, and DamageFound if the journal is unreadable.
    """
    from drtool.plans.evidence.recording import MARK
    from drtool.plans.journal.file import read_damaged
    from drtool.plans.running.runs import RUNS, folder_of
    from drtool.reports.plan_story import story_of

    runs = call.state_dir / RUNS
    names = sorted(path.name for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []
    found = names[-1:] if word == "latest" else [name for name in names if name.startswith(word)]
    if len(found) != 1:
        what = (
            f"{len(found)} runs of this host begin with {word!r}" if found else f"there is no run {word!r} on this host"
        )
        raise DrtoolError(what if word != "latest" else "no plan has run on this host", hint="drtool plan history")
    folder = folder_of(call.state_dir, found[0])
    events, digest, damage = read_damaged(folder)
    story = story_of(events, digest)
    if story is None and damage:
        raise DamageFound(f"run {found[0]} is no evidence, because its journal cannot be read: {damage}")
    if story is None:
        raise DrtoolError(f"run {found[0]} never began: its journal is empty")
    if not damage and story.ended is None and (folder / MARK).exists():
        damage = f"{folder}: this run was recorded as finished, but the end of its journal is missing"
    return story, folder, damage


def _surroundings(
    story: "Story", folder: Path, runs: "list[HistoryRow]", recorded: "tuple[RecordedRun, ...] | None", damage: str
) -> "Surroundings":
    from drtool.plans.evidence.history import TREND_RUNS, estimates
    from drtool.reports.plan_page import Surroundings

    earlier = [row for row in runs if row.plan == story.run.plan and row.run_id <= story.run.run and not row.problem]
    last = earlier[-TREND_RUNS:]
    known = next((row for row in recorded or () if row.id == story.run.run), None)
    if known is None:
        told = "could not be read" if recorded is None else "this run is not in it"
    elif known.digest == story.digest:
        told = f"this run is recorded at the sites with the verdict {known.verdict}"
    else:
        told = (
            f"the sites recorded a different journal for this run, with the verdict {known.verdict}: this one "
            "was changed"
        )
    return Surroundings(
        trends={goal.name: [row.measured.get(goal.name) for row in last] for goal in story.goals},
        needs=_needs(story, folder),
        recorded=told,
        agrees=None if known is None else known.digest == story.digest,
        damage=damage,
        estimates=estimates((row for row in earlier if row.run_id != story.run.run), story.run.plan),
    )


def _needs(story: "Story", folder: Path) -> dict[str, list[str]]:
    """Return which step waited for which, from the stored plan. Return nothing if that plan cannot be read."""
    from drtool.plans.running.building import graph_of
    from drtool.plans.running.resumption import kept_plan

    try:
        plan = kept_plan(folder, next(iter(story.run.sources), ""), story.run.digest)
    except (DrtoolError, OSError):
        return {}
    return {task.id: [edge.task for edge in task.needs] for task in graph_of(plan).tasks if task.phase == "steps"}


def _write(path: Path, text: str) -> None:
    """Write for this user only, because a report names places and people.

    A device or a pipe is written to. Raise DrtoolError.
    """
    data = text.encode("utf-8", "replace")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise DrtoolError(f"{path} cannot be written: {error.strerror}") from None


def _report(story: "Story", around: "Surroundings", html: Path | None, junit: Path | None) -> Document:
    run = story.run
    return {
        "run_id": run.run,
        "plan": run.plan,
        "title": run.title,
        "host": run.host,
        "user": run.user,
        "began": run.at,
        "wall_seconds": story.wall_s,
        "human_seconds": story.human_s,
        "verdict": story.verdict,
        "reason": story.ended.reason if story.ended is not None else "",
        "steps": [
            {
                "id": work.key,
                "uses": work.uses,
                "status": work.status or "no end",
                "seconds": work.seconds,
                "attempts": len(work.attempts),
                "detail": work.detail,
                "inputs": dict(work.inputs),
                "outputs": dict(work.outputs),
                "evidence": dict(work.evidence),
            }
            for work in story.works
        ],
        "objectives": {
            goal.name: {
                "target": goal.target,
                "measured": goal.measured,
                "met": goal.met,
                "estimate": document_of(around.estimates.get(goal.name)),
            }
            for goal in story.goals
        },
        "unproven": list(story.unproven),
        "leftovers": list(story.leftovers),
        "approvals": [{"step": row.key, "yes": row.yes, "by": row.by, "at": row.at} for row in story.answers],
        "plan_digest": run.digest,
        "journal_digest": story.digest,
        "catalogue": around.recorded,
        "catalogue_agrees": around.agrees,
        "journal_verified": not around.damage,
        "problem": _no_evidence(around),
        "written": [str(path) for path in (html, junit) if path is not None],
    }


def _report_view(document: Document) -> View:
    verdict = document["verdict"]
    head = f": {document['plan']}, run {document['run_id']} on {document['host']}, {duration(document['wall_seconds'])}"
    rows = [
        (
            Cell(row["id"], "strong"),
            row["uses"],
            Cell(row["status"], VERDICT_STYLES.get(row["status"], "")),
            row["detail"],
        )
        for row in document["steps"]
    ]
    parts: list[Line | Table] = []
    if document["problem"]:
        parts.append(line(Cell("no evidence: ", "bad"), document["problem"]))
    parts.append(line(Cell(verdict, VERDICT_STYLES.get(verdict, "bad")), head))
    parts += [line(document["reason"])] if document["reason"] else []
    parts += [line(Cell("  not proven ", "warn"), text) for text in document["unproven"]]
    parts += [line(Cell("  left ", "bad"), text) for text in document["leftovers"]]
    parts += [table("STEP ACTION STATUS DETAIL", rows)] if not document["written"] else []
    parts += [line(f"written: {path}") for path in document["written"]]
    return view(*parts)
