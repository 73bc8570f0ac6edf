"""One seed: draw a world and a workload, run it, and let the checkers say what was violated."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from sim_linear import Operation, is_linearizable
from sim_world import Faults, Keys, Process, World

from drtool.errors import NoQuorum, Rejected
from drtool.manifest import (
    AddSnapshot,
    Author,
    Counts,
    Founding,
    Manifest,
    MemoryState,
    OpenSession,
    Policy,
    SetRing,
    Snapshot,
    Target,
)
from drtool.manifest.beginning import begin_manifest
from drtool.manifest.descent import digest_at
from drtool.manifest.witness import Witness

PROFILES = {
    "calm": Faults(),
    "lossy": Faults(lost_request=0.04, lost_reply=0.04, late=0.04, duplicate=0.05),
    "stalls": Faults(stall=0.03, late=0.03, duplicate=0.05),
    "crashes": Faults(crash=0.004, lost_reply=0.02, late=0.02),
    "partitions": Faults(partitions=4, lost_reply=0.02),
    "wiped": Faults(lost_reply=0.02, late=0.06, duplicate=0.2, partitions=2, wiped=True),
    "everything": Faults(0.02, 0.02, 0.03, 0.05, 0.01, 0.003, 2),
}


@dataclass(frozen=True)
class Options:
    """What a seed means; printed with a failure, and all that is needed to run it again."""

    seed: int
    profile: str
    site_count: int
    clients: int
    operations: int
    recent_limit: int
    collect_every: int
    fan_out: int
    retired_changes: int
    cas_sites: int = 0  # how many registers move on by compare and swap; the others are chains


@dataclass
class Result:
    options: Options
    violations: list[str]
    operations: int = 0
    acknowledged: int = 0
    requests: int = 0
    crashes: int = 0


def options_of(seed: int, profile: str | None = None) -> Options:
    rng = random.Random(f"options {seed}")
    return Options(
        seed=seed,
        profile=profile or rng.choice(list(PROFILES)),
        site_count=rng.choice((3, 3, 5)),
        clients=rng.randint(2, 4),
        operations=rng.randint(2, 4),
        recent_limit=rng.choice((5, 8, 64)),
        collect_every=rng.choice((1, 2, 16)),
        fan_out=rng.choice((2, 8)),
        retired_changes=rng.choice((10, 256)),
        cas_sites=rng.choice((0, 0, 1, 2, 5)),
    )


@contextmanager
def limits_of(options: Options) -> Iterator[None]:
    """Small limits, so that a short history folds, merges and collects."""
    with ExitStack() as stack:
        for name, value in (
            ("commit.RECENT_LIMIT", options.recent_limit),
            ("chain.COLLECT_EVERY", options.collect_every),
            ("pages.FAN_OUT", options.fan_out),
            ("pages.LEVEL_ROWS", (8, 32)),
            ("pages.RETIRED_CHANGES", options.retired_changes),
        ):
            stack.enter_context(patch(f"drtool.manifest.{name}", value))
        yield


def run_seed(options: Options) -> Result:
    with limits_of(options):
        return Run(options).result()


@dataclass
class Client:
    """One host, its memory that survives crashes, and its present process."""

    name: str
    local: MemoryState = field(default_factory=MemoryState)
    process: Process | None = None
    manifest: Any = None
    left: int = 0
    epoch: int = 1
    marks: int = 0


class Run:
    def __init__(self, options: Options) -> None:
        self.options = options
        names = [f"site{i}" for i in range(options.site_count)]
        self.modes = dict.fromkeys(names[: options.cas_sites], "cas")
        self.world = World(options.seed, names, PROFILES[options.profile], self.modes)
        self.rng = self.world.rng
        self.keys = Keys(self.rng)
        self.history: list[Operation] = []
        self.violations: list[str] = []
        self.digests: dict[int, bytes] = {}
        self.busy = 0
        self.wiped = ""  # the site that lost everything: it has a problem, and nobody else has one

    def result(self) -> Result:
        self._found()
        clients = [Client(f"client{i}", left=self.options.operations) for i in range(self.options.clients)]
        self.busy = len(clients)
        for client in clients:
            self.world.at(self.rng.uniform(0.0, 1.0), lambda client=client: self._boot(client))
        for _ in range(self.world.faults.partitions):
            self.world.at(self.rng.uniform(0.0, 60.0), lambda: self._cut(clients))
        if self.world.faults.wiped:
            self.world.at(self.rng.uniform(0.5, 30.0), self._wipe)
        self.world.run(lambda: self.busy == 0)
        self._judge(clients)
        acknowledged = sum(operation.answer is not None for operation in self.history)
        return Result(
            self.options,
            self.violations,
            len(self.history),
            acknowledged,
            self.world.requests,
            self.world.crashes,
        )

    def crash_one_commit(self, step: int) -> bool:
        """One client dies at `step` of a commit, another commits, the first comes back. False if it did not die."""
        self._found()
        victim, other = Client("victim"), Client("other")
        for client in (victim, other):
            client.local.remember(self.founded)
            client.process = Process(client.name, client.local)
            client.manifest = self._manifest(client.process)
        victim.process.crash_at = step
        for client in (victim, other):
            operation = Operation("append", f"{client.name}.1", self.world.now)
            self.history.append(operation)
            talk = client.manifest.committing(self._snapshot(client, operation.value))

            def done(value: Any, error: Any, client: Client = client, operation: Operation = operation) -> None:
                self._heard(client, operation, value, error)

            self.world.start(client.process, talk, done)
            self.world.drain()
        died = not victim.process.alive
        back = Process("victim", victim.local)
        self.world.settle(back, self._manifest(back).settling())
        if victim.local.outstanding():
            self.violations.append("the journal is not settled")
        self._judge([victim, other])
        return died

    def _manifest(self, process: Process) -> Manifest:
        return Manifest(
            dict.fromkeys(self.world.sites),
            self.keys,
            process.local,
            author=Author(host_id=process.name, host=process.name),
            draw=self.rng.randbytes,
            now_ns=lambda: int(self.world.now * 1e9),
        )

    def _found(self) -> None:
        """Every history begins with a manifest founded in peace."""
        self.world.faults, faults = Faults(), self.world.faults
        sites = list(self.world.sites)
        founding = Founding(
            repository=self.keys.repository,
            label="sim",
            policy=Policy(copies=1),
            targets=tuple(Target(f"{site}/main", 1, "active", f"file:///{site}") for site in sites),
            voters=tuple((site, f"{site}/main") for site in sites),
            modes=self.modes,
        )
        local = MemoryState()
        begun = self.world.settle(Process("founder", local), begin_manifest(founding, self.keys, 0, "founder"))
        self.founded = Witness(config=begun.config)
        self.targets = founding.targets
        self.world.faults = faults

    def _boot(self, client: Client) -> None:
        client.process = Process(client.name, client.local)
        client.local.remember(self.founded)
        client.manifest = self._manifest(client.process)
        self._watch(client, client.process)
        self.world.start(client.process, client.manifest.settling(), lambda _, error: self._booted(client, error))

    def _booted(self, client: Client, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, NoQuorum):
            self.violations.append(f"settling: {error!r}")
        self._next(client)

    def _watch(self, client: Client, process: Process) -> None:
        """Notice a crash and start again, as cron would."""
        if client.process is process and process.alive:
            self.world.at(5.0, lambda: self._watch(client, process))
        elif client.process is process and client.left >= 0:
            self._boot(client)

    def _cut(self, clients: Sequence[Client]) -> None:
        if not self.busy:
            return
        until = self.world.now + self.rng.uniform(5.0, 60.0)
        client = self.rng.choice(clients)
        for site in self.rng.sample(list(self.world.sites), self.rng.randint(1, self.options.site_count - 1)):
            self.world.cut[client.name, site] = until

    def _wipe(self) -> None:
        self.wiped = self.rng.choice(list(self.world.sites))
        self.world.sites[self.wiped].objects.clear()

    def _next(self, client: Client) -> None:
        client.left -= 1
        if client.left < 0:
            self.busy -= 1
            client.process = None
            return
        kind = self.rng.choices(("append", "read", "epoch"), (6, 4, 2))[0]
        pause_s = self.rng.choice((0.0, 0.0, self.rng.uniform(0.0, 5.0)))
        self.world.at(pause_s, lambda: self._begin(client, client.process, kind))

    def _begin(self, client: Client, process: Process | None, kind: str) -> None:
        if process is None or client.process is not process:
            return
        operation = Operation(kind, None, self.world.now)
        self.history.append(operation)
        talk: Callable[[], Any]
        if kind == "append":
            client.marks += 1
            operation.value = f"{client.name}.{client.marks}"
            batch = self._snapshot(client, operation.value)
            talk = lambda: client.manifest.committing(batch)  # noqa: E731
        elif kind == "epoch":
            operation.value = client.epoch + 1
            ring = (SetRing(epoch=operation.value, targets=self.targets),)
            talk = lambda: client.manifest.committing(ring)  # noqa: E731
        else:
            talk = client.manifest.reading
        self._attempt(client, process, operation, talk, tries=3)

    def _attempt(self, client: Client, process: Process, operation: Operation, talk: Any, tries: int) -> None:
        def done(value: Any, error: BaseException | None) -> None:
            if isinstance(error, NoQuorum) and tries > 1:
                self.world.at(
                    self.rng.uniform(1.0, 20.0), lambda: self._attempt(client, process, operation, talk, tries - 1)
                )
                return
            self._heard(client, operation, value, error)
            self._next(client)

        if process.alive:
            self.world.start(process, talk(), done)

    def _heard(self, client: Client, operation: Operation, value: Any, error: BaseException | None) -> None:
        if isinstance(error, NoQuorum):
            # the same call again would be this one, repeated: an operation of its own needs other words
            client.epoch += operation.kind == "epoch"
            return
        if isinstance(error, Rejected) and operation.kind == "epoch" and error.reason == "ring-changed":
            operation.answer, operation.ended = False, self.world.now
            client.epoch += 1
            return
        if error is not None:
            self.violations.append(f"{operation.kind} {operation.value}: {error!r}")
            return
        view = value if operation.kind == "read" else value.view
        marks, client.epoch = self._see(view)
        operation.ended = self.world.now
        if operation.kind == "read":
            operation.answer = (marks, client.epoch)
        elif operation.kind == "epoch":
            operation.answer = True
        else:
            operation.answer = marks[: marks.index(operation.value) + 1] if operation.value in marks else ("lost",)

    def _see(self, view: Any) -> tuple[tuple[str, ...], int]:
        """Every head that anybody is shown is judged: no two at one sequence, no alarm."""
        self.violations += [f"false alarm: {problem}" for problem in view.problems]
        if self.digests.setdefault(view.sequence, view.digest) != view.digest:
            self.violations.append(f"fork: two heads at change {view.sequence}")
        return tuple(row.source for row in view.state.snapshots), view.state.ring_epoch

    def _snapshot(self, client: Client, mark: str) -> tuple[Any, ...]:
        session = self.rng.randbytes(16)
        opening = OpenSession(kind="backup", host_id=client.name, host=client.name, source=mark, session=session)
        snapshot = Snapshot(
            id=self.rng.randbytes(16),
            session=session,
            source=mark,
            host=client.name,
            user="root",
            time_ns=0,
            started_ns=0,
            paths=(b"/",),
            tags=(),
            root=b"",
            parent=None,
            counts=Counts(),
            program="sim",
        )
        return opening, AddSnapshot(session, snapshot)

    def _judge(self, clients: Sequence[Client]) -> None:
        """Let everything land, read once more in peace, and compare."""
        self.world.faults = Faults()
        self.world.cut.clear()
        self.world.drain()
        process = Process("judge", MemoryState())
        manifest = self._manifest(process)
        last = Operation("read", None, self.world.now)
        try:
            view = self.world.settle(process, manifest.reading())
            problems = self.world.settle(process, manifest.checking())
            self.violations += [f"check: {problem}" for problem in problems if not self._is_wiped(problem)]
            self._judge_descent(manifest, process, view)
            for client in clients:
                again = self._manifest(Process(client.name, client.local))
                self._see(self.world.settle(Process(client.name, client.local), again.reading()))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a violation
            self.violations.append(f"the last reader: {error!r}")
            return
        marks, epoch = self._see(view)
        if len(set(marks)) != len(marks):
            self.violations.append(f"duplicates: {marks}")
        acknowledged = {op.value for op in self.history if op.kind == "append" and op.answer is not None}
        if not acknowledged <= set(marks):
            self.violations.append(f"lost acknowledgements: {sorted(acknowledged - set(marks))}")
        last.ended, last.answer = self.world.now, (marks, epoch)
        if not is_linearizable([*self.history, last]):
            self.violations.append("not linearizable")

    def _is_wiped(self, problem: Any) -> bool:
        """What a wiped site may be blamed for: itself, and objects of which fewer copies are left."""
        return bool(self.wiped) and (problem.site == self.wiped or problem.kind == "missing-object")

    def _judge_descent(self, manifest: Manifest, process: Process, view: Any) -> None:
        for sequence, digest in self.digests.items():
            talk = digest_at(manifest._library, list(self.world.sites), view.learned, sequence)
            if sequence > view.sequence or not digest.startswith(self.world.settle(process, talk)):
                self.violations.append(f"fork: change {sequence} is not an ancestor of the last head")
