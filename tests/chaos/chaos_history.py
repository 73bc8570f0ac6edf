"""What the processes wrote down of their calls, and whether one order of all of them explains every answer.

A process writes a line before a call and one after it, with times of CLOCK_MONOTONIC, which all processes of one machine
share; a process that is killed leaves a call without an answer. A view is written as how many marks it held and the hash of
them, so that a line stays short.

The search is `sim_linear.is_linearizable`. To keep it short for thousands of calls, each call's end is moved forward to where
it must lie anyhow (a mark that somebody was shown had been made by then; a list that was seen grown is not read short
afterwards), and the history is cut wherever no call was under way. Neither changes the verdict: a test compares.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from sim_linear import NEVER, Operation, is_linearizable


@dataclass
class Call:
    """One call of one process. `seen`: the view that it was shown, if any: how many marks, and their hash."""

    process: str
    kind: str  # append | read | epoch | check
    value: Any
    began: float
    ended: float = NEVER
    answered: bool = False
    seen: tuple[int, str] | None = None
    epoch: int = 0
    sequence: int = 0
    digest: str = ""
    refused: bool = False
    unknown: str = ""
    problems: list[Any] = field(default_factory=list)
    snapshot: str = ""
    ended_at: float = 0.0

    @property
    def host(self) -> str:
        return self.process.partition(".")[0]


class Diary:
    """A process's own file: one JSON document a line, each written by one system call."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._count = 0

    def close(self) -> None:
        self._file.close()

    def begin(self, **facts: Any) -> int:
        self._count += 1
        self.say(n=self._count, **facts)
        return self._count

    def end(self, number: int, **facts: Any) -> None:
        self.say(n=number, **facts)

    def say(self, **facts: Any) -> None:
        self._file.write(json.dumps(facts).encode() + b"\n")


def read_diaries(directory: Path) -> tuple[list[Call], list[str]]:
    """All calls of all processes, in the order in which they began; and what the processes complained of themselves."""
    calls: list[Call] = []
    complaints: list[str] = []
    for path in sorted(directory.glob("*.jsonl")):
        open_calls: dict[int, Call] = {}
        for line in _whole_lines(path):
            if "ready" in line:
                continue
            if "violation" in line:
                complaints.append(f"{path.stem}: {line['violation']}")
            elif "kind" in line:
                number = line.pop("n")
                open_calls[number] = Call(process=path.stem, **line)
            else:
                call = open_calls[line.pop("n")]
                seen = line.pop("seen", None)
                call.__dict__.update(line, seen=tuple(seen) if seen else None)
        calls += open_calls.values()
    return sorted(calls, key=lambda call: call.began), complaints


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().split(b"\n")[:-1]:
        yield json.loads(line)


def hash_of(marks: Sequence[str]) -> str:
    return blake2b("\n".join(marks).encode(), digest_size=12).hexdigest()


@dataclass(frozen=True)
class Truth:
    """What the last reader was shown, after everything had come to rest; `movers`: who moved the epoch, in order."""

    marks: tuple[str, ...]
    epoch: int
    first_epoch: int
    movers: tuple[str, ...]


def judge_order(calls: Sequence[Call], truth: Truth) -> list[str]:
    """Duplicates, lost acknowledgements, marks from nowhere, views that never were, and: is there one order?"""
    known = {call.value for call in calls if call.kind == "append"}
    position = {mark: i for i, mark in enumerate(truth.marks)}
    violations = [f"a mark that nobody made: {mark}" for mark in truth.marks if mark not in known]
    if len(position) != len(truth.marks):
        violations.append(f"duplicates: {len(truth.marks) - len(position)} marks are there more than once")
    violations += [
        f"lost acknowledgement: {call.value} by {call.process}"
        for call in calls
        if call.kind == "append" and call.answered and call.value not in position
    ]
    violations += _strange_views(calls, truth)
    if not violations and (where := _unexplained(_operations(calls, truth, position), truth)):
        violations.append(where)
    return violations


def _strange_views(calls: Sequence[Call], truth: Truth) -> Iterator[str]:
    """A view must be a beginning of what the last reader saw."""
    running = blake2b(digest_size=12)
    at = {0: running.hexdigest()}
    for i, mark in enumerate(truth.marks):
        running.update((("\n" if i else "") + mark).encode())
        at[i + 1] = running.hexdigest()
    for call in calls:
        if call.seen is not None and at.get(call.seen[0]) != call.seen[1]:
            yield f"{call.process} was shown {call.seen[0]} marks that are no beginning of the last list ({call.kind})"


@dataclass(frozen=True)
class _Placed:
    """An operation whose answer is a number of marks: `count` after it; for `epoch` whether it moved."""

    kind: str
    count: int
    epoch: int
    moved: bool
    began: float
    ended: float
    name: str


def _operations(calls: Sequence[Call], truth: Truth, position: dict[str, int]) -> list[_Placed]:
    placed: list[_Placed] = []
    for call in calls:
        if call.kind == "append" and call.value in position:
            placed.append(_placed(call, position[call.value] + 1))
        elif call.kind == "read" and call.seen is not None:
            placed.append(_placed(call, call.seen[0]))
    placed += _moves(calls, truth)
    return _tightened(placed, calls)


def _placed(call: Call, count: int, *, moved: bool = False) -> _Placed:
    epoch = call.value if call.kind == "epoch" else call.epoch
    ended = call.ended if call.answered else NEVER
    return _Placed(call.kind, count, epoch, moved, call.began, ended, f"{call.kind} {call.value} by {call.process}")


def _moves(calls: Sequence[Call], truth: Truth) -> Iterator[_Placed]:
    """Moves of the epoch: answered ones, and of the unanswered ones those that the manifest's log says were made."""
    made = {call.value for call in calls if call.kind == "epoch" and call.answered and not call.refused}
    for call in calls:
        if call.kind != "epoch":
            continue
        if call.answered:
            yield _placed(call, 0, moved=not call.refused)
            continue
        move = call.value - truth.first_epoch - 1
        if call.value not in made and 0 <= move < len(truth.movers) and truth.movers[move] == call.host:
            made.add(call.value)
            yield _placed(call, 0, moved=True)


def _tightened(placed: list[_Placed], calls: Sequence[Call]) -> list[_Placed]:
    views = [(call.seen[0], call.ended) for call in calls if call.seen is not None]
    longer = _earliest(views)
    higher = _earliest([(call.epoch, call.ended) for call in calls if call.seen is not None])
    result = []
    for one in placed:
        if one.kind == "epoch":
            ended = min(one.ended, higher(one.epoch)) if one.moved else one.ended
        else:
            ended = min(one.ended, longer(one.count + (one.kind == "read")))
        result.append(replace(one, ended=ended))
    return sorted(result, key=lambda one: one.began)


def _earliest(rows: Iterable[tuple[int, float]]) -> Any:
    """A function: the earliest end among rows whose number is at least this."""
    ordered = sorted(rows, reverse=True)
    keys: list[int] = []
    ends: list[float] = []
    for number, ended in ordered:
        keys.append(-number)
        ends.append(min(ended, ends[-1] if ends else NEVER))

    def at_least(number: int) -> float:
        i = bisect_right(keys, -number)
        return ends[i - 1] if i else NEVER

    return at_least


def _unexplained(placed: list[_Placed], truth: Truth) -> str:
    """Empty if some order explains everything; else what the first stretch that cannot be explained consists of."""
    count, epoch = 0, truth.first_epoch
    for window in _windows(placed):
        grown = count + sum(one.kind == "append" for one in window)
        moved = epoch + sum(one.kind == "epoch" and one.moved for one in window)
        operations = [_operation(one, truth, count) for one in window]
        after = (truth.marks[count:grown], moved)
        end = max(one.ended if one.ended < NEVER else one.began for one in window)
        last = Operation("read", None, end + 1e-9, end + 2e-9, after)
        if any(one is None for one in operations) or not is_linearizable(
            [*(one for one in operations if one is not None), last], ((), epoch)
        ):
            names = "; ".join(f"[{one.began:.3f} {one.ended:.3f}] {one.name} → {one.count}" for one in window[:40])
            return f"not linearizable, from {count} marks and epoch {epoch} on: {names}"
        count, epoch = grown, moved
    return "" if (count, epoch) == (len(truth.marks), truth.epoch) else f"{count} marks, epoch {epoch} do not add up"


def _windows(placed: list[_Placed]) -> Iterator[list[_Placed]]:
    """Cut where nothing was under way."""
    window: list[_Placed] = []
    busy_until = -NEVER
    for one in placed:
        if window and one.began > busy_until:
            yield window
            window = []
        window.append(one)
        busy_until = max(busy_until, one.ended)
    if window:
        yield window


def _operation(one: _Placed, truth: Truth, before: int) -> Operation | None:
    """For the search; None if it was shown less than what was there before this stretch began."""
    if one.kind == "epoch":
        return Operation("epoch", one.epoch, one.began, one.ended, one.moved)
    if one.count < before:
        return None
    marks = truth.marks[before : one.count]
    if one.kind == "append":
        return Operation("append", marks[-1] if marks else "", one.began, one.ended, marks)
    return Operation("read", None, one.began, one.ended, (marks, one.epoch))
