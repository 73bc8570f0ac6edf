"""The synchronous interface to the manifest: found, read, commit.

Each method runs one conversation to its end. None of its threads is left when it returns.
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
    """The manifest at one sequence. `tentative`: more may be confirmed elsewhere, or not even this."""

    learned: Learned
    confirmed_sequence: int
    tentative: bool = False
    problems: tuple[str, ...] = ()
    found: Mapping[SiteName, int] = {}
    """For a tentative view: the newest change at each site that has one."""
    mirror: TargetName | None = None
    """For a tentative view: the target whose copy of the catalogue it was read from, if from no register."""

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
    """A chosen change: the head that a quorum confirmed, the change's own sequence, and its session."""

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
        """`stores`: the reachable targets. Those without a register get a mirror of each chosen head."""
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
        """Create a manifest at all voters of `founding`. `Refused` if one exists, `NoQuorum` if too few confirm."""
        manifest = cls(sites, keys, local, cache=cache, author=author, trace=trace, stores=stores)
        begun = manifest._driver.run(begin_manifest(founding, keys, time.time_ns(), manifest._drafts.author.host))
        local.remember(Witness(begun.config.generation, begun.config.number, config=begun.config))
        manifest.read()
        manifest.mirror()
        return manifest

    def read(self) -> View:
        """Return the newest chosen head, linearizably. `NoQuorum` if too few voters answer."""
        return self._driver.carry_out(self.reading)

    def read_offline(self, site: SiteName | None = None, *more: SiteName) -> View:
        """Return the newest authentic head at `site` (and `more`), or at any site that answers, as a tentative view."""
        return self._driver.run(self._read_offline([site, *more] if site is not None else list(self._sites)))

    def commit(self, ops: Op | Sequence[Op]) -> Committed:
        """Apply `ops` as one change set. `Rejected`, or `NoQuorum` (it may still be applied then: repeat the same
        call).

        An op without a session gets an administrative one of its own, opened and closed in the same commit.
        """
        batch = tuple(ops) if isinstance(ops, Sequence) else (ops,)
        return self._driver.carry_out(lambda: self.committing(batch))

    def status(self, *, tried: bool = False) -> ManifestStatus:
        """Return what every acceptor reports, without needing a quorum. `tried`: also test writing."""
        return self._driver.run(self._status(tried=tried))

    def check(self) -> list[Problem]:
        """Verify every chain, digest, MAC, page and witness at every site that answers."""
        return self._driver.run(self.checking())

    def mirror(self, damaged: Damaged = NONE_DAMAGED) -> dict[TargetName, str]:
        """Copy the newest head to every target that should hold a mirror, without a time limit. Return the failures."""
        return self._driver.run(self.mirroring(damaged))

    def mirrors(self, view: View) -> list[MirrorStatus]:
        """Compare the copy of the catalogue at each target that should hold one with `view`."""
        return self._driver.run(self._mirrors.status(view.learned, view.state.config))

    def mirror_at(self, target: TargetName) -> Learned | None:
        """Read the newest copy of the catalogue at `target`, or None if there is none."""
        return self._driver.run(self._mirrors.read_at(target))

    def mirroring(self, damaged: Damaged = NONE_DAMAGED) -> Talk[dict[TargetName, str]]:
        """The conversation of `mirror`."""
        context, outcome = yield from self._course.in_force(read)
        return (yield from self._mirrors.mend(context, outcome, damaged))

    def registers(self) -> dict[SiteName, RegisterReport]:
        """Read every record of every voter's register, as that site alone presents it."""
        return self._driver.run(check_registers(self._course.newest))

    def log(self, view: View, limit: int | None = None) -> list[LogEntry]:
        """Return the newest `limit` changes up to `view`, newest first, or all with None."""
        return self._driver.run(entries(self._library, list(self._sites), view.learned, limit))

    def refresh(self) -> View:
        """Bring acceptors that lag, or went back in time, up to date: the same head again, under a new ballot."""
        return self._driver.carry_out(self.refreshing)

    def settle(self) -> int:
        """Finish changes that dead runs of this host sent. Return how many are now applied."""
        return self._driver.carry_out(self.settling)

    def compact(self, *, dry_run: bool = False) -> Compacted:
        """Delete objects that no head names, old records and ended registers."""
        return self._driver.carry_out(lambda: self.compacting(dry_run=dry_run))

    def compacting(self, *, dry_run: bool = False) -> Talk[Compacted]:
        """The conversation of `compact`."""
        view = yield from self._look()
        self._drafts.abandon((Compact(),))  # a proposal from before the listing proves nothing about the listed objects
        listed = yield from list_everything([voter.site for voter in view.config.voters])
        if not dry_run:
            view = (yield from self.committing((Compact(),))).view
        context = yield from self._course.context(view.config)
        if dry_run:
            return preview(listed, view.learned, context.places)
        return (yield from clear(listed, view.learned, context.places))

    def keep_names(self, names: NameList, size_bytes: int) -> ObjectList:
        """Store a list of objects of `size_bytes` in total, durable on a quorum, for an op that names it. `NoQuorum`."""
        return self._driver.carry_out(lambda: self.keeping_names(names, size_bytes))

    def names_in(self, row: ObjectList, sites: Sequence[SiteName] = ()) -> NameList:
        """Return the names in a list that the state refers to, from `sites` or from all."""
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
        """Add a site and its port."""
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
        """Readmit voters that lost their state, or were away when theirs began, under new incarnations.

        This needs a new configuration, since their promises in this one are unknown. Once per run, best effort.
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
                continue  # it was never in the manifest, and now it never will be
            count += 1
        return count + (yield from self._bring_back())

    def _bring_back(self) -> Talk[int]:
        """Add this host's acknowledged snapshots again that a forced recovery gave up."""

        def look() -> Talk[Learned]:
            return (yield from self._look()).learned

        known = (self._local, self._library, list(self._sites), self._drafts.author, look, self.committing)
        return (yield from add_again(*known))

    def recover(self, sites: Sequence[SiteName], modes: Modes | None = None, more: Standing = ALONE) -> View:
        """Continue from what `sites` hold, in a new generation, because a majority is lost for good.

        `Refused` while a quorum answers. Writes that only the lost sites acknowledged are given up. `modes`: the update
        modes that the available media support. A voter on a medium of another kind than its register was made for
        cannot answer.
        `more`: voters in addition to the survivors.
        """
        return self._driver.run(self.recovering(tuple(sites), modes, more))

    def survivors(self, sites: Sequence[SiteName]) -> Survivors:
        """Return what a recovery from `sites` would find. Nothing is written."""
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
        """Refuse if a quorum agrees, unless its history contradicts what this host saw, which a recovery may accept."""
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
        """Return the newest chosen head. Only if it `tells` are changes reported that a recovery gave up."""
        try:
            return (yield from self._read(tells, strict=True))
        except ObjectMissing:  # a page was replaced and removed during the read: the newest head names others
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
        """Commit, and leave changes given up by a recovery to the next read, since no person sees a commit's view."""
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
        # others may have committed our change upon a head that contradicts what this host saw
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
        """Return what a quorum confirmed. This host records it unless it contradicts `before`, its earlier record."""
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
