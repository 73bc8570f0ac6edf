"""The driver of conversations against real stores. It is the only module of the manifest with threads.

A branch of a `Gather` runs on one thread from its first request to its last, so a phase costs one hand-off per site. A
branch is left behind if its present request takes longer than `request_timeout_s`, or if it is slower than the grace
after the others were enough. It goes on until the call ends, and then stops at its next request.

Invariants
    When `run` returns, none of its threads runs, except one that hangs inside a store's call, which is a daemon thread.
    A store's error becomes a reply. Any other exception ends the call and is raised from `run`.
    A call ends `deadline_s` after it began, regardless of the sites. `carry_out` repeats a call without a quorum, as
    long as `outage` finds the sites that stopped answering worth waiting for.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count, islice
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from drtool.errors import NoQuorum, ObjectMissing, StoreError, TargetHung, TargetOffline, TargetUnanswered
from drtool.manifest.names import read_limit
from drtool.manifest.ports import (
    Delete,
    Draw,
    Failed,
    Gather,
    Journal,
    List,
    LocalState,
    Missing,
    Note,
    Now,
    Put,
    PutIfAbsent,
    Read,
    ReadTagged,
    Reply,
    Request,
    SitePort,
    SiteRequest,
    Sleep,
    Swap,
    Tagged,
    Talk,
)
from drtool.model import SiteName

T = TypeVar("T")

REQUEST_TIMEOUT_S = 12.0
DEADLINE_S = 50.0
LINGER_S = 1.5

Hook = Callable[[int, Request], None]
Away = Mapping[SiteName, StoreError]
"""The sites that did not answer, each with its last reason."""


class Outage(Protocol):
    """A policy for waiting until unreachable sites make a quorum again."""

    def wait(self, away: Away, why: str, attempt: int) -> bool:
        """Wait a while, and return False if waiting is or has become useless. `attempt`: the number of earlier waits."""

    def over(self) -> None:
        """Note that there is a quorum again."""


class NeverWaits(Outage):
    """For callers that handle a missing quorum themselves."""

    def wait(self, _away: Away, _why: str, _attempt: int) -> bool:
        return False

    def over(self) -> None:
        """Do nothing, since there was no wait."""


def no_hook(_step: int, _request: Request) -> None:
    """Do nothing between the steps, as in production."""


@dataclass
class Driver:
    """Answers requests with stores, the system's entropy and its clock. One call at a time, and others wait."""

    sites: Mapping[SiteName, SitePort]
    local: LocalState
    note: Callable[[Note], None] = lambda _note: None
    draw: Callable[[int], bytes] = os.urandom
    clock: Callable[[], float] = time.monotonic
    request_timeout_s: float = REQUEST_TIMEOUT_S
    deadline_s: float = DEADLINE_S
    hook: Hook = no_hook
    outage: Outage = field(default_factory=NeverWaits)
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)
    slow: set[SiteName] = field(default_factory=set)
    """Sites that hung until the end of a call and have not answered since. They are not waited for again."""
    away: dict[SiteName, StoreError] = field(default_factory=dict)
    """Sites that did not answer a request of this call."""

    def carry_out(self, begin: Callable[[], Talk[T]]) -> T:
        """Return the conversation's result. It is started again after each wait for a quorum."""
        for attempt in count():
            try:
                self.away.clear()
                result = self.run(begin())
            except NoQuorum as error:
                away = {**dict.fromkeys(self.slow, TargetHung("no answer in time")), **self.away}
                if not self.outage.wait(away, error.message, attempt):
                    raise
                self.slow.clear()
            else:
                if attempt:
                    self.outage.over()
                return result
        raise AssertionError("unreachable")

    def run(self, talk: Talk[T]) -> T:
        """Return the conversation's result, or raise its exception."""
        with self._one_at_a_time, _Crew(self) as crew:
            reply: Any = None
            while True:
                try:
                    request = talk.send(reply)
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
                reply = crew.gather(request) if isinstance(request, Gather) else crew.answer(request)

    def ask(self, request: SiteRequest) -> Reply:
        """Send one request to one site."""
        site = self.sites.get(request.site)
        if site is None:
            return Failed("this host's configuration has no way to reach it", definite=True)
        try:
            reply = _perform(site, request)
        except ObjectMissing:
            reply = Missing()
        except TargetOffline as error:
            self.away[request.site] = error
            return Failed(str(error), definite=not isinstance(error, TargetUnanswered))
        except StoreError as error:
            return Failed(str(error), definite=not error.transient)
        return reply


def _perform(site: SitePort, request: SiteRequest) -> Reply:
    match request:
        case List():
            rows = site.list(request.prefix, request.start_after)
            return [row.name for row in islice(rows, request.limit)]
        case Read(durable=True):
            found = site.read_tagged(request.name)
            return Missing() if found is None else found.data
        case Read():
            return site.get(request.name, 0, read_limit(request.name))
        case ReadTagged():
            tagged = site.read_tagged(request.name)
            return Missing() if tagged is None else Tagged(tagged.data, tagged.tag)
        case PutIfAbsent():
            return site.put_if_absent(request.name, request.data)
        case Swap():
            return site.compare_and_swap(request.name, request.data, request.expected)
        case Put():
            return site.put(request.name, request.data)
        case Delete():
            return site.delete(request.name)


class _Branch:
    """One site's part of a gather, during and after its run."""

    def __init__(self, talk: Talk[Any]) -> None:
        self.talk = talk
        self.busy_since: float | None = None
        self.done = False
        self.result: Any = Failed("no answer in time")
        self.error: BaseException | None = None


class _Crew:
    """The threads of one call."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._ends_at = driver.clock() + driver.deadline_s
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._work: SimpleQueue[tuple[SiteName, _Branch] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._running: dict[int, tuple[SiteName, _Branch]] = {}
        self._steps = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self._linger()
        self._stop.set()
        for _thread in self._threads:
            self._work.put(None)
        hanging = self._hanging()
        for thread in self._threads:
            thread.join(0.01 if hanging else 1.0)

    def answer(self, request: Request) -> Reply:
        """Return the reply to any request except a gather."""
        driver = self._driver
        self._count(request)
        match request:
            case Sleep():
                self._stop.wait(max(0.0, min(request.seconds, self._ends_at - driver.clock())))
            case Draw():
                return driver.draw(request.count)
            case Now():
                return driver.clock()
            case Journal():
                driver.local.journal(request.entry)
            case Note():
                driver.note(request)
            case Gather():
                raise TypeError("a branch cannot gather")
            case _:
                return driver.ask(request)
        return None

    def gather(self, request: Gather) -> dict[SiteName, Any]:
        """Run the branches. Return at `enough` and its grace, at the end of all, or at a deadline."""
        branches = {site: _Branch(talk) for site, talk in request.branches.items()}
        self._start(branches)
        with self._changed:
            self._wait(branches, request)
            return {site: branch.result for site, branch in branches.items()}

    def _start(self, branches: Mapping[SiteName, _Branch]) -> None:
        with self._changed:
            idle = len(self._threads) - len(self._running)
            self._running.update((id(branch), (site, branch)) for site, branch in branches.items())
        for _ in range(len(branches) - idle):
            thread = threading.Thread(target=self._labour, name="drtool-manifest", daemon=True)
            self._threads.append(thread)
            thread.start()
        for item in branches.items():
            self._work.put(item)

    def _wait(self, branches: Mapping[SiteName, _Branch], request: Gather) -> None:
        clock, grace_ends = self._driver.clock, None
        while True:
            for branch in branches.values():
                if branch.error is not None:
                    raise branch.error
            now = clock()
            waiting = {site: self._patience(branch, now) for site, branch in branches.items() if not branch.done}
            if request.enough({site: branch.result for site, branch in branches.items() if branch.done}):
                grace_ends = now + request.grace_s if grace_ends is None else grace_ends
                waiting = {
                    site: min(left, grace_ends - now) for site, left in waiting.items() if site not in self._driver.slow
                }
            left = min(max(waiting.values(), default=0.0), self._ends_at - now)
            if left <= 0:
                return
            self._changed.wait(min(left, *(max(each, 0.001) for each in waiting.values())))

    def _patience(self, branch: _Branch, now: float) -> float:
        """Return how long the branch's present request may still take."""
        since = now if branch.busy_since is None else branch.busy_since
        return since + self._driver.request_timeout_s - now

    def _labour(self) -> None:
        while (item := self._work.get()) is not None:
            site, branch = item
            try:
                self._converse(site, branch)
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits, which raises it
                branch.error = error
            with self._changed:
                branch.done = True
                del self._running[id(branch)]
                self._changed.notify_all()

    def _converse(self, site: SiteName, branch: _Branch) -> None:
        reply: Any = None
        while not self._stop.is_set():
            try:
                request = branch.talk.send(reply)
            except StopIteration as end:
                branch.result = end.value
                return
            branch.busy_since = self._driver.clock()
            reply = self.answer(request)
            branch.busy_since = None
            self._driver.slow.discard(site)
        branch.talk.close()

    def _count(self, request: Request) -> None:
        with self._changed:
            self._steps += 1
            step = self._steps
        self._driver.hook(step, request)

    def _hanging(self) -> bool:
        with self._changed:
            return bool(self._running)

    def _linger(self) -> None:
        """Let branches that were left behind finish, unless they hang, so that a far site does not lag for ever."""
        slow, ends_at = self._driver.slow, self._driver.clock() + LINGER_S
        with self._changed:
            while waited := {site for site, _ in self._running.values()} - slow:
                left = ends_at - self._driver.clock()
                if left <= 0:
                    slow |= waited
                    return
                self._changed.wait(left)
