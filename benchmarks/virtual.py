"""A network in virtual time, without faults: the manifest's production conversations at a fixed distance from every site.

Invariants
    Only requests to sites and sleeping take time. A host's own work and its disk take none.
    One seed gives one history, because nothing here uses the system's clock.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from drtool.manifest import MemoryState
from drtool.manifest.drive import LINGER_S, Driver
from drtool.manifest.ports import (
    Delete,
    Draw,
    Failed,
    Gather,
    Journal,
    List,
    Note,
    Now,
    Put,
    PutIfAbsent,
    Read,
    ReadTagged,
    Reply,
    Request,
    SiteRequest,
    Sleep,
    Swap,
    Talk,
)
from drtool.model import SiteName
from drtool.stores.memory import MemoryStore
from drtool.stores.ports import Mode

Ended = Callable[[Reply, Exception | None], None]


class _Conversation:
    """A call of one host and the number of its running branches."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.branches = 0
        self.over = False
        self.at_rest: Callable[[], None] = lambda: None

    def branch_ended(self) -> None:
        self.branches -= 1
        if not self.branches:
            self.at_rest()


class World:
    """The event loop, the sites and the network to them."""

    def __init__(self, seed: int, sites: Sequence[SiteName], mode: Mode, round_trip_s: float, jitter: float) -> None:
        self.rng = random.Random(seed)
        self.stores: Mapping[SiteName, MemoryStore] = {site: MemoryStore(mode) for site in sites}
        self.now_s = 0.0
        self.requests: Counter[str] = Counter()
        self.phases: Counter[str] = Counter()
        self._one_way_s = round_trip_s / 2
        self._jitter = jitter
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, delay_s: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now_s + delay_s, self._count, action))

    def run(self, until: Callable[[], bool]) -> None:
        """Process events in order until `until` is true or no event is left."""
        while self._queue and not until():
            self.now_s, _, action = heapq.heappop(self._queue)
            action()

    def start(self, local: MemoryState, talk: Talk[Reply], ended: Ended) -> None:
        """Run a conversation of the host with the state `local`. Like a call of `drive.py`, it waits for its branches."""
        conversation = _Conversation(Driver(self.stores, local))

        def talked(value: Reply, error: Exception | None) -> None:
            def leave() -> None:
                if not conversation.over:
                    conversation.over = True
                    ended(value, error)

            if error is not None or not conversation.branches:
                return leave()
            conversation.at_rest = leave
            return self.at(LINGER_S, leave)

        _Task(self, conversation, talk, talked).advance(None)

    def settle(self, local: MemoryState, talk: Talk[Reply]) -> Reply:
        """Run one conversation to its end."""
        outcome: list[tuple[Reply, Exception | None]] = []
        self.start(local, talk, lambda value, error: outcome.append((value, error)))
        self.run(lambda: bool(outcome))
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    def travel(self, arrive: Callable[[], None]) -> None:
        """Half a round trip."""
        self.at(self._one_way_s * self.rng.uniform(1 - self._jitter, 1 + self._jitter), arrive)


class _Task:
    """One conversation, or one branch of it."""

    def __init__(self, world: World, conversation: _Conversation, talk: Talk[Reply], ended: Ended) -> None:
        self.world, self.conversation, self._talk, self._ended = world, conversation, talk, ended

    def advance(self, reply: Reply) -> None:
        while not self.conversation.over:
            try:
                request = self._talk.send(reply)
            except StopIteration as end:
                return self._ended(end.value, None)
            except Exception as error:  # noqa: BLE001 - passed to the caller
                return self._ended(None, error)
            if isinstance(request, Now | Draw | Note | Journal):
                reply = self._at_once(request)
                continue
            return self._wait_for(request)
        return None

    def _at_once(self, request: Request) -> Reply:
        match request:
            case Now():
                return self.world.now_s
            case Draw():
                return self.world.rng.randbytes(request.count)
            case Note():
                self.world.phases[request.phase] += 1
            case Journal():
                self.conversation.driver.local.journal(request.entry)
        return None

    def _wait_for(self, request: Request) -> None:
        match request:
            case Sleep():
                self.world.at(request.seconds, lambda: self.advance(None))
            case Gather():
                _Gathering(self, request)
            case List() | Read() | ReadTagged() | PutIfAbsent() | Swap() | Put() | Delete():
                self._send(request)

    def _send(self, request: SiteRequest) -> None:
        self.world.requests[type(request).__name__] += 1

        def arrive() -> None:
            reply = self.conversation.driver.ask(request)
            self.world.travel(lambda: self.advance(reply))

        self.world.travel(arrive)


class _Gathering:
    """Branches that run concurrently, as in `drive.py`."""

    def __init__(self, task: _Task, request: Gather) -> None:
        self._task, self._request = task, request
        self._results: dict[SiteName, Reply] = {}
        self._closing = self._over = False
        for site, talk in request.branches.items():
            self._begin(site, talk)
        if not request.branches:
            task.world.at(0.0, self._finish)
        elif request.enough({}):
            self._close()

    def _begin(self, site: SiteName, talk: Talk[Reply]) -> None:
        conversation = self._task.conversation
        conversation.branches += 1

        def joined(value: Reply, error: Exception | None) -> None:
            if error is not None:
                raise error
            self._join(site, value)
            conversation.branch_ended()

        branch = _Task(self._task.world, conversation, talk, joined)
        self._task.world.at(0.0, lambda: branch.advance(None))

    def _join(self, site: SiteName, value: Reply) -> None:
        self._results[site] = value
        if len(self._results) == len(self._request.branches):
            self._finish()
        elif not self._closing and self._request.enough(self._results):
            self._close()

    def _close(self) -> None:
        self._closing = True
        self._task.world.at(self._request.grace_s, self._finish)

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            silent = {site: Failed("no answer in time") for site in self._request.branches}
            self._task.advance(silent | self._results)
