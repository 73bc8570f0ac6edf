"""Copying the chosen head, with its pages and key slots, to every storing target without a register.

After a commit each such target gets the pages that it lacks, then a key slot that opens the head, and then the mirror
under a new name. Only then are older mirrors and unneeded pages deleted, so a writer that is killed leaves the previous
mirror readable. A slow or unreachable target is left behind after `GRACE_S`. The next commit, or `repair`, continues
there.

Invariants
    Mirroring never fails a commit, and is not part of a commit's promise. Failures are reported as the reason why a
    copy lags.
    An older mirror never replaces a newer one: names include the version, and only older versions are deleted.
    A page is deleted only if it was there before the commit of the head that does not name it began, and if this
    process has brought that target up to date before. So a page of a head that another host just chose is never
    deleted.
    A target is listed once per process. After a failure it is listed again.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping

import msgspec

from drtool.errors import DrtoolError
from drtool.manifest.context import Context, Outcome
from drtool.manifest.keyslots import SlotGuard
from drtool.manifest.library import Learned, Library, object_names
from drtool.manifest.mirror import (
    Held,
    MirrorView,
    key_of,
    look_at_mirrors,
    mirror_names,
    outdated,
    seal_mirror,
)
from drtool.manifest.names import MIRRORS, OBJECTS, MirrorName, name_in, object_key
from drtool.manifest.place import Trouble
from drtool.manifest.ports import Delete, Failed, Gather, List, Note, Put, SitePort, Talk, never
from drtool.manifest.records import Config, KeyTable
from drtool.manifest.state import State
from drtool.model import SiteName, TargetName
from drtool.paxos import Ballot

GRACE_S = 5.0
DELETES_AT_ONCE = 64
NO_ANSWER = Failed("no answer in time")

Stores = Callable[[], Mapping[TargetName, SitePort]]
"""Returns the targets that this run reached."""


Damaged = Mapping[TargetName, Collection[str]]
"""Invalid mirrors, by name."""
NONE_DAMAGED: Damaged = {}


class MirrorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The copy of the catalogue at a target. `lag`: changes behind the head that it was compared with.

    `sequence` and `time_ns`: its newest change, or None without a readable copy. `missing`: pages that it names but
    that are not there. `ahead`: it is newer than the head it was compared with. `problem`: its fault.
    """

    target: TargetName
    reachable: bool
    sequence: int | None = None
    time_ns: int | None = None
    lag: int | None = None
    missing: int = 0
    ahead: bool = False
    problem: str = ""

    @property
    def is_current(self) -> bool:
        """Return whether the catalogue can be read from it, with every change."""
        return self.is_sound and self.lag == 0

    @property
    def is_sound(self) -> bool:
        """Return whether the catalogue can be read from it, perhaps without the latest changes."""
        return self.lag is not None and not self.missing and not self.problem


class _Known(msgspec.Struct):
    """The known contents of a target: its listing and later changes. `is_current`: this process has mirrored there."""

    mirrors: set[MirrorName]
    objects: set[bytes]
    slots: KeyTable | None = None
    is_current: bool = False


def mirrored_targets(state: State) -> list[TargetName]:
    """Return the targets that should hold a mirror: those that store, and hold no voter's register."""
    registers = {voter.target for voter in state.config.voters}
    return sorted(
        row.name for row in state.targets if row.state != "lost" and not row.votes_only and row.name not in registers
    )


class Mirrors:
    """The mirrors of one repository, as written and read by one process."""

    def __init__(
        self,
        library: Library,
        stores: Stores,
        ports: MutableMapping[SiteName, SitePort],
        now_ns: Callable[[], int],
        host: str,
    ) -> None:
        self._library = library
        self._stores = stores
        self._ports = ports
        self._now_ns, self._host = now_ns, host
        self._known: dict[TargetName, _Known] = {}
        self._has_warned = False
        library.mirrors = self.places

    def places(self) -> list[SiteName]:
        """Return the names under which the targets that this run reached are asked."""
        stores = self._stores()
        self._ports.update({key_of(name): store for name, store in stores.items()})
        return [key_of(name) for name in stores]

    def mend(self, context: Context, outcome: Outcome, damaged: Damaged) -> Talk[dict[TargetName, str]]:
        """Do the same as `follow`, without a time limit and with a new listing. `damaged` mirrors are replaced and
        deleted.

        Old mirrors are deleted at targets that have a register now.
        """
        reached = set(self.places())
        names = [name for name in mirrored_targets(outcome.learned.state) if key_of(name) in reached]
        listings = {key_of(name): _listing(key_of(name), damaged.get(name, ())) for name in names}
        replies = yield Gather(listings, never)
        self._known = {name: row for name in names if isinstance(row := replies[key_of(name)], _Known)}
        failed = yield from self.follow(context, outcome, patient=True)
        for name in damaged.keys() - failed.keys() & self._known.keys():
            yield Gather({key_of(name): _delete(key_of(name), damaged[name])}, never)
        registers = {key_of(voter.target) for voter in context.config.voters} & reached
        yield Gather({place: _remove_all(place) for place in registers}, never)
        return failed

    def follow(self, context: Context, outcome: Outcome, *, patient: bool = False) -> Talk[dict[TargetName, str]]:
        """Copy a chosen head to every reachable target that mirrors, and return the reasons of those that failed."""
        reached = set(self.places())
        targets = [name for name in mirrored_targets(outcome.learned.state) if key_of(name) in reached]
        accepted = _ballot_of(outcome)
        if not targets or accepted is None:
            return {}
        made = self._now_ns(), self._host
        try:
            work = _Work(self._library, context, outcome.learned, accepted, made, patient)
            failed = yield from work.run({name: self._known.get(name) for name in targets}, self._known)
        except DrtoolError as error:
            failed = dict.fromkeys(targets, error.message)
        for name, reason in failed.items():
            self._known.pop(name, None)
            yield Note("notify", f"{name} has no copy of change {outcome.learned.head.sequence}: {reason}")
        yield from self._warn_of_recovery(context.config)
        return failed

    def _warn_of_recovery(self, config: Config) -> Talk[None]:
        """Warn once per run if a copy proves a recovery that these voters are not part of."""
        later = [
            key_of(name)
            for name, there in self._known.items()
            if any(mirror.generation > config.generation for mirror in there.mirrors)
        ]
        if not later or self._has_warned:
            return
        views = yield Gather({place: look_at_mirrors(place, self._library.keys) for place in later}, never)
        for place, view in views.items():
            held = view.held[0] if isinstance(view, MirrorView) and view.held else None
            if held is not None and held.config.generation > config.generation and not self._has_warned:
                self._has_warned = True
                voters = ", ".join(voter.target for voter in held.config.voters)
                yield Note(
                    "warning",
                    f"the catalogue was recovered elsewhere, to generation {held.config.generation} with voters at {voters},"
                    f" according to the copy at {place}, so changes committed here belong to the abandoned line: drtool connect"
                    " with a target of the new line writes a configuration for it",
                )

    def read_at(self, target: TargetName) -> Talk[Learned | None]:
        """Read the newest mirror at one target, or None if there is no valid one."""
        if key_of(target) not in self.places():
            return None
        views = yield Gather({key_of(target): look_at_mirrors(key_of(target), self._library.keys)}, never)
        view = views[key_of(target)]
        if not isinstance(view, MirrorView) or not view.held:
            return None
        return (yield from self._library.learn([key_of(target)], view.held[0].mirror.value))

    def status(self, learned: Learned, config: Config) -> Talk[list[MirrorStatus]]:
        """Compare the mirror of every target that should hold one with the head `learned` of `config`."""
        targets, reached = mirrored_targets(learned.state), set(self.places())
        there = [name for name in targets if key_of(name) in reached]
        views = yield Gather({key_of(name): _look(key_of(name), self._library) for name in there}, never)
        found = [_status_of(name, views[key_of(name)], learned, config) for name in there]
        away = [MirrorStatus(target=name, reachable=False) for name in targets if name not in there]
        return sorted([*found, *away], key=lambda row: row.target)


class _Work:
    """The copying of one head to the targets."""

    def __init__(
        self,
        library: Library,
        context: Context,
        learned: Learned,
        accepted: Ballot,
        made: tuple[int, str],
        patient: bool,
    ) -> None:
        self._library, self._learned, self._patient = library, learned, patient
        self._near = list(context.places)
        self._name, self._sealed = seal_mirror(library.keys, context.config, accepted, learned, *made)
        self._needed = object_names(learned)
        self._retired = {row.name for row in learned.checkpoint.retired} if learned.checkpoint else set()
        keyless = context.slots.keyless | {row.name for row in learned.state.targets if not row.keys}
        self._keepers = {key_of(name) for name in mirrored_targets(learned.state) if name not in keyless}
        self._guard = SlotGuard(context.slots, learned, context.config, self._keepers)

    def run(
        self, targets: Mapping[TargetName, _Known | None], known: MutableMapping[TargetName, _Known]
    ) -> Talk[dict[TargetName, str]]:
        """Return why the head is not at some of `targets`. Their contents are recorded in `known`."""
        garbage = {name: self._garbage(there) for name, there in targets.items() if there is not None}
        listings = {key_of(name): _listing(key_of(name)) for name, there in targets.items() if there is None}
        replies = yield from self._gather(listings)
        for name in targets:
            if isinstance(there := replies.get(key_of(name)), _Known):
                known[name] = there
        lacking = {bytes_ for name in targets.keys() & known.keys() for bytes_ in self._needed - known[name].objects}
        pages = yield from self._library.sealed_below(self._near, self._learned, names=lacking)
        talks = {
            key_of(name): self._bring(key_of(name), known[name], pages, garbage.get(name, ()))
            for name in targets
            if name in known
        }
        replies |= yield from self._gather(talks)
        return {
            name: reply.reason
            for name in targets
            if isinstance(reply := replies.get(key_of(name), NO_ANSWER), Failed | Trouble)
        }

    def _gather(self, talks: Mapping[SiteName, Talk[_Known | Failed | Trouble | None]]) -> Talk[dict[SiteName, object]]:
        """Run one branch per target. Unless patient, those that take longer than the grace are left behind."""
        if not talks:
            return {}
        replies = yield Gather(talks, never) if self._patient else Gather(talks, lambda _: True, GRACE_S)
        return dict(replies)

    def _garbage(self, there: _Known) -> Collection[bytes]:
        """Return the pages that were there before this head was proposed and that nothing names any more."""
        return there.objects - self._needed - self._retired if there.is_current else ()

    def _bring(
        self, place: SiteName, there: _Known, pages: Mapping[bytes, bytes], garbage: Iterable[bytes]
    ) -> Talk[Failed | Trouble | None]:
        """Store pages, then slots, then the mirror. Finally delete unneeded objects."""
        for name in sorted(pages.keys() - there.objects):
            failed = yield Put(place, object_key(name), pages[name])
            if isinstance(failed, Failed):
                return failed
            there.objects.add(name)
        if there.slots != self._learned.state.keys:
            locked = yield from self._guard.ready(place)
            if locked is not None:
                return locked
            there.slots = self._learned.state.keys
        if not any(name.version == self._name.version for name in there.mirrors):
            failed = yield Put(place, self._name.key, self._sealed)
            if isinstance(failed, Failed):
                return failed
            there.mirrors.add(self._name)
        there.is_current = True
        yield from self._clean(place, there, garbage)
        return None

    def _clean(self, place: SiteName, there: _Known, garbage: Iterable[bytes]) -> Talk[None]:
        """Delete old objects, best effort: if deletion is not allowed, they stay and harm no reader."""
        for mirror in outdated(list(there.mirrors), self._name)[:DELETES_AT_ONCE]:
            if isinstance((yield Delete(place, mirror.key)), Failed):
                return
            there.mirrors.discard(mirror)
        for name in sorted(garbage)[:DELETES_AT_ONCE]:
            if isinstance((yield Delete(place, object_key(name))), Failed):
                return
            there.objects.discard(name)


def _ballot_of(outcome: Outcome) -> Ballot | None:
    """Return the ballot under which the head was chosen."""
    value = outcome.learned.value
    return max((view.record.accepted for view in outcome.views.values() if view.record.value == value), default=None)


def _delete(place: SiteName, names: Iterable[str]) -> Talk[None]:
    for name in names:
        yield Delete(place, name)


def _remove_all(place: SiteName) -> Talk[None]:
    """Delete the mirrors at a target that has a register now. Best effort."""
    listed = yield List(place, MIRRORS)
    if not isinstance(listed, Failed):
        yield from _delete(place, [name.key for name in mirror_names(listed)])


def _listing(place: SiteName, but: Collection[str] = ()) -> Talk[_Known | Failed]:
    mirrors = yield List(place, MIRRORS)
    if isinstance(mirrors, Failed):
        return mirrors
    objects = yield List(place, OBJECTS)
    if isinstance(objects, Failed):
        return objects
    sound = [name for name in mirrors if name not in but]
    return _Known(set(mirror_names(sound)), {name for key in objects if (name := name_in(key)) is not None})


def _look(place: SiteName, library: Library) -> Talk[tuple[MirrorView, frozenset[str]] | Failed]:
    """Return the newest mirror at a place, and the pages that are listed there."""
    view = yield from look_at_mirrors(place, library.keys)
    if isinstance(view, Failed):
        return view
    objects = yield List(place, OBJECTS)
    return objects if isinstance(objects, Failed) else (view, frozenset(objects))


def _status_of(target: TargetName, found: object, learned: Learned, config: Config) -> MirrorStatus:
    if not isinstance(found, tuple):
        reason = found.reason if isinstance(found, Failed) else NO_ANSWER.reason
        return MirrorStatus(target=target, reachable=False, problem=reason)
    view, listed = found
    damaged = f"{view.faults[0].name}: {view.faults[0].reason}" if view.faults else ""
    if not view.held:
        return MirrorStatus(target=target, reachable=True, problem=damaged)
    return _compared(target, view.held[0], listed, learned, config, damaged)


def _compared(
    target: TargetName, held: Held, listed: Collection[str], learned: Learned, config: Config, damaged: str
) -> MirrorStatus:
    head, newest = held.head, learned.head
    place, now = (held.config.place, head.sequence), (config.place, newest.sequence)
    same = head.checkpoint == newest.checkpoint
    needed = object_names(learned) if same else {head.checkpoint.name} if head.checkpoint else set()
    return MirrorStatus(
        target=target,
        reachable=True,
        sequence=head.sequence,
        time_ns=max((change.time_ns for change in head.recent), default=held.mirror.time_ns),
        lag=max(0, newest.sequence - head.sequence) if held.config.generation == config.generation else None,
        missing=sum(object_key(name) not in listed for name in needed),
        ahead=place > now,
        problem=damaged,
    )
