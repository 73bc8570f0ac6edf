"""The targets that this host knows: reached or offline, and what went wrong with each since.

Invariants
    A target that failed a write gets no further writes in this run; what it misses is owed to it.
    Reads may always be tried: a full or read-only target still gives what it has.
    Objects go through each target's guard (`stores/guarding`); a register only through its circuit. Guards are made once and
    shared by forked workers. All targets are opened at once; nobody waits longer than `OPEN_TIMEOUT_S` for one that hangs.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from drtool.errors import (
    DrtoolError,
    FormatError,
    ObjectMissing,
    StoreError,
    TargetBusy,
    TargetFull,
    TargetHung,
    TargetOffline,
)
from drtool.manifest.records import Target
from drtool.model import RepositoryId, SiteName, TargetName, site_of
from drtool.repository.marker import MARKER_OBJECT, Marker
from drtool.repository.overlays import NO_OVERLAYS, Overlays
from drtool.repository.places import OPEN_TIMEOUT_S, is_absent, is_directory, open_store
from drtool.repository.rehearsals import NOTHING_REMEMBERED, Rehearsals
from drtool.repository.spec import TargetSpec
from drtool.stores import UNLIMITED, Errand, Guard, Rates, VoterStore
from drtool.stores.patience import Patience
from drtool.stores.rehearsal import RehearsedStore

NO_MARKER = "it holds no repository (an unmounted disk looks like this)"
UNNAMED = "this host's configuration does not say how to reach it"

OpenStore = Callable[[TargetSpec], VoterStore]


OPENING_PAUSES_S = (0.1, 0.3, 1.0)


class Suspect(Struct, frozen=True):
    """A place that answered and has no sound marker of the target that it should be; `reason` says what its marker is."""

    spec: TargetSpec
    objects: VoterStore
    register: VoterStore
    reason: str


_Opened: TypeAlias = tuple[VoterStore, VoterStore, Marker]


class Targets:
    """Every target by name, sorted; `failures` says why a target gets no (more) writes."""

    def __init__(
        self,
        specs: Mapping[TargetName, TargetSpec],
        opener: OpenStore = open_store,
        *,
        rates: Rates = UNLIMITED,
        patience_s: float = 0.0,
        rehearsals: Rehearsals = NOTHING_REMEMBERED,
        overlays: Overlays = NO_OVERLAYS,
    ) -> None:
        self.specs = dict(sorted(specs.items()))
        self._opener = opener
        self._rates, self._patience_s = rates, patience_s
        self._process = os.getpid()
        self.tell: Callable[[str], None] = lambda _text: None
        """Takes a sentence for the user."""
        self._rehearsals = rehearsals
        self.overlays = overlays
        """The faults of drills on this host, which every store here heeds."""
        self._rehearsed: list[tuple[str, RehearsedStore]] = []
        self._guards: dict[TargetName, Guard] = {}
        self._stores: dict[TargetName, VoterStore] = {}
        self._registers: dict[TargetName, VoterStore] = {}
        self.markers: dict[TargetName, Marker] = {}
        self.failures: dict[TargetName, str] = {}
        self._away: set[TargetName] = set()
        """Servers among them that stopped answering, so that asking again later may help."""
        self.full: set[TargetName] = set()
        """Those of them that had no room left: deleting there makes some."""
        self.absent: set[TargetName] = set()
        """Targets that answered, but hold no repository at all."""
        self.lost: set[TargetName] = set()
        """Targets that the manifest has given up."""
        self.suspects: dict[TargetName, Suspect] = {}
        """Places that may be targets whose marker is missing or damaged: `recognition` looks at what lies there."""
        self.unmarked: dict[TargetName, str] = {}
        """Targets that were recognised without a sound marker, and what is wrong with it."""
        self._taken: list[VoterStore] = []
        self._arbiters: set[TargetName] = set()
        self._named: frozenset[TargetName] | None = None

    def connect(self, repository: RepositoryId | None) -> None:
        """Opens every target's store; one that is not this repository's, or another target, stays offline."""
        self._try(self.specs.values(), lambda _name: repository)

    def extend(self, spec: TargetSpec, repository: RepositoryId) -> bool:
        """One target more, or at another place than the configuration says; False, and all as it was, if it is not there."""
        before, reason, absent = self.specs.get(spec.name), self.failures.pop(spec.name, None), set(self.absent)
        suspect = self.suspects.pop(spec.name, None)
        self._try((spec,), lambda _name: repository)
        if spec.name in self._stores or before is None:
            self.specs = dict(sorted((self.specs | {spec.name: spec}).items()))
        elif reason is not None:
            self.failures[spec.name], self.absent = reason, absent
            self._suspect(spec.name, suspect)
        return spec.name in self._stores

    def _try(self, specs: Iterable[TargetSpec], repository_of: Callable[[TargetName], RepositoryId | None]) -> None:
        """Opens targets, all at once, and takes in those that are what they should be."""
        errands = {spec.name: Errand(partial(self._connect, spec, repository_of(spec.name))) for spec in specs}
        ends_at = time.monotonic() + OPEN_TIMEOUT_S
        for name, errand in errands.items():
            self._take_in(name, errand, ends_at - time.monotonic())

    def _take_in(self, name: TargetName, errand: Errand[_Opened | Suspect], timeout_s: float) -> None:
        try:
            opened = errand.result(timeout_s, "it")
        except TargetHung:
            self.failures[name] = f"it did not answer within {OPEN_TIMEOUT_S:.3g} s (a mount that hangs?)"
        except TargetOffline as error:
            if is_absent(error):
                self.absent.add(name)
            self.failures[name] = error.message
        except DrtoolError as error:  # nothing that passes by itself: what to do about it belongs to it
            self.failures[name] = _in_full(error)
        else:
            if isinstance(opened, Suspect):
                self._suspect(name, opened)
            else:
                self._stores[name], self._registers[name], self.markers[name] = opened

    def _suspect(self, name: TargetName, suspect: Suspect | None) -> None:
        before = self.suspects.pop(name, None)
        if before is not None:
            before.objects.close()
        if suspect is not None:
            self.suspects[name], self.failures[name] = suspect, suspect.reason
            if suspect.reason == NO_MARKER:
                self.absent.add(name)

    def _connect(self, spec: TargetSpec, repository: RepositoryId | None) -> _Opened | Suspect:
        medium = self._rehearse(spec, self.overlays.opened(spec, self._opener))
        try:
            guard = self._guard(spec.name)
            objects, register = guard.objects(medium), guard.register(medium)
            try:
                return objects, register, _sound_marker(medium, spec.name, repository)
            except ObjectMissing:
                return Suspect(spec, objects, register, NO_MARKER)
            except FormatError as error:
                return Suspect(spec, objects, register, _in_full(error))
        except BaseException:
            medium.close()
            raise

    def take_in(self, suspect: Suspect, name: TargetName, marker: Marker) -> None:
        """Make a suspect one of the targets, under `name`; `marker` is what its own should say."""
        before = suspect.spec.name
        self.suspects.pop(before, None)
        for known in (before, name):
            self.failures.pop(known, None)
            self.absent.discard(known)
        self.specs.pop(before, None)
        self.specs = dict(sorted((self.specs | {name: replace(suspect.spec, name=name)}).items()))
        self._stores[name], self._registers[name], self.markers[name] = suspect.objects, suspect.register, marker
        self.unmarked[name] = f"its {MARKER_OBJECT} is missing" if suspect.reason == NO_MARKER else suspect.reason

    def set_aside(self, name: TargetName, reason: str) -> None:
        """Make a target that was reached a suspect: it is offline until it is recognised."""
        self._suspect(name, Suspect(self.specs[name], self._stores.pop(name), self._registers.pop(name), reason))
        del self.markers[name]
        self.unmarked.pop(name, None)

    def is_marked(self, name: TargetName, marker: Marker) -> None:
        """Note that a target has this marker again."""
        self.markers[name] = marker
        self.unmarked.pop(name, None)

    def close_suspects(self) -> None:
        """Give up on the suspects: they stay offline in this run."""
        for suspect in self.suspects.values():
            suspect.objects.close()
        self.suspects.clear()

    def _rehearse(self, spec: TargetSpec, medium: VoterStore) -> VoterStore:
        """A place that is not this host's own is asked at once what it is always asked."""
        if is_directory(spec.url) or self._rehearsals is NOTHING_REMEMBERED:
            return medium
        rehearsed = RehearsedStore(medium, self._rehearsals.of(spec.url))
        self._rehearsed.append((spec.url, rehearsed))
        return rehearsed

    def settle(self) -> None:
        """The opening is over: nothing is asked ahead any more, and what was asked is remembered."""
        for url, rehearsed in self._rehearsed[:]:
            self._rehearsals.keep(url, rehearsed.settle())
        self._rehearsed.clear()
        self._rehearsals = NOTHING_REMEMBERED

    def _guard(self, name: TargetName) -> Guard:
        return self._guards.setdefault(name, Guard(self._rates, patience=Patience(self._patience_s)))

    def keep_only(self, authentic: Callable[[Marker], bool]) -> None:
        """Drops targets whose marker was not written by this repository."""
        for name in [n for n, marker in self.markers.items() if n not in self.unmarked and not authentic(marker)]:
            self.set_aside(name, f"its {MARKER_OBJECT} was not written by this repository")

    def drop(self, name: TargetName, reason: str) -> None:
        """Treats a target that was reached as one that was not."""
        self._forget(name)
        self.failures[name] = reason

    def reopen(self) -> "Targets":
        """The same targets through descriptors of their own, for a forked worker; one that was swapped since is offline."""
        fresh = Targets(
            self.specs, self._opener, rates=self._rates, patience_s=self._patience_s, overlays=self.overlays
        )
        fresh._guards = self._guards
        fresh.failures = dict(self.failures)
        fresh.lost, fresh._arbiters, fresh._named = self.lost, self._arbiters, self._named
        fresh._try((self.specs[name] for name in self._stores), lambda name: self.markers[name].repository_id)
        for name in self.unmarked.keys() & fresh.suspects.keys():
            fresh.take_in(fresh.suspects[name], name, self.markers[name])
            fresh.failures |= {name: self.failures[name]} if name in self.failures else {}
        fresh.close_suspects()
        for name in self._stores:
            if name in fresh.markers and fresh.markers[name] != self.markers[name]:
                fresh._forget(name)
                fresh.failures[name] = f"its {MARKER_OBJECT} is not the one that was read before"
        return fresh

    def take_register(self, name: TargetName) -> VoterStore:
        """Gives up a target at its present place, but for its register, which the caller goes on using."""
        register = self._registers.pop(name)
        self._taken.append(register)
        del self._stores[name]
        self.markers.pop(name, None)
        self.unmarked.pop(name, None)
        return register

    def _forget(self, name: TargetName) -> None:
        self._stores.pop(name).close()
        del self._registers[name], self.markers[name]
        self.unmarked.pop(name, None)

    def store(self, name: TargetName) -> VoterStore:
        """Where its objects are. TargetOffline if this run cannot reach it."""
        return self._of(self._stores, name)

    def register(self, name: TargetName) -> VoterStore:
        """The same place, for the manifest alone: nothing there is tried twice. TargetOffline if this run cannot reach it."""
        return self._of(self._registers, name)

    def _of(self, stores: Mapping[TargetName, VoterStore], name: TargetName) -> VoterStore:
        try:
            return stores[name]
        except KeyError:
            reason = self.failures.get(name, UNNAMED)
            raise TargetOffline(f"target {name} is offline: {reason}", target=name) from None

    def online(self) -> list[TargetName]:
        return list(self._stores)

    def near(self, name: TargetName) -> bool:
        """Whether it is a directory of this host, not a server across a network."""
        return is_directory(self.specs[name].url)

    def reachable(self, name: TargetName) -> bool:
        return name in self._stores

    def writable(self, name: TargetName) -> bool:
        return name in self._stores and name not in self.failures

    def sites(self) -> list[SiteName]:
        """Every site, sorted."""
        return sorted({site_of(name) for name in self.specs})

    def fail(self, name: TargetName, reason: str) -> None:
        """No further writes go there in this run; the first reason stands."""
        self.failures.setdefault(name, reason)

    def fail_by(self, name: TargetName, error: DrtoolError) -> str:
        """The same, in the error's words and with what it says to do; these words."""
        reason = _in_full(error)
        if isinstance(error, TargetFull) and name not in self.failures:
            self.full.add(name)
        if name not in self.failures and self.may_return(name, error):
            self._away.add(name)
        self.fail(name, reason)
        return reason

    def failed_before(self, name: TargetName) -> StoreError:
        """Return the error for a write that is not sent, since one before it failed. It may pass if that one may."""
        kind = TargetOffline if name in self._away else StoreError
        return kind(self.failures.get(name, "it is offline"), target=name)

    def may_return(self, name: TargetName, error: DrtoolError) -> bool:
        """Return whether `error` may pass by itself: a server did not answer. A directory of this host does not come back."""
        return isinstance(error, TargetOffline) and not self.near(name)

    def answered(self, name: TargetName) -> None:
        """Note that the target serves: an outage of it is over."""
        self._guard(name).patience.over()

    def wait_for(self, names: Iterable[TargetName], attempt: int, why: str, factor: float = 1.0) -> bool:
        """Wait a little for servers that stopped answering. False, at once: they were waited for long enough."""
        waited_for = [guard.patience for guard in map(self._guard, names) if guard.patience.may_wait(factor)]
        for patience in waited_for[1:]:
            patience.begin("")
        if waited_for:
            waited_for[0].begin(why)
            self.announce()
            waited_for[0].wait(attempt, why)
        return bool(waited_for)

    def wait_to_write(self, names: Iterable[TargetName], attempt: int) -> list[TargetName]:
        """Wait for those of `names` that stopped answering, and return those that may be written to again."""
        away = [name for name in names if name in self._away]
        why = "; ".join(f"{name}: {self.failures[name]}" for name in away)
        if not away or not self.wait_for(away, attempt, why):
            return []
        for name in away:
            self._away.discard(name)
            self.failures.pop(name, None)
        return away

    def announce(self) -> None:
        """Tell the user which servers are waited for, each outage once. Only the main thread of the command itself does."""
        if os.getpid() == self._process and threading.current_thread() is threading.main_thread():
            for guard in self._guards.values():
                if text := guard.patience.news():
                    self.tell(f"waiting for {text}")

    def learn(self, rows: Iterable[Target]) -> None:
        """What each target is for, the manifest says, whatever the configuration does."""
        known = list(rows)
        self.lost = {row.name for row in known if row.state == "lost"}
        self._arbiters = {row.name for row in known if row.votes_only}
        self._named = frozenset(row.name for row in known)

    def storing(self) -> list[TargetName]:
        """The targets that objects are counted on, sorted: neither arbiters', nor lost or removed ones that may still be read."""
        given_up = self._arbiters | self.lost
        return [name for name in self.specs if name not in given_up and (self._named is None or name in self._named)]

    def given_up(self) -> list[TargetName]:
        """The lost targets that still answer, sorted: nothing is counted on them, and what they have can be read."""
        return [
            name for name in self.specs if name in self.lost and name in self._stores and name not in self._arbiters
        ]

    def reason_for(self, site: SiteName) -> str | None:
        """Why none of a site's targets is reached; None if one is, or this host knows none."""
        names = list(self.of_site(site))
        if not names or any(map(self.reachable, names)):
            return None
        return "; ".join(dict.fromkeys(self.failures.get(name, UNNAMED) for name in names))

    def of_site(self, site: SiteName) -> Iterator[TargetName]:
        return (name for name in self.specs if site_of(name) == site)

    def close(self) -> None:
        self.close_suspects()
        for store in (*self._stores.values(), *self._taken):
            with suppress(StoreError):  # closing gives descriptors back; there is nothing that a failure could lose
                store.close()
        for guard in self._guards.values():
            guard.close()
        self._stores.clear()
        self._registers.clear()
        self._guards.clear()


def _in_full(error: DrtoolError) -> str:
    return f"{error.message}; {error.hint}" if error.hint else error.message


def _sound_marker(store: VoterStore, name: TargetName, repository: RepositoryId | None) -> Marker:
    """The marker; `FormatError` if it names another target or repository, `ObjectMissing` if there is none."""
    marker = _marker(store)
    if marker.target != name:
        raise FormatError(f"it is target {marker.target} of a repository, not {name}")
    if repository is not None and marker.repository_id != repository:
        raise FormatError(f"it belongs to another repository, {marker.repository}")
    return marker


def _marker(store: VoterStore) -> Marker:
    """Its marker. A server that is busy is asked again; one that cannot be reached is not: most of those stay so."""
    for pause_s in OPENING_PAUSES_S:
        try:
            return Marker.read(store)
        except TargetBusy:
            time.sleep(random.uniform(0.5, 1.0) * pause_s)
    return Marker.read(store)
