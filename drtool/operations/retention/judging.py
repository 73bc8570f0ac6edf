"""The snapshots of one group that stay, and why.

Invariants
    Every snapshot is either kept or removed. One that is kept without a reason is dated in the future: it stays
    regardless of the rules, takes no slot, and displaces no other.
    Rules are independent: a snapshot stays if any rule keeps it. The order of the snapshots does not matter.
    A period rule keeps the newest snapshot of each of the newest periods that have one. While it has slots left, the
    group's oldest stays as well, so the history does not get shorter than the slots allow.
    Judging the kept snapshots again keeps them all. Adding a snapshot does not keep one that would have gone without it
    (except for `within`, by less than a day, where counting back meets the end of a short month or a change of clocks).

The meaning is restic's (internal/data/snapshot_policy.go, by behaviour), with two exceptions: restic lets snapshots
from the future take slots, and uses each snapshot's own time zone for its periods.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Generic

from msgspec import Struct

from drtool.config.units import UNLIMITED
from drtool.operations.retention.groups import S, age
from drtool.operations.retention.periods import BEGINNING_NS, Calendar
from drtool.operations.retention.rules import Period, Rules


class Kept(Struct, Generic[S], frozen=True):
    """A snapshot that stays. `as_oldest`: the reasons that keep it only because it is the group's oldest."""

    snapshot: S
    reasons: tuple[str, ...]
    as_oldest: tuple[str, ...] = ()
    future: bool = False


class Judgement(Struct, Generic[S], frozen=True):
    """The result for a group. Both lists are oldest first."""

    keep: tuple[Kept[S], ...]
    remove: tuple[S, ...]


class _Reason(Struct, frozen=True):
    """The reason why one rule keeps one snapshot."""

    snapshot: bytes
    words: tuple[str, ...]
    as_oldest: bool = False


def judge(snapshots: Iterable[S], rules: Rules, calendar: Calendar, now_ns: int) -> Judgement[S]:
    """Apply `rules` to the snapshots of one group. Snapshots after `now_ns` are dated in the future."""
    rows = sorted(snapshots, key=age)
    past = [row for row in reversed(rows) if row.time_ns <= now_ns]
    found: dict[bytes, list[_Reason]] = {}
    for reason in _reasons(past, rules, calendar) if past else ():
        found.setdefault(reason.snapshot, []).append(reason)
    keep = [_kept(row, found.get(row.id, []), now_ns) for row in rows if row.id in found or row.time_ns > now_ns]
    return Judgement(tuple(keep), tuple(row for row in rows if row.id not in found and row.time_ns <= now_ns))


def _kept(row: S, reasons: Sequence[_Reason], now_ns: int) -> Kept[S]:
    words = dict.fromkeys(word for reason in reasons for word in reason.words)
    oldest = dict.fromkeys(reason.words[0] for reason in reasons if reason.as_oldest)
    return Kept(row, tuple(words), tuple(oldest), future=row.time_ns > now_ns)


def _reasons(past: Sequence[S], rules: Rules, calendar: Calendar) -> Iterator[_Reason]:
    """Yield all reasons of all rules. `past` is newest first."""
    newest_ns = past[0].time_ns
    yield from _one_of_each(past, lambda row: row.id, ("last",), slots=rules.last)
    for period, number in rules.counted:
        yield from _one_of_each(past, _period_of(calendar, period), (period,), slots=number)
    if any(rules.within):
        since_ns = calendar.before(newest_ns, rules.within)
        yield from (_Reason(row.id, ("within",)) for row in past if row.time_ns > since_ns)
    for period, span in rules.recent:
        since_ns = calendar.before(newest_ns, span)
        yield from _one_of_each(past, _period_of(calendar, period), (period, "within"), since_ns=since_ns)
    yield from (_Reason(row.id, ("tag",)) for row in past if not set(rules.tags).isdisjoint(row.tags))


def _one_of_each(
    rows: Sequence[S],
    key: Callable[[S], Hashable],
    words: tuple[str, ...],
    *,
    slots: int = UNLIMITED,
    since_ns: int = BEGINNING_NS,
) -> Iterator[_Reason]:
    """Yield the newest of each kind, and then the oldest of all, while slots are left and it is not before `since_ns`."""
    seen: set[Hashable] = set()
    for row in rows:
        if slots == 0 or row.time_ns <= since_ns:
            return
        kind = key(row)
        if kind not in seen or row is rows[-1]:
            yield _Reason(row.id, words, as_oldest=kind in seen)
            seen.add(kind)
            slots -= 1


def _period_of(calendar: Calendar, period: Period) -> Callable[[S], Hashable]:
    return lambda row: calendar.period(period, row.time_ns)
