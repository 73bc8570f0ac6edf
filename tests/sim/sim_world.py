"""A world in virtual time: sites, processes and a network that loses, delays and repeats. One seed, one history.

The conversations that run here are the production ones; only their requests are answered differently.
"""

import heapq
import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3
from sim_sites import Liar, Site

from drtool.errors import SealBroken
from drtool.manifest import ports

TIMEOUT_S = 12.0


@dataclass(frozen=True)
class Faults:
    """How bad the world is; every figure is a probability for each request unless it says otherwise."""

    lost_request: float = 0.0
    lost_reply: float = 0.0
    late: float = 0.0
    duplicate: float = 0.0
    stall: float = 0.0
    crash: float = 0.0
    partitions: int = 0  # how many times a process is cut off from some sites
    fastest_s: float = 0.001
    slowest_s: float = 0.05
    wiped: bool = False  # one site loses everything it has, once
    rolled_back: bool = False  # one site is set back to a copy of itself from earlier, once
    lying: bool = False  # one site lies from the beginning
    voters: int = 0  # administrators who change the voters while everything goes on
    recovery: bool = False  # a majority is lost, or only seems to be, and administrators recover from the rest
    rotations: int = 0  # administrators who rotate the keys, each time with a site away
    copied: bool = False  # one site's directory is copied, and hosts are configured for different copies
    crowd: int = 0  # so many more clients, who leave their changes in the inbox
    images: int = 0  # how many times an image of a host is taken, and later started beside it, or put back in its place


class Keys:
    """Sealing without secrets, fast and the same in every run; still refuses every changed byte."""

    def __init__(self, rng: random.Random) -> None:
        self.repository = rng.randbytes(16)
        self._key = rng.randbytes(32)
        self._rng = rng
        self.generation = 1

    def seal(self, kind: int, plaintext: bytes, newest: int | None = None) -> bytes:
        generation = self.generation if newest is None else min(self.generation, newest)
        body = bytes([kind, generation]) + self._rng.randbytes(8) + plaintext
        return body + self.mac("seal", body)

    def generation_of(self, sealed: bytes) -> int:
        """The key that something was sealed under."""
        return sealed[1]

    def open(self, kind: int, sealed: bytes) -> bytes:
        if sealed[:1] != bytes([kind]) or not self.mac_matches("seal", sealed[:-32], sealed[-32:]):
            raise SealBroken("not sealed here")
        return sealed[10:-32]

    def mac(self, purpose: str, data: bytes) -> bytes:
        return blake3(purpose.encode() + data, key=self._key).digest()

    def mac_matches(self, purpose: str, data: bytes, tag: bytes) -> bool:
        return self.mac(purpose, data) == tag


class Process:
    """One run on one host: it can be killed, and what it had sent lands all the same."""

    def __init__(self, name: str, local: Any) -> None:
        self.name = name
        self.local = local
        self.alive = True
        self.steps = 0
        self.crash_at: int | None = None
        self.lands: bool | None = None  # whether the request at which it dies still goes out; None: by chance


@dataclass(eq=False)
class _Task:
    process: Process
    talk: Generator[Any, Any, Any]
    done: Callable[[Any, BaseException | None], None]


@dataclass(eq=False)
class Hold:
    """Requests that wait on their way until a directed schedule lets them go on. `matches`: of which process, to what."""

    matches: Callable[[str, ports.SiteRequest], bool]
    waiting: list[Callable[[], None]] = field(default_factory=list)
    released: bool = False

    def release(self) -> None:
        """Let those that wait arrive now, in order; nothing more is held."""
        self.released = True
        for arrive in self.waiting:
            arrive()
        self.waiting.clear()

    def forget(self) -> None:
        """Those that wait are lost; nothing more is held."""
        self.released = True
        self.waiting.clear()


@dataclass(frozen=True)
class Traced:
    """One request that arrived, for transcripts."""

    sent_s: float
    who: str
    request: ports.SiteRequest
    reply: Any


@dataclass
class _Gathering:
    request: ports.Gather
    task: _Task
    results: dict[str, Any] = field(default_factory=dict)
    closing: bool = False
    over: bool = False


class World:
    """The event loop, the sites and the network between."""

    def __init__(
        self,
        seed: int,
        site_names: list[str],
        faults: Faults,
        modes: Mapping[str, str] | None = None,
        liars: tuple[str, ...] = (),
    ) -> None:
        self.rng = random.Random(seed)
        self.faults = faults
        self.now = 0.0
        self.sites: dict[str, Site] = {}
        for name in site_names:
            mode = (modes or {}).get(name, "chain")
            self.sites[name] = Liar(mode, seed, self.sites) if name in liars else Site(mode)
        self.elsewhere: dict[tuple[str, str], Any] = {}  # (process, site) → which copy of it the process uses
        self.watchers: list[Callable[[Any, ports.SiteRequest, Any], None]] = []  # look on at every request
        self.holds: list[Hold] = []
        self.traced: list[Traced] | None = None
        self.cut: dict[tuple[str, str], float] = {}  # (process, site) → until when
        self.requests = 0
        self.crashes = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._at_request: list[tuple[int, Callable[[], None]]] = []

    def at_request(self, number: int, action: Callable[[], None]) -> None:
        """Do `action` when so many requests were sent: in the midst of things, however fast they go."""
        self._at_request.append((number, action))

    def forget_plans(self) -> None:
        """Nothing more is going to happen at a certain request."""
        self._at_request.clear()

    def hold(self, matches: Callable[[str, ports.SiteRequest], bool]) -> Hold:
        """From now on such requests wait until they are released."""
        hold = Hold(matches)
        self.holds.append(hold)
        return hold

    def at(self, delay_s: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay_s, self._count, action))

    def run(self, until: Callable[[], bool], limit: int = 400_000) -> None:
        """Let things happen, in order, until `until` holds or nothing is left."""
        for _ in range(limit):
            if until() or not self._queue:
                return
            self.now, _, action = heapq.heappop(self._queue)
            action()
        raise AssertionError("the world does not come to rest")

    def drain(self) -> None:
        """Let everything that is still under way land."""
        self.run(lambda: False)

    def start(self, process: Process, talk: Generator[Any, Any, Any], done: Callable[[Any, Any], None]) -> None:
        self._advance(_Task(process, talk, done), None)

    def settle(self, process: Process, talk: Generator[Any, Any, Any]) -> Any:
        """Run one conversation to its end."""
        outcome: list[tuple[Any, BaseException | None]] = []
        self.start(process, talk, lambda value, error: outcome.append((value, error)))
        self.run(lambda: bool(outcome))
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    def _advance(self, task: _Task, reply: Any) -> None:
        while task.process.alive:
            try:
                request = task.talk.send(reply)
            except StopIteration as end:
                return task.done(end.value, None)
            except Exception as error:  # noqa: BLE001 - the checkers judge it
                return task.done(None, error)
            match request:
                case ports.Draw() | ports.Now() | ports.Note():
                    reply = self._instant(task.process, request)
                case ports.Journal():
                    if self._crashes(task.process):
                        return None
                    task.process.local.journal(request.entry)
                    reply = None
                case ports.Sleep():
                    return self.at(request.seconds, lambda: self._advance(task, None))
                case ports.Gather():
                    return self._gather(task, request)
                case _:
                    return self._send(task, request)
        return None

    def _instant(self, _process: Process, request: ports.Request) -> Any:
        match request:
            case ports.Draw():
                return self.rng.randbytes(request.count)
            case ports.Now():
                return self.now
        return None

    def _gather(self, task: _Task, request: ports.Gather) -> None:
        gathering = _Gathering(request, task)
        for site, talk in request.branches.items():
            branch = _Task(
                task.process, talk, lambda value, error, site=site: self._joined(gathering, site, value, error)
            )
            self.at(0.0, lambda branch=branch: self._advance(branch, None))
        if not request.branches:
            self.at(0.0, lambda: self._finish(gathering))

    def _joined(self, gathering: _Gathering, site: str, value: Any, error: BaseException | None) -> None:
        if error is not None:
            raise error
        if gathering.over:
            return
        gathering.results[site] = value
        if len(gathering.results) == len(gathering.request.branches):
            self._finish(gathering)
        elif not gathering.closing and gathering.request.enough(gathering.results):
            gathering.closing = True
            self.at(gathering.request.grace_s, lambda: self._finish(gathering))

    def _finish(self, gathering: _Gathering) -> None:
        if gathering.over:
            return
        gathering.over = True
        silent = {site: ports.Failed("no answer in time") for site in gathering.request.branches}
        self._advance(gathering.task, silent | gathering.results)

    def _crashes(self, process: Process) -> bool:
        process.steps += 1
        if process.steps == process.crash_at or self.rng.random() < self.faults.crash:
            process.alive = False
            self.crashes += 1
        return not process.alive

    def _send(self, task: _Task, request: ports.SiteRequest) -> None:
        self.requests += 1
        faults, rng, process = self.faults, self.rng, task.process
        if self._crashes(process) and not (rng.random() < 0.5 if process.lands is None else process.lands):
            return  # dead before the request went out; otherwise dead just after
        if self._at_request:
            self._act_at_request()
        if rng.random() < faults.stall:
            self.at(rng.uniform(30.0, 90.0), lambda: self._travel(task, request))
        else:
            self._travel(task, request)

    def _act_at_request(self) -> None:
        due = [action for number, action in self._at_request if number <= self.requests]
        self._at_request = [row for row in self._at_request if row[0] > self.requests]
        for action in due:
            action()

    def _travel(self, task: _Task, request: ports.SiteRequest) -> None:
        faults, rng = self.faults, self.rng
        out_s = rng.uniform(faults.fastest_s, faults.slowest_s)
        back_s = rng.uniform(faults.fastest_s, faults.slowest_s)
        who = task.process.name
        site = self.elsewhere.get((who, request.site), self.sites[request.site])
        if self.cut.get((who, request.site), 0.0) > self.now:
            definite = rng.random() < 0.5
            failed = ports.Failed("cut off", definite)
            return self.at(0.001 if definite else TIMEOUT_S, lambda: self._advance(task, failed))
        chance = rng.random()
        timeout = ports.Failed("timeout")
        if chance < faults.lost_request:
            return self.at(TIMEOUT_S, lambda: self._advance(task, timeout))
        if chance < faults.lost_request + faults.lost_reply:
            self._land(who, site, request, out_s)
            return self.at(TIMEOUT_S, lambda: self._advance(task, timeout))
        if chance < faults.lost_request + faults.lost_reply + faults.late:
            self._land(who, site, request, TIMEOUT_S * rng.uniform(1.0, 6.0))
            return self.at(TIMEOUT_S, lambda: self._advance(task, timeout))
        if rng.random() < faults.duplicate:
            self._land(who, site, request, out_s + rng.uniform(0.0, 90.0))

        sent_s = self.now

        def arrive() -> None:
            reply = self._perform(site, request, who)
            if self.traced is not None:
                self.traced.append(Traced(sent_s, who, request, reply))
            self.at(back_s, lambda: self._advance(task, reply))

        for hold in self.holds:
            if not hold.released and hold.matches(who, request):
                return hold.waiting.append(arrive)
        return self.at(out_s, arrive)

    def _perform(self, site: Any, request: ports.SiteRequest, who: str) -> Any:
        reply = site.perform(request, who)
        for look_on in self.watchers:
            look_on(site, request, reply)
        return reply

    def _land(self, who: str, site: Any, request: ports.SiteRequest, delay_s: float) -> None:
        def arrive() -> None:
            self._perform(site, request, who)

        self.at(delay_s, arrive)
