"""The report of a repository: problems first, then sources, sites, the ring, snapshots over time, verification, drills.

Invariants
    It shows the results of `status` and the catalogue at one moment, and the time of that moment.
    Everything in a drawing is also given in words. Times are UTC.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from drtool.manifest.records import Coverage, RecordedRun
from drtool.operations.verify.rounds import ROUND_END
from drtool.reports.page import Column, Markup, Tone, badge, document, facts, section, table, tag
from drtool.reports.plan_charts import TONES, seconds_text
from drtool.reports.snapshot_chart import timeline

Json = dict[str, Any]
_RUNS_SHOWN = 30
_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


class Dot(Struct, frozen=True, kw_only=True):
    """A snapshot in the drawing: its source and host, and its time."""

    source: str
    host: str
    time_ns: int


class Overview(Struct, frozen=True, kw_only=True):
    """All data of the page."""

    label: str
    repository: str
    now_ns: int
    version: str
    host: str
    status: Json
    """The document of `drtool status`."""
    ring: Json
    dots: tuple[Dot, ...]
    held: int
    coverage: tuple[Coverage, ...]
    runs: tuple[RecordedRun, ...]


def overview_page(seen: Overview) -> str:
    """Return the whole page."""
    return document(
        f"{seen.label}: {'well' if _well(seen) else 'needs attention'}",
        tag("h1", seen.label),
        _verdict(seen),
        _facts(seen),
        section("Sources", _sources(seen)),
        section("Snapshots over time", timeline(seen.dots, seen.now_ns), _snapshot_words(seen)),
        section("Sites", _sites(seen)),
        section("The ring", _ring(seen)),
        section("Verification", _coverage(seen)),
        section("Drills", *_drills(seen)),
        tag("footer", f"Written by drtool {seen.version} on {seen.host}, {moment(seen.now_ns)}."),
    )


def _well(seen: Overview) -> bool:
    return bool(seen.status["healthy"])


def _verdict(seen: Overview) -> Markup:
    problems = seen.status["problems"]
    notices = [tag("p", badge("notice", "dim"), f" {text}") for text in seen.status.get("notices", ())]
    if not problems:
        lead = tag("p", badge("well", "good"), " No problem is known.", cls="lead")
        return tag("div", lead, *notices, cls="verdict good")
    told = "1 thing needs attention" if len(problems) == 1 else f"{len(problems):,} things need attention"
    lead = tag("p", badge("attention", "bad"), f" {told}:", cls="lead")
    return tag("div", lead, tag("ul", *(tag("li", problem) for problem in problems)), *notices, cls="verdict bad")


def _facts(seen: Overview) -> Markup:
    quorum = seen.status["quorum"]
    rows = [
        ("Voters", f"{quorum['reachable']} reachable, {quorum['needed']} needed"),
        ("Copies", f"{seen.ring['copies']} sites hold each pack"),
        ("Snapshots", f"{len(seen.dots):,}{f', {seen.held:,} held' if seen.held else ''}"),
        ("Catalogue", f"change {seen.status['sequence']:,}{' (not certain)' if seen.status['tentative'] else ''}"),
        ("As of", moment(seen.now_ns)),
        ("Repository", tag("code", seen.repository)),
    ]
    return facts(rows)


def _sources(seen: Overview) -> Markup:
    columns = [
        Column("Source"), Column("Host"), Column("Newest"), Column("Age", figure=True), Column("Allowed", figure=True),
        Column("Copies", figure=True), Column("Read whole since"), Column("Objectives"),
    ]  # fmt: skip
    rows = []
    for row in seen.status["sources"]:
        newest = tag("code", (row["newest_snapshot"] or "")[:8], cls="still") if row["newest_snapshot"] else "none"
        age = "-" if row["age_seconds"] is None else seconds_text(row["age_seconds"])
        allowed = "-" if row["rpo_seconds"] is None else seconds_text(row["rpo_seconds"])
        copies = "-" if row["copies"] is None else str(row["copies"])
        rows.append((row["name"] or "(paths)", row["host"], newest, age, allowed, copies, _when(row), _objective(row)))
    return _rows_or(
        table(columns, rows, "Each source, its newest snapshot, and its objectives"), rows, "Nothing is stored yet."
    )


def _when(row: Json) -> Markup:
    return _still(f"{row['last_verified'][:16].replace('T', ' ')} UTC" if row.get("last_verified") else "not proven")


def _still(text: str) -> Markup:
    """Wrap text so that it is not broken into lines."""
    return tag("span", text, cls="still")


def _objective(row: Json) -> Markup:
    if row["met"] is None:
        return badge("none set", "dim")
    if row["met"]:
        return badge("met", "good")
    return Markup(badge("missed", "bad") + "".join(tag("p", words) for words in row["missed"]))


def _rows_or(shown: Markup, rows: Sequence[object], words: str) -> Markup:
    return shown if rows else tag("p", words, cls="soft")


def _snapshot_words(seen: Overview) -> Markup:
    if not seen.dots:
        return tag("p", "No snapshots yet.", cls="soft")
    first, last = min(dot.time_ns for dot in seen.dots), max(dot.time_ns for dot in seen.dots)
    return tag("p", f"{len(seen.dots):,} from {moment(first)} to {moment(last)}.", cls="soft")


def _sites(seen: Overview) -> Markup:
    columns = [
        Column("Target"), Column("Objects", figure=True), Column("Holds", figure=True), Column("Free", figure=True),
        Column("Votes"), Column("State"),
    ]  # fmt: skip
    rows = []
    for site in seen.status["sites"]:
        for row in site["targets"]:
            votes = _vote(site, row)
            free = "-" if row["free_bytes"] is None else size_text(row["free_bytes"])
            rows.append((row["name"], f"{row['objects']:,}", size_text(row["bytes"]), free, votes, _state(row)))
    return table(columns, rows, "Each target, and whether it is reachable")


def _vote(site: Json, row: Json) -> Markup | str:
    if site["votes"] and site.get("voter_problem"):
        return badge("cannot", "bad")
    return "no" if not site["votes"] else "only" if row["state"] == "arbiter" else "yes"


def _state(row: Json) -> Markup:
    if row["reachable"] and row.get("writable") is False:
        return Markup(badge("refuses writes", "bad") + tag("p", row["reason"] or ""))
    if row["state"] in ("lost", "draining", "unknown"):
        return badge(row["state"], "bad" if row["state"] == "lost" else "warn")
    if row["reachable"]:
        return badge("online", "good")
    return Markup(badge("offline", "bad") + tag("p", row["reason"] or ""))


def _ring(seen: Overview) -> Markup:
    columns = [
        Column("Target"), Column("Weight", figure=True), Column("Share", figure=True), Column("By weight", figure=True),
        Column("Share of all copies"),
    ]  # fmt: skip
    rows = [
        (row["name"], str(row["weight"]), _percent(row["share"]), _percent(row["expected_share"]), _bar(row))
        for row in seen.ring["targets"]
    ]
    return table(columns, rows, f"The share of each target in the ring of epoch {seen.ring['epoch']}")


def _bar(row: Json) -> Markup:
    width, wanted = 400 * min(1.0, row["share"]), 400 * min(1.0, row["expected_share"])
    told = f"{_percent(row['share'])} of all copies, {_percent(row['expected_share'])} by weight"
    tone = "warn" if row["state"] != "active" else "good"
    ground = tag("line", x1="0", x2="400", y1="13.5", y2="13.5", cls="grid")
    bar = tag("rect", x="0", y="2", width=f"{width:.2f}", height="10", rx="1.5", cls=tone)
    mark = tag("line", x1=f"{wanted:.2f}", x2=f"{wanted:.2f}", y1="0", y2="14", cls="critical")
    return tag("svg", tag("title", told), ground, bar, mark, viewBox="0 0 400 14", role="img", aria_label=told)


def _coverage(seen: Overview) -> Markup:
    columns = [
        Column("Site"),
        Column("Level"),
        Column("Round", figure=True),
        Column("Last report"),
        Column("Result"),
    ]
    rows = [
        (row.site, row.level, str(row.round), _still(moment(row.time_ns)), _proof(row))
        for row in sorted(seen.coverage, key=lambda row: (row.site, row.level))
    ]
    return _rows_or(
        table(columns, rows, "Progress of the verification of each site"), rows, "Nothing has been verified yet."
    )


def _proof(row: Coverage) -> Markup:
    if row.unsound:
        return badge("damage was found", "bad")
    if row.level == "full":
        return badge("read whole", "good")
    read = min(1.0, row.position / ROUND_END) if row.position else 0.0
    return badge("read whole", "good") if read == 1.0 else badge(f"{_percent(read)} of this round read", "dim")


def _drills(seen: Overview) -> list[Markup]:
    columns = [
        Column("Plan"),
        Column("When"),
        Column("Host"),
        Column("RTO", figure=True),
        Column("RPO", figure=True),
        Column("Verdict"),
    ]
    runs = sorted(seen.runs, key=lambda run: run.began_ns, reverse=True)[:_RUNS_SHOWN]
    rows = [
        (
            run.plan,
            _still(moment(run.began_ns)),
            run.host,
            _measured(run, "rto"),
            _measured(run, "rpo"),
            _run_verdict(run.verdict),
        )
        for run in runs
    ]
    due = [row for row in seen.status.get("plans", []) if row["met"] is False]
    notices = [
        tag(
            "div",
            tag("p", f"{row['id']} must pass every {seconds_text(row['must_pass_every_seconds'])}, but did not."),
            cls="notice bad",
        )
        for row in due
    ]
    return [
        *notices,
        _rows_or(table(columns, rows, "The last runs of plans"), rows, "No plan has run yet: drtool plan list"),
    ]


def _measured(run: RecordedRun, name: str) -> str:
    found = next((row for row in run.objectives if row.name == name), None)
    if found is None or (found.measured_s is None and found.target_s is None):
        return "-"
    measured = "not measured" if found.measured_s is None else seconds_text(found.measured_s)
    return measured if found.target_s is None else f"{measured} of {seconds_text(found.target_s)}"


def _run_verdict(verdict: str) -> Markup:
    tone: Tone = TONES.get(verdict, "dim")
    return badge(verdict or "unfinished", tone)


def moment(time_ns: int) -> str:
    """Return `2026-01-31 22:30 UTC`, or `@seconds` if the calendar has no such time."""
    try:
        return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return f"@{time_ns // 10**9}"


def size_text(size_bytes: float) -> str:
    """`512 B`, `1.5 KiB`."""
    if size_bytes < 1024:
        return f"{size_bytes:.0f} B"
    power = 1
    while size_bytes / 1024**power >= 1023.95 and power < len(_UNITS):
        power += 1
    return f"{size_bytes / 1024**power:.1f} {_UNITS[power - 1]}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
