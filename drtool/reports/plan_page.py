"""The report of a plan's run as a page: the verdict in words, then what was not proven, then what was."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from drtool.plans.evidence.history import Estimate
from drtool.reports.page import Column, Markup, badge, document, facts, html, section, table, tag
from drtool.reports.plan_charts import TONES, gantt, seconds_text, trend
from drtool.reports.plan_story import Goal, Story, Work, critical_path

SHOWN_CHARACTERS = 6000
_VERDICTS = {
    "passed": "Everything that this plan requires was done and proven.",
    "failed": "A step failed, so this plan does not work now.",
    "unproven": "Nothing failed, but something that the plan requires could not be proven.",
    "missed": "Everything was done, but an objective was missed.",
    "leftovers": "The work was done, but not everything that the run had created could be removed.",
    "aborted": "The run was ended before it was complete.",
    "unfinished": "The run is unfinished: it is in progress, or its process died. `drtool plan resume` continues it.",
}
_NAMES = {"rto": "RTO", "rpo": "RPO", "wrt": "WRT", "detection": "detection"}


class Surroundings(Struct, frozen=True, kw_only=True):
    """Data besides the journal: earlier runs (oldest first), dependencies of steps, and the records at the sites."""

    trends: Mapping[str, Sequence[float | None]] = {}
    needs: Mapping[str, Sequence[str]] = {}
    recorded: str = ""
    """A sentence that says whether the catalogue has this run, and whether the records agree."""
    agrees: bool | None = None
    """None: the catalogue was unreachable."""
    damage: str = ""
    """Why the journal is not valid evidence: its chain is broken, or its end is missing."""
    estimates: Mapping[str, Estimate | None] = {}
    """The results of earlier runs, by objective."""


def page(story: Story, around: Surroundings) -> str:
    """Return the whole page."""
    run = story.run
    path = critical_path(story.works, around.needs)
    return document(
        f"{run.plan}: {'no evidence' if around.damage else story.verdict}",
        _head(story, around.damage),
        _not_proven(story, around),
        section("Objectives", _goals(story, around)) if story.goals else "",
        section("Course", _course(story, path)) if story.works else "",
        section("Steps", *(_step(work, work.key in path, around.needs.get(work.key, ())) for work in story.works))
        if story.works
        else "",
        *_faults(story),
        *_people(story),
        *_steady(story),
        section("Provenance", _provenance(story, around)),
        tag("footer", f"Written by drtool from the run's journal. Run {run.run}."),
    )


def _head(story: Story, damage: str) -> Markup:
    run = story.run
    verdict, words = story.verdict, _VERDICTS.get(story.verdict, "")
    if verdict == "passed" and story.unproven:
        words = "Every required step passed, but not everything was proven."
    if damage:
        verdict, words = "no evidence", "The journal was changed or cut, so nothing here is proven."
    tone = "bad" if damage else TONES.get(verdict, "warn")
    reason = damage or (story.ended.reason if story.ended is not None else "")
    return Markup(
        tag(
            "header",
            tag("h1", run.title or run.plan),
            tag("p", f"{run.plan} · run {run.run} · {run.host}", cls="soft mono"),
        )
        + tag(
            "div",
            tag("p", badge(verdict, tone), " ", tag("strong", words), cls="lead"),
            tag("p", reason) if reason else "",
            cls=f"verdict {tone}",
        )
        + facts(
            (
                ("Began", _time(run.at)),
                ("Took", seconds_text(story.wall_s)),
                ("Of that, waiting for people", seconds_text(story.human_s) if story.human_s else ""),
                (
                    "Of that, machine time",
                    seconds_text(max(0.0, story.wall_s - story.human_s)) if story.human_s else "",
                ),
                ("Exercise", run.exercise),
                ("Scope", run.scope),
                ("Incident", _time(run.incident_at) if run.incident_at else ""),
                ("Run by", f"{run.user} on {run.host}"),
            )
        )
    )


def _not_proven(story: Story, around: Surroundings) -> Markup:
    parts = []
    if around.agrees is False and not around.damage:
        parts.append(_notice("Do not trust this report", [around.recorded], bad=True))
    if story.unproven:
        parts.append(_notice("Not proven", story.unproven))
    if story.leftovers:
        parts.append(_notice("Leftovers", story.leftovers, bad=True))
    if story.cancelled is not None:
        parts.append(_notice("Ended early", [story.cancelled.reason], bad=True))
    return Markup("".join(parts))


def _notice(title: str, rows: Sequence[str], *, bad: bool = False, inner: bool = False) -> Markup:
    return tag(
        "div",
        tag("h3" if inner else "h2", title),
        tag("ul", *(tag("li", row) for row in rows)),
        cls="notice bad" if bad else "notice",
    )


def _goals(story: Story, around: Surroundings) -> Markup:
    columns = (
        Column("Objective"),
        Column("Verdict"),
        Column("Required", figure=True),
        Column("Measured", figure=True),
        Column("Earlier runs"),
    )
    rows = [
        (
            _NAMES.get(goal.name, goal.name),
            _met(goal),
            _duration(goal.target),
            _duration(goal.measured),
            _before(around.estimates.get(goal.name)),
        )
        for goal in story.goals
    ]
    return Markup(table(columns, rows, "Objectives and measured values") + _trends(story, around))


def _trends(story: Story, around: Surroundings) -> Markup:
    figures = []
    for goal in story.goals:
        values = around.trends.get(goal.name, ())
        if len([value for value in values if value is not None]) > 1:
            title = f"{_NAMES.get(goal.name, goal.name)} over the last {len(values)} runs"
            figures.append(
                tag("figure", tag("figcaption", title, cls="soft"), trend(values, goal.target, title), cls="card")
            )
    return tag("div", *figures, cls="trends") if figures else Markup()


def _before(likely: Estimate | None) -> str:
    if likely is None:
        return "no earlier value"
    between = f"{seconds_text(likely.min)} to {seconds_text(likely.max)}"
    return (
        f"{seconds_text(likely.median)}, {between} in {likely.runs}" if likely.runs > 1 else seconds_text(likely.median)
    )


def _met(goal: Goal) -> Markup:
    if goal.met is None:
        return badge("not proven", "warn") if goal.target is not None else badge("reported", "dim")
    return badge("met", "good") if goal.met else badge("missed", "bad")


def _course(story: Story, path: Sequence[str]) -> Markup:
    told = ""
    if path:
        told = tag("p", "Critical path: ", Markup(" → ".join(tag("code", key) for key in path)))
    drawing = gantt(story.works, path, story.wall_s)
    words = {"tabindex": "0", "role": "region", "aria_label": "The course of the run"}
    return Markup(tag("div", drawing, cls="card scroll", **words) + html(told))


def _step(work: Work, critical: bool, needs: Sequence[str]) -> Markup:
    """Return the details of a step, opened if they need attention."""
    marks = [badge(work.status or "no end", TONES.get(work.status, "dim"))]
    if work.milestone:
        marks.append(badge(work.milestone, "dim"))
    if critical:
        marks.append(badge("critical path", "dim"))
    head = tag(
        "summary",
        tag("span", work.key, cls="name mono"),
        " ",
        Markup("".join(marks)),
        tag("span", _aside(work, needs), cls="soft"),
        tag("p", work.detail) if work.detail else "",
    )
    looked_into = "open" if work.status in ("failed", "unproven", "aborted", "") else ""
    return tag("details", head, *_inside(work), cls="card", id=f"step-{work.key}", open=looked_into)


def _aside(work: Work, needs: Sequence[str]) -> str:
    told = [work.uses] if work.uses else []
    told += [seconds_text(work.ended_s - work.began_s)] if work.attempts and work.uses else []
    told += [f"{len(work.attempts)} attempts"] if len(work.attempts) > 1 else []
    told += [f"after {', '.join(needs)}"] if needs else []
    return " · ".join(told)


def _inside(work: Work) -> Iterator[Markup]:
    if len(work.attempts) > 1:
        columns = (
            Column("Attempt", figure=True),
            Column("Status"),
            Column("Took", figure=True),
            Column("What happened"),
        )
        rows = [
            (one.number, badge(one.status, TONES.get(one.status, "dim")), _duration(one.seconds), one.detail)
            for one in work.attempts
        ]
        yield table(columns, rows, f"The attempts of {work.key}")
    for title, values in (("Inputs", work.inputs), ("Outputs", work.outputs), ("Evidence", work.evidence)):
        if values:
            yield tag("h3", title)
            yield tag("pre", _shown(values))
    if work.leftovers:
        yield _notice("Leftovers", work.leftovers, bad=True, inner=True)


def _faults(story: Story) -> Iterator[Markup]:
    faults = [work for work in story.works if work.uses == "fault" and not work.is_undo]
    if not faults:
        return
    columns = (Column("Fault"), Column("At"), Column("From"), Column("To"), Column("Undo"))
    rows = [_fault(work) for work in faults]
    told = "Faults are overlays on this host: no stored byte was changed."
    yield section("Faults", tag("p", told, cls="soft"), table(columns, rows, "The injected faults, and how they ended"))


def _fault(work: Work) -> tuple[object, ...]:
    seen = work.evidence
    undone = badge("removed", "good") if seen.get("removed") else badge("not proven", "warn")
    told = Markup(f"{undone} {html(seen.get('ended_by', ''))}")
    targets = ", ".join(map(str, seen.get("targets", ())))
    objects = seen.get("objects", ())
    what = f"{targets}: {len(objects)} objects" if objects else targets
    return (tag("code", work.key), what, _time(seen.get("injected_at")), _time(seen.get("ended_at")), told)


def _people(story: Story) -> Iterator[Markup]:
    if story.answers:
        columns = (Column("Step"), Column("Answer"), Column("By"), Column("Through"), Column("When"))
        rows = [
            (tag("code", row.key), "yes" if row.yes else "no", row.by, row.channel, _time(row.at))
            for row in story.answers
        ]
        yield section("Approvals", table(columns, rows, "The answers of people"))


def _steady(story: Story) -> Iterator[Markup]:
    if story.samples:
        columns = (
            Column("Probe"),
            Column("When"),
            Column("Good", figure=True),
            Column("Bad", figure=True),
            Column("Last report"),
        )
        groups: dict[tuple[str, str], list[Any]] = {}
        for sample in story.samples:
            groups.setdefault((sample.probe, sample.when), []).append(sample)
        rows = [
            (
                tag("code", probe),
                when,
                sum(row.passed for row in samples),
                sum(not row.passed for row in samples),
                next((row.detail for row in reversed(samples) if row.detail), ""),
            )
            for (probe, when), samples in groups.items()
        ]
        yield section("Steady state", table(columns, rows, "The conditions that had to hold during the run"))


def _provenance(story: Story, around: Surroundings) -> Markup:
    run = story.run
    columns = (Column("File"), Column("SHA-256"))
    files = table(columns, [(name, tag("code", digest)) for name, digest in run.sources.items()], "The plan's files")
    return Markup(
        facts(
            (
                ("Journal", _chain(around.damage)),
                (
                    "Digest of its last good line" if around.damage else "Digest of its last line",
                    tag("code", story.digest),
                ),
                ("Catalogue", around.recorded),
                ("Digest of the plan", tag("code", run.digest)),
                ("drtool", run.version),
                ("Resumed", f"{len(story.resumes)} times" if story.resumes else ""),
                ("Variables", tag("code", json.dumps(run.variables)) if run.variables else ""),
            )
        )
        + (files if run.sources else "")
    )


def _chain(damage: str) -> Markup:
    if damage:
        return Markup(f"{badge('NOT verified', 'bad')} {html(damage)}")
    return Markup(f"{badge('verified', 'good')} every line matches the digest of the previous one")


def _shown(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, indent=1, ensure_ascii=False, sort_keys=False)
    return (
        text
        if len(text) <= SHOWN_CHARACTERS
        else f"{text[:SHOWN_CHARACTERS]}\n… {len(text) - SHOWN_CHARACTERS} more characters"
    )


def _duration(value: float | None) -> str:
    return "-" if value is None else seconds_text(value)


def _time(text: object) -> str:
    return "" if not text else str(text)[:19].replace("T", " ") + " UTC"
