"""The effect of a request on one state of the manifest: the value that is shown, checked and committed.

Invariants
    The same state, request and memory give the same plan, so a dry run shows the effect of a real run.
    A plan removes only snapshots that it judged, and names their hosts. The manifest refuses it if any of those hosts'
    snapshots were forgotten meanwhile. Snapshots that were added meanwhile stay.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct
from msgspec.structs import replace

from drtool.errors import DrtoolError
from drtool.manifest.ops import ForgetSnapshots
from drtool.manifest.records import HostCount, Snapshot
from drtool.manifest.state import State
from drtool.operations.forget.request import ForgetRequest, Objection
from drtool.operations.marking import held
from drtool.operations.retention import Alarm, Calendar, Group, Judgement, Kept, Rules, alarms, grouped, judge
from drtool.operations.selection import choice_words, select

HELD = "held"
"""The reason for a snapshot that stays because of a hold rather than a rule."""


class JudgedGroup(Struct, frozen=True):
    """A group and its judgement."""

    group: Group[Snapshot]
    judgement: Judgement[Snapshot]
    alarms: tuple[Alarm, ...] = ()

    named: bool = False
    """Whether the user named every snapshot that goes, which makes an empty group intended."""

    @property
    def emptied(self) -> bool:
        """Return whether the rules leave nothing. A snapshot from the future does not count."""
        future = sum(kept.future for kept in self.judgement.keep)
        left = len(self.group.snapshots) - len(self.judgement.remove) - future
        return not self.named and bool(self.judgement.remove) and not left


class Plan(Struct, frozen=True):
    """The judgement of all groups in question."""

    state: State
    groups: tuple[JudgedGroup, ...]
    held: tuple[Snapshot, ...] = ()
    """Snapshots that the user named although they are held."""
    notes: tuple[str, ...] = ()
    """Which source `latest` chose, if there were several."""

    @property
    def removed(self) -> list[Snapshot]:
        return [row for judged in self.groups for row in judged.judgement.remove]

    @property
    def alarms(self) -> list[Alarm]:
        return [alarm for judged in self.groups for alarm in judged.alarms]

    def op(self) -> ForgetSnapshots:
        """Return the change that carries it out. It applies only to the state of the snapshots that were judged."""
        touched = (judged.group for judged in self.groups if judged.judgement.remove)
        hosts = {row.host for group in touched for row in group.snapshots}
        counts = Counter(row.host for row in self.state.snapshots)
        return ForgetSnapshots(
            tuple(row.id for row in self.removed),
            judged=self.state.sequence,
            there=tuple(HostCount(host, counts[host]) for host in sorted(hosts)),
        )


def plan_forget(state: State, request: ForgetRequest, known: Callable[[str], int | None]) -> Plan:
    """Return which snapshots stay and go. `known` returns the change up to which this host has judged a group before.

    NoSuchSnapshot if a named snapshot does not exist. DrtoolError if the repository's time zone is unknown on this
    host.
    """
    if request.rules is None:
        return _by_name(state, request)
    groups = grouped(filter(request.narrowing.admits, state.snapshots), request.by)
    calendar = Calendar(zone_of(state.policy.timezone))
    must_stay = held(state, request.now_ns)
    judged = (_judged(group, request.rules, calendar, request.now_ns, known) for group in groups)
    return Plan(state, tuple(_with_held(each, must_stay) if must_stay else each for each in judged))


def _with_held(judged: JudgedGroup, must_stay: Collection[bytes]) -> JudgedGroup:
    """Return the judgement with held snapshots kept for that reason. They displace no other."""
    before = judged.judgement
    keep = [
        replace(kept, reasons=(*kept.reasons, HELD)) if kept.snapshot.id in must_stay else kept for kept in before.keep
    ]
    keep += [Kept(row, (HELD,)) for row in before.remove if row.id in must_stay]
    keep.sort(key=lambda kept: (kept.snapshot.time_ns, kept.snapshot.sequence))
    remove = tuple(row for row in before.remove if row.id not in must_stay)
    return replace(judged, judgement=Judgement(tuple(keep), remove))


def _judged(
    group: Group[Snapshot], rules: Rules, calendar: Calendar, now_ns: int, known: Callable[[str], int | None]
) -> JudgedGroup:
    found = alarms(group, rules, calendar, now_ns, known(group.name))
    return JudgedGroup(group, judge(group.snapshots, rules, calendar, now_ns), tuple(found))


def _by_name(state: State, request: ForgetRequest) -> Plan:
    """Return a plan for exactly the named snapshots, regardless of the rest of their groups.

    `latest` does not name a snapshot if several sources could be meant, so it never removes the last one of a group.
    """
    rows = list(state.snapshots)
    meant = [select(rows, name, now_ns=request.now_ns, narrowing=request.narrowing) for name in request.snapshots]
    chosen: set[bytes] = {selected.snapshot.id for selected in meant}
    named: set[bytes] = {selected.snapshot.id for selected in meant if not selected.others}
    groups = (_named(group, chosen, named) for group in grouped(rows, request.by))
    stuck = tuple(row for row in rows if row.id in chosen & held(state, request.now_ns))
    notes = tuple(filter(None, map(choice_words, meant)))
    return Plan(state, tuple(judged for judged in groups if judged.judgement.remove), held=stuck, notes=notes)


def _named(group: Group[Snapshot], chosen: Collection[bytes], named: Collection[bytes]) -> JudgedGroup:
    remove = tuple(row for row in group.snapshots if row.id in chosen)
    return JudgedGroup(group, Judgement((), remove), named=all(row.id in named for row in remove))


def objections(plan: Plan, request: ForgetRequest) -> list[Objection]:
    """Return the objections to carrying a plan out."""
    emptied = [judged.group.name for judged in plan.groups if judged.emptied]
    found = []
    if plan.held:
        what = f"held: {', '.join(row.id.hex()[:8] for row in plan.held)}"
        found.append(Objection(message=what, hint=f"end the hold: drtool hold {plan.held[0].id.hex()[:8]} --release"))
    if emptied and not request.allow_empty:
        what = f"no snapshot would be left of {_listed(emptied)}"
        found.append(Objection(message=what, hint="add --allow-empty if that is intended"))
    if plan.alarms and not request.yes:
        what = "; ".join(alarm.message for alarm in plan.alarms)
        hint = "check them with --dry-run and `drtool snapshots`, then add --yes if they are right"
        found.append(Objection(message=what, hint=hint))
    return found


def _listed(names: Iterable[str]) -> str:
    return "; nor of ".join(names)


def zone_of(name: str) -> tzinfo:
    """Return the time zone in which periods are counted. DrtoolError if this host does not have it."""
    try:
        return UTC if name == "UTC" else ZoneInfo(name)  # UTC also where no time zone data is installed
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise DrtoolError(
            f"this host has no data for time zone {name!r}, in which the repository counts days and weeks",
            hint="install the system's time zone data (tzdata; tzdata-legacy for old names), or run it on another host",
        ) from None
