"""The alarm that stops retention when new snapshots may have been added to make the rules drop old ones.

An attacker or a faulty host that can add snapshots but not remove any (credentials that may not delete, a clock that
fell back to 1970, a runaway job) controls through dates and numbers which snapshots retention drops. Therefore the
snapshots that were added to a group since this host last judged it are checked:

    back-dated   One is dated more than a day before a snapshot that the manifest recorded earlier, and without the new
    ones of this kind some snapshot would stay that goes now. A new snapshot that is dropped at once because of its
    early date counts as well. More than an hour is enough if at least three snapshots would go, and more than a third
    of those that would stay.
    flood        More than a third, and at least three, of the snapshots that the same rules would keep without the new
    ones would go, and only `last` kept them. They cover more than a day, and the new ones were added in less than a
    third of that time. (Period rules cannot be flooded: honest dates never end a period before its time.)

Invariants
    When a host judges a group for the first time, nothing is new. So a new or stricter policy gives no alarm.
    Backups at the group's own rhythm give no alarm, regardless of their number.
    Snapshots from the future neither give an alarm nor make another one back-dated.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from drtool.operations.retention.groups import Group, S, age
from drtool.operations.retention.judging import judge
from drtool.operations.retention.periods import Calendar
from drtool.operations.retention.rules import Rules

HOUR_NS = 3600 * 10**9
DAY_NS = 24 * HOUR_NS
FEWEST_PUSHED = 3
SHARE = 3
"""One third of the snapshots, in one third of the time."""

AlarmKind: TypeAlias = Literal["back-dated", "flood"]


class Alarm(Struct, frozen=True):
    """`added`: the suspicious new snapshots. `pushed`: the ids that would go because of them, oldest first."""

    kind: AlarmKind
    group: str
    added: tuple[bytes, ...]
    pushed: tuple[bytes, ...]
    message: str


def alarms(group: Group[S], rules: Rules, calendar: Calendar, now_ns: int, known: int | None) -> list[Alarm]:
    """Return the alarms of a group. `known`: the last change that this host had judged, or None if it never judged it."""
    past = [row for row in group.snapshots if row.time_ns <= now_ns]
    new = [row for row in past if known is not None and row.sequence > known]
    if not new:
        return []
    going = {row.id: row for row in judge(past, rules, calendar, now_ns).remove}
    if not going:
        return []
    before = judge(_without(past, new), rules, calendar, now_ns)
    stayed = [kept.snapshot for kept in before.keep]
    found: list[Alarm] = []
    for late, fewest in ((_late(past, new, DAY_NS), 1), (_late(past, new, HOUR_NS), _many(stayed))):
        if not late or found:
            continue
        rest = judge(_without(past, late), rules, calendar, now_ns)
        pushed = _without(going.values(), rest.remove)
        if len(pushed) >= fewest:
            found.append(_back_dated(group, late, pushed))
    pushed = [kept.snapshot for kept in before.keep if kept.reasons == ("last",) and kept.snapshot.id in going]
    return found + _flood(group, new, stayed, pushed)


def _many(stayed: Sequence[S]) -> int:
    """Return how many of these are more than a third, and at least three."""
    return max(FEWEST_PUSHED, len(stayed) // SHARE + 1)


def _late(past: Sequence[S], new: Iterable[S], slack_ns: int) -> list[S]:
    """Return the new snapshots dated more than `slack_ns` before one that was recorded earlier."""
    newest_ns: dict[bytes, int] = {}
    so_far_ns = past[0].time_ns
    for row in sorted(past, key=lambda row: row.sequence):
        newest_ns[row.id] = so_far_ns
        so_far_ns = max(so_far_ns, row.time_ns)
    return [row for row in new if row.time_ns < newest_ns[row.id] - slack_ns]


def _back_dated(group: Group[S], late: Sequence[S], pushed: Sequence[S]) -> Alarm:
    message = (
        f"{group.name}: {_count(late)} added since the last run {_are(late)} dated long before snapshots that were "
        f"recorded earlier, and would cause {_count(pushed)} to be removed"
    )
    return Alarm("back-dated", group.name, _ids(late), _ids(pushed), message)


def _flood(group: Group[S], new: Sequence[S], stayed: Sequence[S], pushed: Sequence[S]) -> list[Alarm]:
    if len(pushed) < _many(stayed):
        return []
    newest_ns = max(row.time_ns for row in stayed)
    lost_ns = newest_ns - min(row.time_ns for row in pushed)
    took_ns = max(0, max(row.time_ns for row in new) - newest_ns)
    if lost_ns <= DAY_NS or SHARE * took_ns >= lost_ns:
        return []
    message = (
        f"{group.name}: {_count(new)} added since the last run would push out {len(pushed)} of {len(stayed)} that "
        f"would stay: {_time(took_ns)} of new snapshots would end a history of {_time(lost_ns)}"
    )
    return [Alarm("flood", group.name, _ids(new), _ids(pushed), message)]


def _without(rows: Iterable[S], others: Iterable[S]) -> list[S]:
    gone = {row.id for row in others}
    return [row for row in rows if row.id not in gone]


def _ids(rows: Iterable[S]) -> tuple[bytes, ...]:
    return tuple(row.id for row in sorted(rows, key=age))


def _count(rows: Sequence[S]) -> str:
    return "1 snapshot" if len(rows) == 1 else f"{len(rows):,} snapshots"


def _are(rows: Sequence[S]) -> str:
    return "is" if len(rows) == 1 else "are"


def _time(span_ns: int) -> str:
    hours = span_ns // HOUR_NS
    return f"{hours // 24} days" if hours >= 48 else f"{hours} hours"
