"""Directed schedules: no dice, but requests that are held on their way and let go in a chosen order.

Virtual time runs on while something is held, so whoever can go on does. A request that is released lands at once.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from sim_judge import Judge
from sim_linear import Operation
from sim_membership import rotating
from sim_options import Options
from sim_run import Client, Run
from sim_work import backup
from sim_world import Hold, Process

from drtool.manifest import Member, MemoryState, ports

PEACE = Options(
    seed=1,
    profile="calm",
    site_count=3,
    clients=0,
    operations=0,
    recent_limit=64,
    collect_every=16,
    fan_out=8,
    retired_changes=256,
)


def _is_proposal(request: Any) -> bool:
    """The journal is written last before a value is sealed and offered."""
    return isinstance(request, ports.Journal)


def lockstep(one: Any, other: Any, ends: Callable[[Any], bool]) -> Any:
    """Two conversations that get the same replies, until one asks for something at which that `ends`; what both ask then."""
    replies: Any = (None, None)
    while True:
        asked, also = one.send(replies[0]), other.send(replies[1])
        if ends(asked):
            return asked, also
        if isinstance(asked, ports.Gather):
            replies = yield from _gathered(asked, also)
        else:
            reply = yield asked
            replies = reply, reply


def _gathered(one: ports.Gather, other: ports.Gather) -> Any:
    """The replies to both, whose branches ask each site once."""
    pairs = yield ports.Gather(
        {site: _together(one.branches[site], other.branches[site]) for site in one.branches},
        lambda results: one.enough({site: result[0] for site, result in results.items()}),
        one.grace_s,
    )
    return [{site: pair[i] if isinstance(pair, tuple) else pair for site, pair in pairs.items()} for i in range(2)]


def _together(one: Any, other: Any) -> Any:
    reply = None
    while True:
        ended: list[Any] = []
        for talk in (one, other):
            try:
                asked = talk.send(reply)
            except StopIteration as end:
                ended.append(end.value)
        if ended:
            return tuple(ended)
        reply = yield asked


def thawed(talk: Any, asked: Any) -> Any:
    """The rest of a conversation that had asked for something."""
    while True:
        reply = yield asked
        try:
            asked = talk.send(reply)
        except StopIteration as end:
            return end.value


class Stage:
    """Some hosts and sites, and the one who says what arrives when."""

    def __init__(self, options: Options = PEACE) -> None:
        self.run = Run(options)
        self.run.found()
        self.world = self.run.world
        self.judge: Judge = self.run.judge
        self.clients: dict[str, Client] = {}

    def host(self, name: str) -> Client:
        """A host; asked for again: a new process of it."""
        client = self.clients.setdefault(name, Client(name, MemoryState()))
        client.local.remember(self.run.founded)
        client.process = Process(name, client.local)
        client.manifest = self.run.manifest(client.process)
        return client

    def append(self, name: str, mark: str) -> Operation:
        """Let a host begin a backup called `mark`; it goes on whenever time passes."""
        client = self.clients.get(name) or self.host(name)
        batch = self.batch(name, mark)
        return self._begin(client, Operation("append", mark, self.world.now), lambda: client.manifest.committing(batch))

    def batch(self, name: str, mark: str) -> tuple[Any, ...]:
        """What a backup called `mark` commits."""
        return backup(self.run, name, mark)

    def read(self, name: str) -> Operation:
        client = self.clients.get(name) or self.host(name)
        return self._begin(client, Operation("read", None, self.world.now), client.manifest.reading)

    def restart(self, name: str) -> None:
        """Let a host begin again and settle what its last process had sent; it goes on whenever time passes."""
        client = self.host(name)
        self.world.start(client.process, client.manifest.settling(), lambda *_: None)

    def recover(self, name: str, *sites: str) -> list[Any]:
        """Let a host recover from `sites`; the list gets what became of it."""
        client = self.clients.get(name) or self.host(name)
        outcome: list[Any] = []
        self.run.judge.may_give_up = True
        self.world.start(client.process, client.manifest.recovering(sites), lambda *words: outcome.extend(words))
        return outcome

    def compact(self, name: str) -> None:
        """Let a host delete what no head names any more; it goes on whenever time passes."""
        client = self.clients.get(name) or self.host(name)
        assert client.process is not None
        if not client.process.alive:  # a call that gave up: the same run tries again
            client.process = Process(name, client.local)
        self.world.start(client.process, client.manifest.compacting(), lambda *_: None)

    def set_voters(self, name: str, *sites: str) -> None:
        """Let a host make these sites the voters; it goes on whenever time passes."""
        client = self.clients.get(name) or self.host(name)
        members = [Member(site, f"{site}/main") for site in sites]
        self.world.start(client.process, client.manifest.setting_voters(members), lambda *_: None)

    def rotate(self, name: str, away: str) -> list[Any]:
        """Let a host that does not reach `away` rotate the keys; the list gets the view once that is done."""
        client, done = self.host(name), list[Any]()
        talk = rotating(self.run, client)
        self.world.cut = {(name, away): self.world.now + 1000.0}
        self.world.start(client.process, talk(), lambda view, _error: done.append(view) if view else None)
        return done

    def lose(self, *sites: str) -> None:
        """These sites are gone for ever."""
        for site in sites:
            self.world.sites[site].gone = True
            self.judge.faulty.add(site)

    def _begin(self, client: Client, operation: Operation, talk: Callable[[], Any]) -> Operation:
        self.run.history.append(operation)
        before = client.local.witness()

        def done(value: Any, error: BaseException | None) -> None:
            self.run.heard(client, operation, value, error, before)

        self.world.start(client.process, talk(), done)
        return operation

    def frozen(self, name: str, mark: str, other_mark: str) -> tuple[Operation, Operation]:
        """Let a machine be frozen when it is about to propose, and two lives of it go on: `name`, and `name` with a prime.

        Until then both are one conversation. What each puts into its proposal is its own.
        """
        lives = [(self.host(name), mark), (self.host(f"{name}'"), other_mark)]
        talks = [client.manifest.committing(self.batch(name, words)) for client, words in lives]
        frozen: list[Any] = []
        before = Process(name, lives[0][0].local)
        self.world.start(before, lockstep(talks[0], talks[1], _is_proposal), lambda asked, _error: frozen.extend(asked))
        self.world.run(lambda: bool(frozen))
        first, second = (
            self._begin(client, Operation("append", words, self.world.now), partial(thawed, talk, request))
            for (client, words), talk, request in zip(lives, talks, frozen, strict=True)
        )
        return first, second

    def hold(
        self, host: str, *sites: str, kind: type[Any] | tuple[type[Any], ...] = object, name: str = "", prefix: str = ""
    ) -> Hold:
        """From now on these requests wait: of `host`, to `sites` (none: all), of that kind, with `name` in their name.

        `prefix`: instead, listings and reads below it.
        """

        def matches(who: str, request: ports.SiteRequest) -> bool:
            if who != host or (sites and request.site not in sites) or not isinstance(request, kind):
                return False
            words = getattr(request, "name", "") or getattr(request, "prefix", "")
            return (prefix or name) in words

        return self.world.hold(matches)

    def until(self, operation: Operation) -> None:
        """Let time pass until the operation has its answer."""
        self.world.run(lambda: operation.answer is not None)
        assert operation.answer is not None, f"{operation} has no answer, and nothing is under way"

    def until_waiting(self, hold: Hold, count: int = 1) -> None:
        """Let time pass until so many requests are held."""
        self.world.run(lambda: len(hold.waiting) >= count)
        assert len(hold.waiting) >= count, f"{len(hold.waiting)} requests wait, and nothing is under way"

    def for_s(self, seconds: float) -> None:
        """Let so much time pass."""
        over: list[bool] = []
        self.world.at(seconds, lambda: over.append(True))
        self.world.run(lambda: bool(over))

    def conclude(self) -> list[str]:
        """Everything that is held arrives, everybody reads once more; what was violated."""
        for hold in self.world.holds:
            hold.release()
        self.run.conclude(list(self.clients.values()))
        return self.run.violations
