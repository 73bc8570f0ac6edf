"""The decision whether a fault may be injected: every guard against every victim, in advance.

Invariants
    A refusal names the guard, the victim and the exceeded number. An unknown state is refused.
    Victims are judged in order. Allowed victims count for the following ones, and so do the active faults of all runs.
    Losing the manifest's quorum is refused unless a guard explicitly allows it.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta

from msgspec import Struct

from drtool.model import FaultKind, SiteName, TargetName, site_of
from drtool.plans.faults.windows import Window, closing_time

MUTES = frozenset({"offline", "read-only", "full"})
"""The faults that make a voter's register unwritable."""
REGISTER = "manifest/acc/"


class ObjectFacts(Struct, frozen=True, kw_only=True):
    """An object that is corrupted or will be: its size, and the targets with a good copy of it."""

    name: str
    size_bytes: int
    copies: frozenset[TargetName]


class CopyGroup(Struct, frozen=True, kw_only=True):
    """The number of objects of which exactly these targets hold good copies."""

    copies: frozenset[TargetName]
    objects: int


class Victim(Struct, frozen=True, kw_only=True):
    """A target for a fault. For `corrupt`, also the objects there."""

    target: TargetName
    objects: tuple[ObjectFacts, ...] = ()


class Active(Struct, frozen=True, kw_only=True):
    """A fault that is already active."""

    run: str
    kind: FaultKind
    victim: Victim


class FaultRequest(Struct, frozen=True, kw_only=True):
    run: str
    kind: FaultKind
    victims: tuple[Victim, ...]
    duration_s: float


class Voter(Struct, frozen=True, kw_only=True):
    """A voting site, and the target that holds its register."""

    site: SiteName
    target: TargetName
    reachable: bool


class Facts(Struct, frozen=True, kw_only=True):
    """The current state. `groups` covers every object of the repository, by the targets that hold it."""

    now: datetime
    sites: frozenset[SiteName]
    voters: tuple[Voter, ...]
    quorum: int
    groups: tuple[CopyGroup, ...]
    active: tuple[Active, ...] = ()
    kill_switch: str = ""
    """The path of the kill switch that is on, or an empty string."""


class Guards(Struct, frozen=True, kw_only=True):
    """The limits that a plan sets. None: no limit."""

    only_sites: frozenset[SiteName] | None = None
    never_sites: frozenset[SiteName] = frozenset()
    max_sites_affected: int | None = None
    min_healthy_copies: int = 1
    """The copies, on other sites, of every object that a fault touches while it is active."""
    max_objects: int | None = None
    max_bytes: int | None = None
    max_duration_s: float | None = None
    windows: tuple[Window, ...] = ()
    quorum_may_be_lost: bool = False


class Ruling(Struct, frozen=True, kw_only=True):
    """The decision about one victim. `guard` and `reason` are empty if it is allowed."""

    target: TargetName
    objects: tuple[str, ...] = ()
    allowed: bool
    guard: str = ""
    reason: str = ""


class _Case(Struct, frozen=True, kw_only=True):
    """One victim before the guards, with all other active and allowed faults."""

    request: FaultRequest
    facts: Facts
    guards: Guards
    victim: Victim
    before: tuple[Active, ...]

    @property
    def site(self) -> SiteName:
        return site_of(self.victim.target)

    @property
    def after(self) -> tuple[Active, ...]:
        """The active faults including this victim."""
        return (*self.before, Active(run=self.request.run, kind=self.request.kind, victim=self.victim))


def judge(request: FaultRequest, facts: Facts, guards: Guards) -> tuple[Ruling, ...]:
    """Return one ruling for each victim, in order."""
    before, rulings = facts.active, []
    for victim in request.victims:
        case = _Case(request=request, facts=facts, guards=guards, victim=victim, before=before)
        ruling = _ruling(case)
        rulings.append(ruling)
        if ruling.allowed:
            before = case.after
    return tuple(rulings)


def refusals(rulings: Iterable[Ruling]) -> tuple[str, ...]:
    """Return the reasons of the refused victims. If empty, the fault may be injected."""
    return tuple(ruling.reason for ruling in rulings if not ruling.allowed)


def _ruling(case: _Case) -> Ruling:
    names = tuple(each.name for each in case.victim.objects)
    for guard, check in _CHECKS.items():
        for problem in check(case):
            return Ruling(
                target=case.victim.target,
                objects=names,
                allowed=False,
                guard=guard,
                reason=f"guard {guard} refuses {case.request.kind} at {case.victim.target}: {problem}",
            )
    return Ruling(target=case.victim.target, objects=names, allowed=True)


def _kill_switch(case: _Case) -> Iterator[str]:
    if case.facts.kill_switch:
        yield f"{case.facts.kill_switch} exists"


def _known(case: _Case) -> Iterator[str]:
    if case.site not in case.facts.sites:
        yield f"there is no site {case.site}; the sites are {_list(case.facts.sites)}"
    if case.request.kind == "corrupt" and not case.victim.objects:
        yield "it names no objects to corrupt"


def _only_sites(case: _Case) -> Iterator[str]:
    only = case.guards.only_sites
    if only is not None and case.site not in only:
        yield f"only {_list(only) or 'no site'} may be affected"


def _never_sites(case: _Case) -> Iterator[str]:
    if case.site in case.guards.never_sites:
        yield f"site {case.site} must never be affected"


def _sites_affected(case: _Case) -> Iterator[str]:
    limit = case.guards.max_sites_affected
    others = {site_of(active.victim.target) for active in case.before} - {case.site}
    if limit is not None and len(others) + 1 > limit:
        yield f"with {_list(others) or 'it'} it affects {len(others) + 1} sites, more than the limit of {limit}"


def _duration(case: _Case) -> Iterator[str]:
    limit_s = case.guards.max_duration_s
    if not case.request.duration_s > 0:
        yield f"it would last {case.request.duration_s:g} s"
    elif limit_s is not None and case.request.duration_s > limit_s:
        yield f"it would last {case.request.duration_s:g} s, more than the limit of {limit_s:g} s"


def _windows(case: _Case) -> Iterator[str]:
    windows, now = case.guards.windows, case.facts.now
    if not windows:
        return
    closing = [at for window in windows if (at := closing_time(window, now)) is not None]
    if not closing:
        yield f"{now:%a %H:%M %Z} is outside the windows {', '.join(window.text for window in windows)}"
        return
    ends = now + timedelta(seconds=case.request.duration_s)
    if ends > max(closing):
        local = max(closing).astimezone(now.tzinfo)
        yield f"it would last until {ends:%a %H:%M %Z}, but the window closes at {local:%a %H:%M}"


def _objects(case: _Case) -> Iterator[str]:
    limit, count = case.guards.max_objects, sum(1 for _ in _own_objects(case))
    if limit is not None and count > limit:
        yield f"this run would corrupt {count} objects, more than the limit of {limit}"


def _bytes(case: _Case) -> Iterator[str]:
    limit_bytes, size_bytes = case.guards.max_bytes, sum(each.size_bytes for each in _own_objects(case))
    if limit_bytes is not None and size_bytes > limit_bytes:
        yield f"this run would corrupt objects of {size_bytes} bytes, more than the limit of {limit_bytes}"


def _own_objects(case: _Case) -> Iterator[ObjectFacts]:
    return (each for active in case.after if active.run == case.request.run for each in active.victim.objects)


def _healthy_copies(case: _Case) -> Iterator[str]:
    """Check that all data made unreadable keeps enough good copies on other sites, with all active faults included."""
    least = case.guards.min_healthy_copies
    if case.request.kind not in {"offline", "corrupt"}:
        return
    away = frozenset(active.victim.target for active in case.after if active.kind == "offline")
    rotten = _rotten(case.after)
    for each in _touched(case, away):
        left = {site_of(target) for target in each.copies - away - rotten.get(each.name, frozenset())} - {case.site}
        if len(left) < least:
            yield f"object {each.name} would have {len(left)} good copies on other sites instead of {least}"
            return
    if case.request.kind == "offline":
        for group in case.facts.groups:
            left = {site_of(target) for target in group.copies - away} - {case.site}
            if case.victim.target in group.copies and len(left) < least:
                yield f"{group.objects} objects would have {len(left)} good copies on other sites instead of {least}"
                return


def _touched(case: _Case, away: frozenset[TargetName]) -> Iterator[ObjectFacts]:
    """Yield the objects that this fault may make unreadable: its own, and for a lost target those corrupted elsewhere."""
    yield from case.victim.objects
    if case.victim.target in away:
        yield from (
            each for active in case.before for each in active.victim.objects if case.victim.target in each.copies
        )


def _rotten(faults: Iterable[Active]) -> dict[str, frozenset[TargetName]]:
    """Return, by object, the targets where it is read corrupted."""
    found: dict[str, frozenset[TargetName]] = {}
    for active in faults:
        for each in active.victim.objects:
            found[each.name] = found.get(each.name, frozenset()) | {active.victim.target}
    return found


def _quorum(case: _Case) -> Iterator[str]:
    if case.guards.quorum_may_be_lost or not any(_mutes(case.after[-1], voter) for voter in case.facts.voters):
        return
    left = [
        voter.site
        for voter in case.facts.voters
        if voter.reachable and not any(_mutes(active, voter) for active in case.after)
    ]
    if len(left) < case.facts.quorum:
        total = len(case.facts.voters)
        yield (f"it holds one of {total} votes; {len(left)} would be left, but the manifest needs {case.facts.quorum}")


def _mutes(active: Active, voter: Voter) -> bool:
    """Return whether a fault keeps a voter from voting."""
    if active.victim.target != voter.target:
        return False
    return active.kind in MUTES or any(each.name.startswith(REGISTER) for each in active.victim.objects)


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


_CHECKS: dict[str, Callable[[_Case], Iterator[str]]] = {
    "kill_switch": _kill_switch,
    "victim": _known,
    "only_sites": _only_sites,
    "never_sites": _never_sites,
    "max_sites_affected": _sites_affected,
    "max_duration": _duration,
    "windows": _windows,
    "max_objects": _objects,
    "max_bytes": _bytes,
    "min_healthy_copies": _healthy_copies,
    "quorum": _quorum,
}
