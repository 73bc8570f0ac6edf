"""The manifest, as the rest of the program uses it: found, read, commit.

Synchronous: each method runs one conversation to its end; no thread of it is left when it returns.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from drtool.errors import NoQuorum, ObjectMissing, Rejected, UsageError
from drtool.manifest.beginning import begin_manifest, discover, newest_of, newest_value, places_of
from drtool.manifest.commit import Context, Draft, Outcome, commit, read, refresh
from drtool.manifest.descent import problem_of_descent
from drtool.manifest.drive import DEADLINE_S, REQUEST_TIMEOUT_S, Driver, Hook, no_hook
from drtool.manifest.inspect import LogEntry, ManifestStatus, Problem, check_sites, entries, status_of
from drtool.manifest.library import Learned, Library
from drtool.manifest.local import MemoryCache
from drtool.manifest.ops import Change, CloseSession, Found, Op, OpenSession, make_change
from drtool.manifest.ports import Gather, Keys, LocalState, Note, PageCache, SitePort, Talk
from drtool.manifest.records import Config, Founding
from drtool.manifest.state import State, applied_at
from drtool.manifest.witness import Outstanding, Witness
from drtool.model import SessionId, SiteName
from drtool.paxos import Record

T = TypeVar("T")

PATIENCE_S = 30.0


class Author(msgspec.Struct, frozen=True, kw_only=True):
    """This process, as sessions name it: so that another run on the same host can tell whether it is still alive."""

    host_id: str = ""
    host: str = ""
    boot_id: str = ""
    pid_namespace: str = ""
    pid: int = 0
    start_time: int = 0


class View(msgspec.Struct, frozen=True):
    """The manifest at one sequence. `tentative`: perhaps more is confirmed elsewhere, perhaps not even this is."""

    learned: Learned
    confirmed_sequence: int
    tentative: bool = False
    problems: tuple[str, ...] = ()

    @property
    def sequence(self) -> int:
        return self.learned.head.sequence

    @property
    def digest(self) -> bytes:
        return self.learned.head.digest

    @property
    def config(self) -> Config:
        return self.learned.head.config

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
    ) -> None:
        self._sites = sites
        self._keys = keys
        self._local = local
        self._author = author or Author()
        self._patience_s = patience_s
        self._now_ns = now_ns
        self._draw = draw
        self._library = Library(keys, cache if cache is not None else MemoryCache())
        self._driver = Driver(
            sites,
            local,
            trace or _untraced,
            draw,
            request_timeout_s=request_timeout_s,
            deadline_s=deadline_s,
            hook=hook,
        )
        self._pending: dict[bytes, tuple[Change, ...]] = {}
        self._used: dict[SessionId, int] = {}

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
        host = manifest._author.host
        begun = manifest._driver.run(begin_manifest(founding, keys, manifest._now_ns(), host))
        local.remember(Witness(begun.config.generation, begun.config.number, config=begun.config))
        manifest.read()
        return manifest

    def read(self) -> View:
        """The newest chosen head, linearizably; `NoQuorum` if too few voters answer."""
        return self._driver.run(self.reading())

    def read_offline(self, site: SiteName | None = None) -> View:
        """The newest authentic head at `site`, or at any that answers; tentative."""
        return self._driver.run(self._read_offline([site] if site is not None else list(self._sites)))

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

    def _with_context(self, inspection: Callable[[Context], Talk[T]]) -> Talk[T]:
        context = yield from self._context(self._local.witness())
        return (yield from inspection(context))

    def _refresh(self) -> Talk[View]:
        context = yield from self._context(self._local.witness())
        outcome = yield from refresh(context)
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
        witness = self._local.witness()
        context = yield from self._context(witness)
        try:
            outcome, problem = yield from self._read_and_compare(context, witness)
        except ObjectMissing:  # a page that was replaced and removed while we read: the newest head names others
            outcome, problem = yield from self._read_and_compare(context, witness)
        return (yield from self._confirmed(context, outcome, (problem,) if problem else ()))

    def _read_and_compare(self, context: Context, witness: Witness) -> Talk[tuple[Outcome, str | None]]:
        outcome = yield from read(context)
        problem = yield from problem_of_descent(self._library, list(context.places), witness, outcome.learned)
        return outcome, problem

    def _read_offline(self, sites: Sequence[SiteName]) -> Talk[View]:
        talks = {site: newest_value(site, self._keys) for site in sites}
        replies = yield Gather(talks, lambda results: any(isinstance(r, Record) for r in results.values()), grace_s=1.0)
        records = [reply for reply in replies.values() if isinstance(reply, Record)]
        if not records:
            raise NoQuorum(
                f"no authentic head of the manifest at {', '.join(sites)}",
                hint="name another site with --manifest-from",
            )
        near = [site for site, reply in replies.items() if isinstance(reply, Record)]
        learned = yield from self._library.learn(
            (*near, *(site for site in self._sites if site not in near)), newest_of(records).value
        )
        witness = self._local.witness()
        problem = yield from problem_of_descent(self._library, list(self._sites), witness, learned)
        return View(learned, witness.sequence, tentative=True, problems=(problem,) if problem else ())

    def committing(self, batch: Sequence[Op]) -> Talk[Committed]:
        """The conversation of `commit`."""
        key = msgspec.msgpack.encode(batch)
        pending = self._pending.get(key)
        draft: Draft = (lambda _: pending) if pending else lambda state: self._draft(batch, key, state)
        try:
            committed = yield from self._commit(draft, resumed=pending is not None)
        except Rejected:
            self._pending.pop(key, None)
            raise
        self._pending.pop(key, None)
        return committed

    def _commit(self, draft: Draft, *, resumed: bool) -> Talk[Committed]:
        context = yield from self._context(self._local.witness())
        drafted: list[tuple[Change, ...]] = []

        def remember(state: State) -> tuple[Change, ...]:
            drafted.append(draft(state))
            return drafted[-1]

        try:
            outcome = yield from commit(context, remember, resumed=resumed)
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

    def _draft(self, batch: Sequence[Op], key: bytes, state: State) -> tuple[Change, ...]:
        """The ops of one commit as changes: sessions drawn, administrative ones wrapped, counters assigned."""
        ops = self._with_sessions(batch, state)
        counters: dict[SessionId, int] = {}
        changes: list[Change] = []
        for session, op in ops:
            counter = counters.get(session, self._last_counter(state, session)) + 1
            counters[session] = counter
            changes.append(make_change(op, session, counter, self._now_ns(), self._author.host))
        self._used.update(counters)
        self._pending[key] = tuple(changes)
        return self._pending[key]

    def _last_counter(self, state: State, session: SessionId) -> int:
        row = state.session(session)
        return max(row.counter if row else -1, self._used.get(session, -1))

    def _with_sessions(self, batch: Sequence[Op], state: State) -> list[tuple[SessionId, Op]]:
        admin = SessionId(b"")
        ops: list[tuple[SessionId, Op]] = []
        for op in batch:
            if isinstance(op, Found):
                raise UsageError("a manifest is founded once, by Manifest.found")
            if isinstance(op, OpenSession):
                opening = self._opening(op, state)
                ops.append((opening.session, opening))
            elif op.session:
                ops.append((op.session, op))
            else:
                if not admin:
                    opening = self._opening(OpenSession(kind="admin", **_place(self._author)), state)
                    admin = opening.session
                    ops.append((admin, opening))
                ops.append((admin, msgspec.structs.replace(op, session=admin)))
        return [*ops, (admin, CloseSession(admin))] if admin else ops

    def _opening(self, op: OpenSession, state: State) -> OpenSession:
        session = op.session or SessionId(self._draw(16))
        return msgspec.structs.replace(op, session=session, based_on=state.sequence)

    def _context(self, witness: Witness) -> Talk[Context]:
        config = witness.config
        if config is None:
            config = yield from discover(list(self._sites), self._keys)
        places = places_of(config, self._keys.repository, self._keys, witness)
        return Context(config, places, self._library, witness, self._patience_s)

    def _confirmed(self, context: Context, outcome: Outcome, problems: tuple[str, ...]) -> Talk[View]:
        """What a quorum confirmed, remembered by this host unless it contradicts what it remembers."""
        head = outcome.learned.head
        if not problems:
            self._local.remember(outcome.witness(context.config))
        yield Note("confirm", f"change {head.sequence}, digest {head.digest[:8].hex()}")
        return View(outcome.learned, head.sequence, problems=problems)


def _again(entry: Outstanding) -> Draft:
    return lambda _state: entry.changes


def _place(author: Author) -> dict[str, Any]:
    return msgspec.structs.asdict(author)


def _untraced(_note: Note) -> None:
    """Nobody watches."""
