"""The manifest, as the rest of the program uses it: found, read, commit.

Synchronous: each method runs one conversation to its end; no thread of it is left when it returns.
"""

import os
import time
from collections import ChainMap
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

import msgspec

from drtool.errors import Diverged, Forked, NoQuorum, NoRepository, ObjectMissing, Refused, Rejected
from drtool.manifest.audit import Problem, check_manifest
from drtool.manifest.beginning import begin_manifest
from drtool.manifest.commit import Draft, commit, read, refresh
from drtool.manifest.compacting import Compacted, clear, list_everything, preview
from drtool.manifest.context import Context, Outcome
from drtool.manifest.descent import ANOTHER_PAST, MADE_IN_ANOTHER_PAST, given_up, problem_of_descent
from drtool.manifest.drafting import Author, Drafts
from drtool.manifest.drive import DEADLINE_S, REQUEST_TIMEOUT_S, Driver, Hook, NeverWaits, Outage, no_hook
from drtool.manifest.following import Course, Reach
from drtool.manifest.inspect import LogEntry, ManifestStatus, entries, status_of
from drtool.manifest.library import Learned, Library
from drtool.manifest.lists import KeptLists
from drtool.manifest.local import MemoryCache
from drtool.manifest.mirroring import NONE_DAMAGED, Damaged, Mirrors, MirrorStatus, Stores
from drtool.manifest.offline import read_offline
from drtool.manifest.ops import Change, Compact, Op, SetVoters
from drtool.manifest.pages import NameList
from drtool.manifest.ports import Keys, LocalState, Note, PageCache, SitePort, Talk
from drtool.manifest.records import Config, Founding, Mode, ObjectList
from drtool.manifest.recovery import ALONE, Modes, Standing, Survivors, look_at_survivors, recover
from drtool.manifest.registers import RegisterReport, check_registers
from drtool.manifest.resubmission import add_again
from drtool.manifest.state import State, applied_at
from drtool.manifest.switching import Member, check_reachable, next_config
from drtool.manifest.witness import Made, Outstanding, Witness
from drtool.model import SessionId, SiteName, TargetName

T = TypeVar("T")

PATIENCE_S = 30.0


class View(msgspec.Struct, frozen=True):
    """The manifest at one sequence. `tentative`: perhaps more is confirmed elsewhere, perhaps not even this is."""

    learned: Learned
    confirmed_sequence: int
    tentative: bool = False
    problems: tuple[str, ...] = ()
    found: Mapping[SiteName, int] = {}
    """Of a tentative view: the newest change at each site that had one."""
    mirror: TargetName | None = None
    """Of a tentative view: the target whose copy of the catalogue it was read from, if it is in no register."""

    @property
    def sequence(self) -> int:
        return self.learned.head.sequence

    @property
    def digest(self) -> bytes:
        return self.learned.head.digest

    @property
    def config(self) -> Config:
        return self.learned.state.config

    @property
    def state(self) -> State:
        return self.learned.state


class Committed(msgspec.Struct, frozen=True):
    """A change is chosen: the head that a quorum confirmed, the change's own place, and its session."""

    view: View
    sequence: int
    session: SessionId


class Manifest:
    """The replicated catalogue over the voters' stores. A read or a commit waits for a quorum as long as `outage` does."""

    def __init__(
        self,
        sites: Mapping[SiteName, SitePort],
        keys: Keys,
        local: LocalState,
        *,
        cache: PageCache | None = None,
        author: Author | None = None,
        trace: Callable[[Note], None] | None = None,
        patience_s: float = PATIENCE_S,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        deadline_s: float = DEADLINE_S,
        draw: Callable[[int], bytes] = os.urandom,
        now_ns: Callable[[], int] = time.time_ns,
        hook: Hook = no_hook,
        reach: Reach | None = None,
        outage: Outage | None = None,
        keyless: Collection[TargetName] = (),
        stores: Stores = dict,
    ) -> None:
        """`stores`: the targets that this run reached; those that hold no register get a mirror of each chosen head."""
        self._sites = dict(sites)
        self._keys = keys
        self._local = local
        self._drafts = Drafts(author or Author(), draw, now_ns)
        self._patience_s = patience_s
        self._library = Library(keys, cache if cache is not None else MemoryCache())
        ports: dict[SiteName, SitePort] = {}
        self._mirrors = Mirrors(self._library, stores, ports, now_ns, self._drafts.author.host)
        self._driver = Driver(
            ChainMap(self._sites, ports),
            local,
            trace or (lambda _note: None),
            draw,
            request_timeout_s=request_timeout_s,
            deadline_s=deadline_s,
            hook=hook,
            outage=outage or NeverWaits(),
        )
        self._readmitted = False
        self._lists = KeptLists(keys)
        self._course = Course(self._sites, self._library, local, patience_s, reach, keyless)

    @classmethod
    def found(
        cls,
        sites: Mapping[SiteName, SitePort],
        keys: Keys,
        founding: Founding,
        local: LocalState,
        *,
        cache: PageCache | None = None,
        author: Author | None = None,
        trace: Callable[[Note], None] | None = None,
        stores: Stores = dict,
    ) -> "Manifest":
        """Begin a manifest at all voters of `founding`. `Refused` if one is there, `NoQuorum` if too few confirm."""
        manifest = cls(sites, keys, local, cache=cache, author=author, trace=trace, stores=stores)
        begun = manifest._driver.run(begin_manifest(founding, keys, time.time_ns(), manifest._drafts.author.host))
        local.remember(Witness(begun.config.generation, begun.config.number, config=begun.config))
        manifest.read()
        manifest.mirror()
        return manifest

    def read(self) -> View:
        """The newest chosen head, linearizably; `NoQuorum` if too few voters answer."""
        return self._driver.carry_out(self.reading)

    def read_offline(self, site: SiteName | None = None, *more: SiteName) -> View:
        """The newest authentic head at `site` (and `more`), or at any that answers; tentative."""
        return self._driver.run(self._read_offline([site, *more] if site is not None else list(self._sites)))

    def commit(self, ops: Op | Sequence[Op]) -> Committed:
        """Apply `ops` as one change set; `Rejected`, or `NoQuorum` (then it may yet be applied: repeat the same call).

        An op that belongs to no session gets an administrative one of its own, opened and closed in the same commit.
        """
        batch = tuple(ops) if isinstance(ops, Sequence) else (ops,)
        return self._driver.carry_out(lambda: self.committing(batch))

    def status(self, *, tried: bool = False) -> ManifestStatus:
        """What every acceptor says of itself; needs no quorum. `tried`: and whether it can be written."""
        return self._driver.run(self._status(tried=tried))

    def check(self) -> list[Problem]:
        """Verify every chain, digest, MAC, page and witness at every site that answers."""
        return self._driver.run(self.checking())

    def mirror(self, damaged: Damaged = NONE_DAMAGED) -> dict[TargetName, str]:
        """Bring the newest head to every target that is to hold a mirror, however long it takes; why not, where it failed."""
        return self._driver.run(self.mirroring(damaged))

    def mirrors(self, view: View) -> list[MirrorStatus]:
        """Look at the copy of the catalogue at each target that is to hold one, and compare it with `view`."""
        return self._driver.run(self._mirrors.status(view.learned, view.state.config))

    def mirror_at(self, target: TargetName) -> Learned | None:
        """Read the newest copy of the catalogue at `target`; None if there is none."""
        return self._driver.run(self._mirrors.read_at(target))

    def mirroring(self, damaged: Damaged = NONE_DAMAGED) -> Talk[dict[TargetName, str]]:
        """The conversation of `mirror`."""
        context, outcome = yield from self._course.in_force(read)
        return (yield from self._mirrors.mend(context, outcome, damaged))

    def registers(self) -> dict[SiteName, RegisterReport]:
        """Read every record of every voter's register, as its site alone tells it."""
        return self._driver.run(check_registers(self._course.newest))

    def log(self, view: View, limit: int | None = None) -> list[LogEntry]:
        """The newest `limit` changes up to `view`, newest first; None for all there ever were."""
        return self._driver.run(entries(self._library, list(self._sites), view.learned, limit))

    def refresh(self) -> View:
        """Bring acceptors that lag, or went back in time, up to date: the same head again, under a new ballot."""
        return self._driver.carry_out(self.refreshing)

    def settle(self) -> int:
        """Finish what runs of this host that died have sent and never heard of again; returns how many are in now."""
        return self._driver.carry_out(self.settling)

    def compact(self, *, dry_run: bool = False) -> Compacted:
        """Delete what no head names any more: objects, old records, ended registers."""
        return self._driver.carry_out(lambda: self.compacting(dry_run=dry_run))

    def compacting(self, *, dry_run: bool = False) -> Talk[Compacted]:
        """The conversation of `compact`."""
        view = yield from self._look()
        self._drafts.abandon(
            (Compact(),)
        )  # one that was proposed before the listing proves nothing about what is listed
        listed = yield from list_everything([voter.site for voter in view.config.voters])
        if not dry_run:
            view = (yield from self.committing((Compact(),))).view
        context = yield from self._course.context(view.config)
        if dry_run:
            return preview(listed, view.learned, context.places)
        return (yield from clear(listed, view.learned, context.places))

    def keep_names(self, names: NameList, size_bytes: int) -> ObjectList:
        """Store a list of objects, together `size_bytes`, for an op that names it; durable on a quorum. `NoQuorum`."""
        return self._driver.carry_out(lambda: self.keeping_names(names, size_bytes))

    def names_in(self, row: ObjectList, sites: Sequence[SiteName] = ()) -> NameList:
        """The names in a list that the state refers to, from `sites` or from all."""
        return self._driver.carry_out(lambda: self._library.names_in(list(sites or self._sites), row))

    def keeping_names(self, names: NameList, size_bytes: int) -> Talk[ObjectList]:
        """The conversation of `keep_names`."""
        if not (names.packs or names.segments):
            return ObjectList(b"", 0, 0, 0)
        context = yield from self._course.context()
        return (yield from self._lists.keep(context, names, size_bytes))

    def set_voters(self, members: Sequence[Member], ops: Sequence[Op] = ()) -> View:
        """Make `members` the voters, with `ops` in the same change set, and finish the switch. `Rejected`, `NoQuorum`."""
        return self._driver.run(self.setting_voters(tuple(members), tuple(ops)))

    def add_site(self, site: SiteName, port: SitePort) -> None:
        """Make known how to reach a site that was not known before."""
        self._sites[site] = port

    def setting_voters(self, members: Sequence[Member], ops: Sequence[Op] = ()) -> Talk[View]:
        """The conversation of `set_voters`."""
        view = yield from self._look()
        config = yield from next_config(view.state.config, members)
        if not ops and config.voters == view.state.config.voters:
            return view
        yield from check_reachable(view.state.config, config)
        return (yield from self.committing((*ops, SetVoters(config)))).view

    def refreshing(self) -> Talk[View]:
        """The conversation of `refresh`."""
        witness = self._local.witness()
        context, outcome = yield from self._course.in_force(read)
        problem = yield from problem_of_descent(self._library, list(context.places), witness, outcome.learned)
        if problem is not None:
            raise Diverged(problem, hint=ANOTHER_PAST)
        context, outcome = yield from self._course.in_force(refresh)
        view = yield from self._confirmed(context, outcome, (), witness)
        yield from self._mirrors.follow(context, outcome)
        yield from self._readmit(view, outcome.lapsed)
        return view

    def _readmit(self, view: View, lapsed: Sequence[SiteName]) -> Talk[None]:
        """Voters without their memory begin a new life, in a new configuration: wiped, set back, or away when theirs began.

        Not in this one: who knows what they have promised in it. Once a run and best effort: the next run tries again.
        """
        if not lapsed or self._readmitted:
            return
        self._readmitted = True
        members = [Member(row.site, row.target, row.mode, fresh=row.site in lapsed) for row in view.config.voters]
        try:
            yield from self.setting_voters(members)
        except (NoQuorum, Rejected) as error:
            yield Note("notify", f"{', '.join(lapsed)} cannot begin to vote again yet: {error.message}")

    def checking(self) -> Talk[list[Problem]]:
        """The conversation of `check`."""
        return (yield from check_manifest(self._course.newest))

    def _status(self, *, tried: bool) -> Talk[ManifestStatus]:
        context, fork = yield from self._course.newest()
        status = yield from status_of(context, tried=tried)
        return msgspec.structs.replace(status, problem=fork.message if fork else None)

    def settling(self) -> Talk[int]:
        """The conversation of `settle`."""
        count = 0
        for entry in self._local.outstanding():
            try:
                yield from self._commit(_again(entry), resumed=True)
            except Rejected:
                continue  # it never was in the manifest, and now it never will be
            count += 1
        return count + (yield from self._bring_back())

    def _bring_back(self) -> Talk[int]:
        """Add again what a forced recovery gave up of this host's acknowledged snapshots."""

        def look() -> Talk[Learned]:
            return (yield from self._look()).learned

        known = (self._local, self._library, list(self._sites), self._drafts.author, look, self.committing)
        return (yield from add_again(*known))

    def recover(self, sites: Sequence[SiteName], modes: Modes | None = None, more: Standing = ALONE) -> View:
        """Go on from what `sites` hold, in a new generation, because a majority is lost for ever.

        `Refused` while a quorum answers. Writes that only the lost sites acknowledged are given up. `modes`: how the media at
        hand let a register move on; a voter on a medium of another kind than its register was made for cannot answer.
        `more`: voters beside the survivors.
        """
        return self._driver.run(self.recovering(tuple(sites), modes, more))

    def survivors(self, sites: Sequence[SiteName]) -> Survivors:
        """What a recovery from `sites` would find; nothing is written."""
        return self._driver.run(look_at_survivors(self._library, sites, self._others(sites)))

    def recovering(self, sites: Sequence[SiteName], modes: Modes | None = None, more: Standing = ALONE) -> Talk[View]:
        """The conversation of `recover`."""
        modes = modes or {}
        yield from self._refuse_if_whole(modes)
        draft, others, slots = self._drafts.draft, self._others(sites), self._course.slots()
        config = yield from recover(self._library, sites, others, draft, self._patience_s, slots, modes, more)
        witness = self._local.witness()
        context, outcome = yield from self._course.in_force(read, config)
        view = yield from self._confirmed(context, outcome, (), witness)
        yield from self._mirrors.follow(context, outcome)
        return view

    def _refuse_if_whole(self, modes: Mapping[SiteName, Mode]) -> Talk[None]:
        """Unless the voters agree on another past than this host saw: to accept that one is what a recovery is for, too."""
        witness = self._local.witness()
        try:
            view = yield from self._look()
        except (NoQuorum, NoRepository, Forked):
            return
        if (yield from problem_of_descent(self._library, list(self._sites), witness, view.learned)) is not None:
            return
        if sum(row.suits(modes.get(row.site, row.mode)) for row in view.config.voters) < view.config.quorum:
            return
        raise Refused(
            f"{view.config.quorum} of {len(view.config.voters)} voters agree: nothing needs to be recovered",
            hint="to change a voter that is gone: drtool site replace OLD NEW=URL",
        )

    def _others(self, sites: Sequence[SiteName]) -> list[SiteName]:
        return [site for site in self._sites if site not in sites]

    def reading(self) -> Talk[View]:
        """The conversation of `read`."""
        return (yield from self._look(tells=True))

    def _look(self, *, tells: bool = False) -> Talk[View]:
        """The newest chosen head; unless it `tells`, what a recovery gave up is kept for the next view that is shown."""
        try:
            return (yield from self._read(tells, strict=True))
        except ObjectMissing:  # a page that was replaced and removed while we read: the newest head names others
            return (yield from self._read(tells))

    def _read(self, tells: bool, *, strict: bool = False) -> Talk[View]:
        witness = self._local.witness()
        context, outcome = yield from self._course.in_force(read)
        places, learned = list(context.places), outcome.learned
        problem = yield from problem_of_descent(self._library, places, witness, learned, strict=strict)
        return (yield from self._confirmed(context, outcome, (problem,) if problem else (), witness, tells=tells))

    def _read_offline(self, sites: Sequence[SiteName]) -> Talk[View]:
        witness, places = self._local.witness(), self._mirrors.places()
        found = yield from read_offline(self._library, sites, list(self._sites), places, witness)
        return View(found.learned, witness.sequence, True, found.problems, found.by_site, found.mirror)

    def committing(self, batch: Sequence[Op]) -> Talk[Committed]:
        """The conversation of `commit`."""
        pending = self._drafts.pending(batch)
        draft: Draft = (lambda _: pending) if pending else lambda state: self._drafts.draft(batch, state)
        try:
            committed = yield from self._commit(draft, resumed=bool(pending))
        except Rejected:
            self._drafts.settle(batch)
            raise
        self._drafts.settle(batch)
        return committed

    def _commit(self, draft: Draft, *, resumed: bool) -> Talk[Committed]:
        """Commit, and leave what a recovery gave up to the next read: the view of a commit is shown to no person."""
        witness = self._local.witness()
        drafted: list[tuple[Change, ...]] = []

        def once(state: State) -> tuple[Change, ...]:
            if not drafted:
                drafted.append(draft(state))
            return drafted[0]

        def talk(context: Context) -> Talk[Outcome]:
            yield from self._lists.keep_at(context)
            return (yield from commit(context, once, resumed=resumed or bool(drafted)))

        try:
            context, outcome = yield from self._course.in_force(talk)
        except Rejected:
            self._settle(drafted)
            raise
        # others may have committed our change, upon a head that denies what this host saw
        problem = yield from problem_of_descent(self._library, list(context.places), witness, outcome.learned)
        view = yield from self._confirmed(context, outcome, (problem,) if problem else (), witness, tells=False)
        last = drafted[-1][-1]
        sequence = applied_at(view.state, last.session, last.counter) or view.sequence
        self._settle(drafted, context.config.generation, sequence)
        if problem:
            raise Diverged(problem, hint=MADE_IN_ANOTHER_PAST)
        yield from self._mirrors.follow(context, outcome)
        yield from self._readmit(view, outcome.lapsed)
        return Committed(view, sequence, last.session)

    def _settle(self, drafted: Sequence[tuple[Change, ...]], generation: int = 0, sequence: int | None = None) -> None:
        for changes in drafted:
            made = None if sequence is None else Made(generation, sequence, changes)
            self._local.settle(Outstanding(changes), made)

    def _confirmed(
        self,
        context: Context,
        outcome: Outcome,
        problems: tuple[str, ...],
        before: Witness | None = None,
        *,
        tells: bool = True,
    ) -> Talk[View]:
        """What a quorum confirmed, remembered by this host unless it contradicts what it remembers (`before`)."""
        head = outcome.learned.head
        if not problems:
            loss = given_up(before, outcome.learned) if before is not None else None
            if tells or loss is None:
                self._local.remember(outcome.witness(context.config))
            problems = (loss,) if loss else ()
        yield Note("confirm", f"change {head.sequence}, digest {head.digest[:8].hex()}")
        return View(outcome.learned, head.sequence, problems=problems)


def _again(entry: Outstanding) -> Draft:
    return lambda _state: entry.changes
