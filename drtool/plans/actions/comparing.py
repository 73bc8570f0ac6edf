"""`compare`: checks that two sides are alike, and names the differences.

Invariants
    Sides that cannot be compared are unproven, never equal. So are two empty sides.
    A snapshot is restored into scratch by a child process, and read there like any other directory.
"""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from drtool.errors import DrtoolError, NoSuchSnapshot
from drtool.operations.holding import holder_of
from drtool.operations.selection import select, source_words
from drtool.operations.snapshot_names import parse_latest, split_name
from drtool.plans.actions import comparing_databases, comparing_systems
from drtool.plans.actions.port import Outcome, Preview, RunContext, StepContext, Work
from drtool.plans.actions.trees_compared import Aspect, Comparison, Found
from drtool.plans.bounded import TimeUp, WasCancelled
from drtool.plans.language.actions import RESULTS, Compare

OUTPUTS = RESULTS["compare"]
ROWS = 200
"""The maximum number of differences that are listed. All are counted."""
_ASPECTS: tuple[Aspect, ...] = ("tree", "hash", "metadata")
_WORDS = ("live", "recorded", "snapshot")
Kind: TypeAlias = Literal["path", "live", "recorded", "snapshot", "dsn"]


class Side(Struct, frozen=True):
    kind: Kind
    text: str
    """A path, a DSN, the name of a source, or the beginning of a snapshot id."""
    path: str | None = None
    """The path inside the snapshot."""


def side(text: str) -> Side:
    """Parse a side as written in a plan."""
    word, colon, rest = text.partition(":")
    if colon and rest.startswith("//"):
        return Side("dsn", text)
    if not colon or word not in _WORDS:
        return Side("path", text)
    if word == "snapshot":
        return Side("snapshot", *split_name(rest))
    return Side("live" if word == "live" else "recorded", rest)


class CompareAction:
    """An implementation of `port.Action`."""

    def preview(self, step_context: StepContext, run_context: RunContext) -> Preview:
        action: Compare = step_context.action
        sides = side(action.left), side(action.right)
        problem = unprovable(action, sides, known=not step_context.missing)
        if problem:
            return Preview(verdict="cannot run", detail=run_context.redact(problem), provable=False)
        if step_context.missing:
            return Preview(verdict="deferred", detail=f"needs {', '.join(sorted(step_context.missing))}")
        problem = _absent(sides)
        if problem and step_context.step.needs:
            return Preview(verdict="deferred", detail=f"needs {_needs(step_context)}; now {problem}")
        if problem:
            return Preview(verdict="cannot run", detail=problem)
        pins = {name: row for name, one in zip("lr", sides, strict=True) if (row := _pinned(one, run_context))}
        return Preview(verdict="ok", detail=f"compares {', '.join(action.what)} of both sides", pins=pins)

    def act(self, step_context: StepContext, run_context: RunContext, work: Work) -> Outcome:
        action: Compare = step_context.action
        sides = side(action.left), side(action.right)
        problem = unprovable(action, sides)
        if problem:
            return Outcome(status="unproven", detail=run_context.redact(problem))
        try:
            texts = {one.kind: one.text for one in sides}
            if comparing_systems.wanted(action):
                other = next(one for one in sides if one.kind != "recorded")
                return comparing_systems.compared(
                    action, other.kind, other.text, texts["recorded"], step_context, run_context, work
                )
            if "dsn" in texts:
                return comparing_databases.compared(
                    action, texts["dsn"], texts["recorded"], step_context, run_context, work
                )
            left, right = _roots(sides, step_context, run_context, work)
            return _compared(action, left, right, work)
        except TimeUp:
            return Outcome(status="failed", cause="timeout", detail="the time ran out during the comparison")
        except WasCancelled:
            return Outcome(status="aborted", cause="cancelled", detail="the run was cancelled during the comparison")


def unprovable(action: Compare, sides: Sequence[Side], *, known: bool = True) -> str:
    """Return why these sides cannot be compared, or an empty string."""
    kinds = [one.kind for one in sides]
    if comparing_systems.wanted(action):
        return comparing_systems.unfit(action, kinds)
    if "dsn" in kinds or "recorded" in kinds:
        return comparing_databases.unfit(action, kinds, known=known)
    rows = [what for what in action.what if what not in _ASPECTS]
    if rows:
        return f"{', '.join(rows)}: for files, compare {', '.join(_ASPECTS)}; for a database, one side must be a DSN"
    for one in sides:
        if not one.text:
            return "a side is empty: name a path, or snapshot:ID:PATH"
    return ""


def _needs(step_context: StepContext) -> str:
    return ", ".join(need.step for need in step_context.step.needs)


def _absent(sides: Sequence[Side]) -> str:
    for one in sides:
        if one.kind in ("path", "live") and not os.path.lexists(one.text):
            return f"there is no {one.text}"
    return ""


def _pinned(one: Side, run_context: RunContext) -> str:
    """Return the full id of a snapshot side. Raises NoSuchSnapshot if there is none, or `latest` is ambiguous."""
    if one.kind != "snapshot":
        return ""
    with run_context.repository() as repository:
        by_path = one.path is not None and parse_latest(one.text) is not None
        holds = holder_of(repository.trees, os.fsencode(one.path or "")) if by_path else None
        selected = select(list(repository.view.state.snapshots), one.text, now_ns=time.time_ns(), holds=holds)
    if selected.others:
        known = ", ".join(sorted(map(source_words, (selected.snapshot, *selected.others))))
        raise NoSuchSnapshot(f"{one.text} is ambiguous: there are snapshots of {known}", hint="name one by its id")
    return selected.snapshot.id.hex()


def _roots(sides: Sequence[Side], step_context: StepContext, run_context: RunContext, work: Work) -> tuple[Path, Path]:
    """Return the paths of both sides on disk.

    A live path is also looked up below the other side's root, because a restore that recreates absolute paths puts it there.
    """
    places = [
        _restored(one, step_context.pins.get(name, one.text), run_context, work)
        if one.kind == "snapshot"
        else Path(one.text)
        for name, one in zip("lr", sides, strict=True)
    ]
    for number, one in enumerate(sides):
        other = places[1 - number]
        below = other / one.text.lstrip("/")
        if one.kind == "live" and sides[1 - number].kind != "live" and os.path.lexists(below):
            places[1 - number] = below
    for number, one in enumerate(sides):
        name = os.path.basename((one.path or "").rstrip("/"))
        whole = one.kind == "snapshot" and places[1 - number].is_file() and places[number].is_dir()
        if whole and name and (places[number] / name).is_file():  # the path in the snapshot was a file
            places[number] /= name
    return places[0], places[1]


def _restored(one: Side, wanted: str, run_context: RunContext, work: Work) -> Path:
    """Restore a snapshot side into scratch. Raises DrtoolError."""
    row = _row(wanted, run_context, work)
    scratch = work.scratch(row["bytes"] * 11 // 10, row["files"] * 2 + 1000)
    to = scratch / "side"
    name = row["id"] + (f":{one.path}" if one.path is not None else "")
    result, document = run_context.drtool(["restore", "--to", str(to), "--", name], work)
    _check_end(result.ended_by)
    if result.exit_code or document.get("errors"):
        last = result.stderr.strip().splitlines()[-1:] or ["no further message"]
        raise DrtoolError(f"snapshot {row['id'][:8]} could not be restored to compare it: {last[0]}")
    return to


def _row(wanted: str, run_context: RunContext, work: Work) -> dict[str, Any]:
    result, document = run_context.drtool(["snapshots"], work)
    _check_end(result.ended_by)
    rows = [row for row in document.get("snapshots", ()) if row["id"].startswith(wanted.lower())]
    if len(rows) != 1:
        raise DrtoolError(f"{len(rows)} snapshot ids begin with {wanted!r} instead of 1")
    return dict(rows[0])


def _check_end(ended_by: str) -> None:
    if ended_by == "timeout":
        raise TimeUp("no answer in time")
    if ended_by == "cancelled":
        raise WasCancelled("the run was cancelled")


def _compared(action: Compare, left: Path, right: Path, work: Work) -> Outcome:
    missing = [str(path) for path in (left, right) if not os.path.lexists(path)]
    if len(missing) == 2:
        return Outcome(status="unproven", detail=f"neither {left} nor {right} exists, so nothing was compared")
    if missing:
        return _differ([Found("/", f"there is no {missing[0]}")], 1, 0, {"left": str(left), "right": str(right)})
    comparison = Comparison([each for each in _ASPECTS if each in action.what], action.exclude, _looker(work))
    kept, unread, count = _gathered(comparison.found(os.fsencode(left), os.fsencode(right)))
    evidence: dict[str, Any] = {
        "left": str(left),
        "right": str(right),
        "compared": list(action.what),
        "entries": comparison.entries,
        "bytes": comparison.read_bytes,
    }
    if count:
        return _differ(kept, count, len(unread), evidence)
    if unread:
        evidence["unread"] = [f"{row.path}: {row.reason}" for row in unread]
        detail = f"{len(unread)} entries could not be read, first {unread[0].path}: {unread[0].reason}"
        return Outcome(status="unproven", detail=detail, evidence=evidence)
    if left.is_dir() and comparison.entries == 1:
        return Outcome(status="unproven", detail="both sides are empty, so nothing was compared", evidence=evidence)
    outputs = {"equal": True, "differences": 0, "paths": []}
    detail = f"{comparison.entries} entries are alike"
    return Outcome(status="passed", detail=detail, outputs=outputs, evidence=evidence)


def _gathered(found: Iterator[Found]) -> tuple[list[Found], list[Found], int]:
    """Return (the first differences, the first unreadable entries, the number of differences)."""
    kept: list[Found] = []
    unread: list[Found] = []
    count = 0
    for row in found:
        rows = unread if row.unread else kept
        count += not row.unread
        if len(rows) < ROWS:
            rows.append(row)
    return kept, unread, count


def _differ(kept: list[Found], count: int, unread: int, evidence: dict[str, Any]) -> Outcome:
    first = kept[0]
    more = f", and {count - 1} more" if count > 1 else ""
    blind = f"; {unread} could not be read" if unread else ""
    return Outcome(
        status="failed",
        detail=f"{first.path}: {first.reason}{more}{blind}",
        outputs={"equal": False, "differences": count, "paths": [row.path for row in kept]},
        evidence=evidence | {"differences": count, "rows": [f"{row.path}: {row.reason}" for row in kept]},
    )


def _looker(work: Work) -> Any:  # noqa: ANN401 - a callable without arguments
    def look() -> None:
        if work.cancelled.is_set():
            raise WasCancelled("the run was cancelled")
        if time.monotonic() >= work.ends_at:
            raise TimeUp("no answer in time")

    return look
