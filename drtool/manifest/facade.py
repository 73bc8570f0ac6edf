"""The manifest, as the rest of the program uses it: found, read, commit.

Synchronous: each method runs one conversation to its end; no thread of it is left when it returns.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from drtool.errors import NoQuorum, ObjectMissing, Rejected
from drtool.manifest.beginning import begin_manifest, places_of
from drtool.manifest.commit import Context, Draft, Outcome, commit, read, refresh
from drtool.manifest.descent import problem_of_descent
from drtool.manifest.drafting import Author, Drafts
from drtool.manifest.drive import DEADLINE_S, REQUEST_TIMEOUT_S, Driver, Hook, no_hook
from drtool.manifest.finding import Sighting, discover, look_around, newest_config, newest_record
from drtool.manifest.head import open_head
from drtool.manifest.inspect import LogEntry, ManifestStatus, Problem, check_sites, entries, status_of
from drtool.manifest.library import Learned, Library
from drtool.manifest.local import MemoryCache
from drtool.manifest.ops import Change, Op, SetVoters
from drtool.manifest.ports import Failed, Keys, LocalState, Note, PageCache, SitePort, Talk
from drtool.manifest.records import Config, Founding, Target
from drtool.manifest.state import State, applied_at
from drtool.manifest.switching import Ended, Member, check_reachable, finish_switch, next_config, voters_targets
from drtool.manifest.witness import Outstanding, Witness
from drtool.model import SessionId, SiteName, site_of

T = TypeVar("T")

PATIENCE_S = 30.0
SWITCHES_LIMIT = 32

Reach = Callable[[Sequence[Target]], Mapping[SiteName, SitePort]]
"""Opens the registers on these targets, as far as this host can reach them."""


class View(msgspec.Struct, frozen=True):
    """The manifest at one sequence. `tentative`: perhaps more is confirmed elsewhere, perhaps not even this is."""

    learned: Learned
    confirmed_sequence: int
    tentative: bool = False
    problems: tuple[str, ...] = ()
    found: Mapping[SiteName, int] = {}
    """Of a tentative view: the newest change at each site that had one."""

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
    """The replicated catalogue over the voters' stores."""

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
    ) -> None:
        self._sites = dict(sites)
        self._keys = keys
        self._local = local
        self._drafts = Drafts(author or Author(), draw, now_ns)
        self._patience_s = patience_s
        self._library = Library(keys, cache if cache is not None else MemoryCache())
        self._driver = Driver(
            self._sites,
            local,
            trace or _untraced,
            draw,
            request_timeout_s=request_timeout_s,
            deadline_s=deadline_s,
            hook=hook,
        )
        self._reach = reach or _reach_nobody
        self._asked: set[tuple[int, int]] = set()

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
    ) -> "Manifest":
        """Begin a manifest at all voters of `founding`. `Refused` if one is there, `NoQuorum` if too few confirm."""
        manifest = cls(sites, keys, local, cache=cache, author=author, trace=trace)
        begun = manifest._driver.run(begin_manifest(founding, keys, time.time_ns(), manifest._drafts.author.host))
        local.remember(Witness(begun.config.generation, begun.config.number, config=begun.config))
        manifest.read()
        return manifest

    def read(self) -> View:
        """The newest chosen head, linearizably; `NoQuorum` if too few voters answer."""
        return self._driver.run(self.reading())

    def read_offline(self, site: SiteName | None = None, *more: SiteName) -> View:
        """The newest authentic head at `site` (and `more`), or at any that answers; tentative."""
        return self._driver.run(self._read_offline([site, *more] if site is not None else list(self._sites)))

    def commit(self, ops: Op | Sequence[Op]) -> Committed:
        """Apply `ops` as one change set; `Rejected`, or `NoQuorum` (then it may yet be applied: repeat the same call).

        An op that belongs to no session gets an administrative one of its own, opened and closed in the same commit.
        """
        return self._driver.run(self.committing(tuple(ops) if isinstance(ops, Sequence) else (ops,)))

    def status(self) -> ManifestStatus:
        """What every acceptor says of itself; needs no quorum."""
        return self._driver.run(self._with_context(status_of))

    def check(self) -> list[Problem]:
        """Verify every chain, digest, MAC, page and witness at every site that answers."""
        return self._driver.run(self.checking())

    def log(self, view: View, limit: int | None = None) -> list[LogEntry]:
        """The newest `limit` changes up to `view`, newest first; None for all there ever were."""
        return self._driver.run(entries(self._library, list(self._sites), view.learned, limit))

    def refresh(self) -> View:
        """Bring acceptors that lag, or went back in time, up to date: the same head again, under a new ballot."""
        return self._driver.run(self._refresh())

    def settle(self) -> int:
        """Finish what runs of this host that died have sent and never heard of again; returns how many are in now."""
        return self._driver.run(self.settling())

    def set_voters(self, members: Sequence[Member], ops: Sequence[Op] = ()) -> View:
        """Make `members` the voters, with `ops` in the same change set, and finish the switch. `Rejected`, `NoQuorum`."""
        return self._driver.run(self.setting_voters(tuple(members), tuple(ops)))

    def add_site(self, site: SiteName, port: SitePort) -> None:
        """Make known how to reach a site that was not known before."""
        self._sites[site] = port

    def setting_voters(self, members: Sequence[Member], ops: Sequence[Op] = ()) -> Talk[View]:
        """The conversation of `set_voters`."""
        view = yield from self.reading()
        config = yield from next_config(view.state.config, members)
        if not ops and config.voters == view.state.config.voters:
            return view
        yield from check_reachable(view.state.config, config)
        committed = yield from self.committing((*ops, SetVoters(config)))
        return committed.view

    def _refresh(self) -> Talk[View]:
        context, outcome = yield from self._in_force(refresh)
        return (yield from self._confirmed(context, outcome, ()))

    def checking(self) -> Talk[list[Problem]]:
        """The conversation of `check`."""
        return (yield from self._with_context(check_sites))

    def settling(self) -> Talk[int]:
        """The conversation of `settle`."""
        count = 0
        for entry in self._local.outstanding():
            try:
                yield from self._commit(_again(entry), resumed=True)
            except Rejected:
                continue  # it never was in the manifest, and now it never will be
            count += 1
        return count

    def reading(self) -> Talk[View]:
        """The conversation of `read`."""
        try:
            return (yield from self._read())
        except ObjectMissing:  # a page that was replaced and removed while we read: the newest head names others
            return (yield from self._read())

    def _read(self) -> Talk[View]:
        witness = self._local.witness()
        context, outcome = yield from self._in_force(read)
        problem = yield from problem_of_descent(self._library, list(context.places), witness, outcome.learned)
        return (yield from self._confirmed(context, outcome, (problem,) if problem else ()))

    def _read_offline(self, sites: Sequence[SiteName]) -> Talk[View]:
        replies = yield from look_around(sites, self._keys, wait_for_all=True)
        sightings = {site: seen for site, seen in replies.items() if isinstance(seen, Sighting)}
        record = newest_record(sightings.values())
        if record is None:
            why = "; ".join(f"{site}: {_why_no_head(reply)}" for site, reply in sorted(replies.items()))
            raise NoQuorum(f"no authentic head of the manifest ({why})", hint="name another site with --manifest-from")
        if len(sites) > 1:
            newest_config(sightings.values())
        near = [site for site, seen in sightings.items() if seen.record is not None]
        learned = yield from self._library.learn(
            (*near, *(site for site in self._sites if site not in near)), record.value
        )
        witness = self._local.witness()
        problem = yield from problem_of_descent(self._library, list(self._sites), witness, learned)
        found = {
            site: open_head(self._keys, seen.record.value).sequence
            for site, seen in sightings.items()
            if seen.record is not None and seen.config is not None
        }
        return View(learned, witness.sequence, tentative=True, problems=(problem,) if problem else (), found=found)

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
        drafted: list[tuple[Change, ...]] = []

        def once(state: State) -> tuple[Change, ...]:
            if not drafted:
                drafted.append(draft(state))
            return drafted[0]

        def talk(context: Context) -> Talk[Outcome]:
            return (yield from commit(context, once, resumed=resumed or bool(drafted)))

        try:
            context, outcome = yield from self._in_force(talk)
        except Rejected:
            self._settle(drafted)
            raise
        self._settle(drafted)
        view = yield from self._confirmed(context, outcome, ())
        last = drafted[-1][-1]
        sequence = applied_at(view.state, last.session, last.counter)
        return Committed(view, view.sequence if sequence is None else sequence, last.session)

    def _settle(self, drafted: Sequence[tuple[Change, ...]]) -> None:
        for changes in drafted:
            self._local.settle(Outstanding(changes))

    def _with_context(self, inspection: Callable[[Context], Talk[T]]) -> Talk[T]:
        context = yield from self._context(None)
        return (yield from inspection(context))

    def _in_force(self, talk: Callable[[Context], Talk[T]]) -> Talk[tuple[Context, T]]:
        """Runs `talk` in the configuration that is in force, following those that have ended."""
        config: Config | None = None
        for _ in range(SWITCHES_LIMIT):
            context = yield from self._context(config)
            try:
                return context, (yield from talk(context))
            except Ended as ended:
                config = yield from self._follow(context, ended)
            except NoQuorum:
                config = yield from self._newer_than(context)
                if config is None:
                    raise
        raise NoQuorum("the voters changed faster than they could be followed", hint="run the same command again")

    def _follow(self, context: Context, ended: Ended) -> Talk[Config]:
        """The next configuration, begun if need be."""
        self._reach_more(ended.targets)
        if ended.last is not None:
            old, new = (
                places_of(config, self._keys.repository, self._keys, context.witness)
                for config in (ended.last.head.config, ended.config)
            )
            yield from finish_switch(self._library, old, new, ended.config, ended.last)
        return ended.config

    def _newer_than(self, context: Context) -> Talk[Config | None]:
        """A configuration that came after this one, if any site that can be reached knows of it."""
        replies = yield from look_around(list(self._sites), self._keys, wait_for_all=True)
        newest = newest_config(seen for seen in replies.values() if isinstance(seen, Sighting))
        return newest if newest is not None and newest.place > context.config.place else None

    def _context(self, config: Config | None) -> Talk[Context]:
        """The world as this host last saw it, or in `config`."""
        witness = self._local.witness()
        chosen = config or witness.config
        if chosen is None:
            chosen = yield from discover(list(self._sites), self._keys)
        if any(voter.site not in self._sites for voter in chosen.voters):
            yield from self._reach_voters(chosen)
        places = places_of(chosen, self._keys.repository, self._keys, witness)
        return Context(chosen, places, self._library, witness, self._patience_s)

    def _reach_voters(self, config: Config) -> Talk[None]:
        """Registers that this host was not told of: a site that it knows says where they are."""
        if config.place in self._asked:
            return
        self._asked.add(config.place)
        replies = yield from look_around(list(self._sites), self._keys)
        sightings = [seen for seen in replies.values() if isinstance(seen, Sighting)]
        for seen in sightings:
            for successor in seen.successors:
                self._reach_more(successor.targets)
        record = newest_record(sightings)
        if record is not None:
            learned = yield from self._library.learn(list(self._sites), record.value)
            self._reach_more(voters_targets(learned, config))

    def _reach_more(self, targets: Sequence[Target]) -> None:
        """Registers at sites that this host did not know: perhaps it can reach them all the same."""
        unknown = [row for row in targets if site_of(row.name) not in self._sites]
        self._sites.update(self._reach(unknown) if unknown else {})

    def _confirmed(self, context: Context, outcome: Outcome, problems: tuple[str, ...]) -> Talk[View]:
        """What a quorum confirmed, remembered by this host unless it contradicts what it remembers."""
        head = outcome.learned.head
        if not problems:
            self._local.remember(outcome.witness(context.config))
        yield Note("confirm", f"change {head.sequence}, digest {head.digest[:8].hex()}")
        return View(outcome.learned, head.sequence, problems=problems)


def _again(entry: Outstanding) -> Draft:
    return lambda _state: entry.changes


def _why_no_head(reply: object) -> str:
    if isinstance(reply, Sighting):
        return reply.problem or "it holds none"
    return reply.reason if isinstance(reply, Failed) else "no answer"


def _reach_nobody(_targets: Sequence[Target]) -> Mapping[SiteName, SitePort]:
    return {}


def _untraced(_note: Note) -> None:
    """Nobody watches."""
