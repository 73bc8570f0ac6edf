"""The targets of this host: which are reached or offline, and their failures since.

Invariants
    A target that failed a write gets no further writes in this run. Its missing objects are owed to it.
    Reads may always be tried, since a full or read-only target still returns its objects.
    Objects go through each target's guard (`stores/guarding`), and a register only through its circuit. Guards are
    created once and shared by forked workers. All targets are opened at once, each within `OPEN_TIMEOUT_S`.
"""

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TypeAlias, TypeVar

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
from drtool.repository.marker import MARKER_OBJECT, Marker, sound_marker
from drtool.repository.overlays import NO_OVERLAYS, Overlays
from drtool.repository.places import OPEN_TIMEOUT_S, is_absent, is_directory, open_store
from drtool.repository.rehearsals import NOTHING_REMEMBERED, Rehearsals
from drtool.repository.spec import TargetSpec
from drtool.stores import UNLIMITED, Errand, Guard, Rates, VoterStore
from drtool.stores.patience import Patience, waiting_words
from drtool.stores.rehearsal import RehearsedStore

NO_MARKER = "it holds no repository: mount its disk, or run `drtool site replace` if that was wiped"
UNNAMED = "this host's configuration has no way to reach it"

T = TypeVar("T")
OpenStore = Callable[[TargetSpec], VoterStore]


class Suspect(Struct, frozen=True):
    """A place that answered without a valid marker of the expected target. `reason`: the fault of its marker."""

    spec: TargetSpec
    objects: VoterStore
    register: VoterStore
    reason: str


_Opened: TypeAlias = tuple[VoterStore, VoterStore, Marker]


class Targets:
    """Every target by name, sorted. `failures`: why a target gets no (more) writes."""

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
        """Accepts a sentence for the user."""
        self._rehearsals = rehearsals
        self.overlays = overlays
        """The faults of drills on this host, which every store here applies."""
        self._rehearsed: list[tuple[str, RehearsedStore]] = []
        self._guards: dict[TargetName, Guard] = {}
        self._stores: dict[TargetName, VoterStore] = {}
        self._registers: dict[TargetName, VoterStore] = {}
        self.markers: dict[TargetName, Marker] = {}
        self.failures: dict[TargetName, str] = {}
        self._away: set[TargetName] = set()
        """Servers among them that stopped answering, so that asking again later may help."""
        self.unanswered: set[TargetName] = set()
        """Servers that did not answer during the opening."""
        self.busy = False
        """Whether one of them said that it is busy."""
        self._inherited: dict[TargetName, str] = {}
        self._parted: dict[TargetName, Marker] = {}
        """For a worker: the servers that it could not open although its command had reached them."""
        self.full: set[TargetName] = set()
        """Those of them that were full. Deleting objects there frees space."""
        self.absent: set[TargetName] = set()
        """Targets that answered, but hold no repository at all."""
        self.lost: set[TargetName] = set()
        """Targets that the manifest has given up."""
        self.suspects: dict[TargetName, Suspect] = {}
        """Places that may be targets with a missing or damaged marker. `recognition` inspects their contents."""
        self.unmarked: dict[TargetName, str] = {}
        """Targets that were recognised without a valid marker, and the fault of the marker."""
        self._taken: list[VoterStore] = []
        self._arbiters: set[TargetName] = set()
        self._named: frozenset[TargetName] | None = None

    def connect(self, repository: RepositoryId | None) -> None:
        """Open every target's store. One of another repository, or of another target, stays offline."""
        self._try(self.specs.values(), lambda _name: repository)

    def extend(self, spec: TargetSpec, repository: RepositoryId) -> bool:
        """Add a target, or another place of one. Return False, with nothing changed, if it is not there."""
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
        """Open targets concurrently, and take in those that are the expected ones."""
        errands = {spec.name: Errand(partial(self._connect, spec, repository_of(spec.name))) for spec in specs}
        ends_at = time.monotonic() + OPEN_TIMEOUT_S
        for name, errand in errands.items():
            self._take_in(name, errand, ends_at - time.monotonic())

    def _take_in(self, name: TargetName, errand: Errand[_Opened | Suspect], timeout_s: float) -> None:
        try:
            opened = errand.result(timeout_s, "it")
        except TargetHung as error:
            self.failures[name] = f"it did not answer within {OPEN_TIMEOUT_S:.3g} s (a mount that hangs?)"
            self._note_silence(name, error)
        except TargetOffline as error:
            if is_absent(error):
                self.absent.add(name)
            self.failures[name] = error.message
            self._note_silence(name, error)
        except DrtoolError as error:  # it does not pass without action, so include the hint
            self.failures[name] = _in_full(error)
        else:
            if isinstance(opened, Suspect):
                self._suspect(name, opened)
            else:
                self._stores[name], self._registers[name], self.markers[name] = opened

    def _note_silence(self, name: TargetName, error: DrtoolError) -> None:
        if self.may_return(name, error):
            self.unanswered.add(name)
            self.busy |= isinstance(error, TargetBusy)

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
            guard = self.guard(spec.name)
            objects, register = guard.objects(medium), guard.register(medium)
            try:
                return objects, register, sound_marker(medium, spec.name, repository)
            except ObjectMissing:
                return Suspect(spec, objects, register, NO_MARKER)
            except FormatError as error:
                return Suspect(spec, objects, register, _in_full(error))
        except BaseException:
            medium.close()
            raise

    def take_in(self, suspect: Suspect, name: TargetName, marker: Marker) -> None:
        """Make a suspect one of the targets, under `name`. `marker`: the marker that it should have."""
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
        """Make a reached target a suspect, which is offline until it is recognised."""
        self._suspect(name, Suspect(self.specs[name], self._stores.pop(name), self._registers.pop(name), reason))
        del self.markers[name]
        self.unmarked.pop(name, None)

    def is_marked(self, name: TargetName, marker: Marker) -> None:
        """Note that a target has this marker again."""
        self.markers[name] = marker
        self.unmarked.pop(name, None)

    def close_suspects(self) -> None:
        """Give up on the suspects, which stay offline in this run."""
        for suspect in self.suspects.values():
            suspect.objects.close()
        self.suspects.clear()

    def _rehearse(self, spec: TargetSpec, medium: VoterStore) -> VoterStore:
        """Return a remote place with its usual requests sent ahead, all at once."""
        if is_directory(spec.url) or self._rehearsals is NOTHING_REMEMBERED:
            return medium
        rehearsed = RehearsedStore(medium, self._rehearsals.of(spec.url))
        self._rehearsed.append((spec.url, rehearsed))
        return rehearsed

    def settle(self) -> None:
        """End the opening: nothing is requested ahead any more, and the requests are recorded."""
        for url, rehearsed in self._rehearsed[:]:
            self._rehearsals.keep(url, rehearsed.settle())
        self._rehearsed.clear()
        self._rehearsals = NOTHING_REMEMBERED

    def guard(self, name: TargetName) -> Guard:
        """Return the guard between this command and the target."""
        return self._guards.setdefault(name, Guard(self._rates, patience=Patience(self._patience_s)))

    def keep_only(self, authentic: Callable[[Marker], bool]) -> None:
        """Drop targets with a marker that another repository wrote."""
        for name in [n for n, marker in self.markers.items() if n not in self.unmarked and not authentic(marker)]:
            self.set_aside(name, f"its {MARKER_OBJECT} was not written by this repository")

    def drop(self, name: TargetName, reason: str) -> None:
        """Treat a reached target as unreached."""
        self._forget(name)
        self.failures[name] = reason

    def reopen(self) -> "Targets":
        """Return the same targets with descriptors of their own, for a forked worker. Swapped ones are offline."""
        fresh = Targets(
            self.specs, self._opener, rates=self._rates, patience_s=self._patience_s, overlays=self.overlays
        )
        fresh._guards = self._guards
        fresh.failures, fresh._inherited, fresh._away = dict(self.failures), self.failures.copy(), set(self._away)
        fresh.lost, fresh._arbiters, fresh._named = self.lost, self._arbiters, self._named
        fresh._try((self.specs[name] for name in self._stores), lambda name: self.markers[name].repository_id)
        for name in self.unmarked.keys() & fresh.suspects.keys():
            fresh.take_in(fresh.suspects[name], name, self.markers[name])
            fresh.failures |= {name: self.failures[name]} if name in self.failures else {}
        fresh.close_suspects()
        fresh._check_unchanged(self.markers)
        for name in fresh.unanswered & self.markers.keys():
            fresh._away.add(name)
            fresh._parted[name] = self.markers[name]
        return fresh

    def _check_unchanged(self, before: Mapping[TargetName, Marker]) -> None:
        for name, marker in before.items():
            if name in self.markers and self.markers[name] != marker:
                self._forget(name)
                self.failures[name] = f"its {MARKER_OBJECT} is not the one that was read before"

    def _rejoin(self, names: Iterable[TargetName]) -> None:
        """Open those of `names` that this worker could not open yet."""
        parted = {name: self._parted[name] for name in names if name in self._parted}
        if parted:
            self._try((self.specs[name] for name in parted), lambda name: parted[name].repository_id)
            self._check_unchanged(parted)
        for name in parted.keys() & self._stores.keys():
            del self._parted[name]
            self.failures.pop(name, None)

    def take_register(self, name: TargetName) -> VoterStore:
        """Give up a target at its present place, and return its register, which the caller continues to use."""
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
        """Return the store of its objects. TargetOffline if this run cannot reach it."""
        return self._of(self._stores, name)

    def register(self, name: TargetName) -> VoterStore:
        """Return the store for the manifest, without retries. TargetOffline if this run cannot reach it."""
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
        """Return whether it is a directory of this host rather than a remote server."""
        return is_directory(self.specs[name].url)

    def reachable(self, name: TargetName) -> bool:
        return name in self._stores

    def writable(self, name: TargetName) -> bool:
        return name in self._stores and name not in self.failures

    def sites(self) -> list[SiteName]:
        """Return every site, sorted."""
        return sorted({site_of(name) for name in self.specs})

    def fail(self, name: TargetName, reason: str) -> None:
        """Send no further writes there in this run. The first reason stands."""
        self.failures.setdefault(name, reason)

    def fail_by(self, name: TargetName, error: DrtoolError) -> str:
        """Do the same with the error's message and hint, and return these words."""
        reason = _in_full(error)
        if isinstance(error, TargetFull) and name not in self.failures:
            self.full.add(name)
        if name not in self.failures and self.may_return(name, error):
            self._away.add(name)
        self.fail(name, reason)
        return reason

    def new_failures(self) -> tuple[dict[TargetName, str], list[TargetName]]:
        """Return the failures in this worker since it was forked, and which of these may come back."""
        new = {name: why for name, why in self.failures.items() if self._inherited.get(name) != why}
        return new, sorted(self._away & new.keys())

    def note_failures(self, failures: Mapping[TargetName, str], away: Iterable[TargetName]) -> None:
        """Take over the failures of a worker."""
        self._away.update(name for name in away if name not in self.failures)
        for name, reason in failures.items():
            self.fail(name, reason)

    def failed_before(self, name: TargetName) -> StoreError:
        """Return the error for a write that is not sent because an earlier one failed. It is as transient as that one."""
        kind = TargetOffline if name in self._away else StoreError
        return kind(self.failures.get(name, "it is offline"), target=name)

    def may_return(self, name: TargetName, error: DrtoolError) -> bool:
        """Return whether `error` may pass: a server did not answer. A directory of this host does not come back."""
        return isinstance(error, TargetOffline) and not is_absent(error) and not self.near(name)

    def answered(self, name: TargetName) -> None:
        """Note that the target serves, so any outage of it is over."""
        self.guard(name).patience.over()

    def wait_for(self, names: Collection[TargetName], attempt: int, why: str, factor: float = 1.0) -> bool:
        """Wait a little for servers that stopped answering. Return False at once if they were waited for long enough."""
        waited_for = [guard.patience for guard in map(self.guard, names) if guard.patience.may_wait(factor)]
        for patience in waited_for[1:]:
            patience.begin("")
        if waited_for:
            waited_for[0].begin(why)
            self.announce()
            waited_for[0].wait(attempt, why)
            self._rejoin(names)
        return bool(waited_for)

    def patiently(self, name: TargetName, call: Callable[[], T], limit_s: float | None = None) -> T:
        """Return the result of `call`, which no other target can provide. Wait for its server, at most `limit_s`."""
        factor = 1.0 if limit_s is None else min(1.0, limit_s / max(limit_s, self._patience_s))
        for attempt in count():
            try:
                answer = call()
            except StoreError as error:
                passes = self.reachable(name) and self.may_return(name, error)
                if not (passes and self.wait_for([name], attempt, f"{name}: {error.message}", factor)):
                    raise
            else:
                self.answered(name)
                return answer
        raise AssertionError("unreachable")

    def parted(self) -> list[TargetName]:
        """Return the servers that this worker could not open, although its command had reached them."""
        return list(self._parted)

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
        """Tell the user which servers are waited for, each outage once, and only in the command's own process."""
        if os.getpid() == self._process:
            for guard in self._guards.values():
                if text := guard.patience.news():
                    self.tell(waiting_words(text, guard.patience.limit_s))

    def learn(self, rows: Iterable[Target]) -> None:
        """Set the purpose of each target from the manifest, regardless of the configuration."""
        known = list(rows)
        self.lost = {row.name for row in known if row.state == "lost"}
        self._arbiters = {row.name for row in known if row.votes_only}
        self._named = frozenset(row.name for row in known)

    def storing(self) -> list[TargetName]:
        """Return the targets on which objects count, sorted. Arbiters, lost and removed targets are left out."""
        given_up = self._arbiters | self.lost
        return [name for name in self.specs if name not in given_up and (self._named is None or name in self._named)]

    def given_up(self) -> list[TargetName]:
        """Return the lost targets that still answer, sorted. Nothing counts there, but their objects can be read."""
        return [
            name for name in self.specs if name in self.lost and name in self._stores and name not in self._arbiters
        ]

    def reason_for(self, site: SiteName) -> str | None:
        """Return why none of a site's targets is reached, or None if one is or this host has none."""
        names = list(self.of_site(site))
        if not names or any(map(self.reachable, names)):
            return None
        return "; ".join(dict.fromkeys(self.failures.get(name, UNNAMED) for name in names))

    def of_site(self, site: SiteName) -> Iterator[TargetName]:
        return (name for name in self.specs if site_of(name) == site)

    def close(self) -> None:
        self.close_suspects()
        for store in (*self._stores.values(), *self._taken):
            with suppress(StoreError):  # closing only releases descriptors, so a failure loses nothing
                store.close()
        for guard in self._guards.values():
            guard.close()
        self._stores.clear()
        self._registers.clear()
        self._guards.clear()


def _in_full(error: DrtoolError) -> str:
    return f"{error.message}; {error.hint}" if error.hint else error.message
