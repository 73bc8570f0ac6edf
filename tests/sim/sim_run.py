"""One seed: a world and a workload, run to the end, and what the checkers say."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import sim_membership
import sim_work
from sim_disaster import Disaster, go_on_without
from sim_holdings import Holdings
from sim_judge import Judge, State
from sim_linear import Operation
from sim_membership import Copies, Twice
from sim_options import Options, limits_of
from sim_sites import Liar
from sim_world import Faults, Keys, Process, World

from drtool.errors import Diverged, Forked, NoQuorum, ObjectMissing, Rejected
from drtool.manifest import (
    Author,
    Founding,
    Manifest,
    Member,
    MemoryState,
    Policy,
    Target,
)
from drtool.manifest.beginning import begin_manifest
from drtool.manifest.descent import digest_at
from drtool.manifest.records import KeyTable
from drtool.manifest.witness import Witness

REFUSALS = {("epoch", "ring-changed"), ("voters", "voters-changed"), ("rotate", "keys-changed")}


@dataclass
class Result:
    options: Options
    violations: list[str]
    operations: int = 0
    acknowledged: int = 0
    requests: int = 0
    crashes: int = 0
    alarms: int = 0
    lies: int = 0
    clones: int = 0
    restored: int = 0
    struck: bool = False
    turned_away: int = 0
    rotations: int = 0


def run_seed(options: Options) -> Result:
    with limits_of(options):
        run = Run(options)
        try:
            return run.result()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a violation
            return Result(options, [*run.violations, f"the world stops: {error!r}"])


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
    administrates: bool = False
    rotates: bool = False


class Run:
    def __init__(self, options: Options) -> None:
        self.options = options
        names = [f"site{i}" for i in range(options.site_count + options.spares)]
        self.voters = names[: options.site_count]
        self.modes = dict.fromkeys(names[: options.cas_sites], "cas")
        self.liars = (self.voters[options.seed % options.site_count],) if options.faults.lying else ()
        self.world = World(options.seed, names, options.faults, self.modes, self.liars)
        self.rng = self.world.rng
        self.keys = Keys(self.rng)
        self.history: list[Operation] = []
        self.judge = Judge(options.trusted, faulty=set(self.liars))
        self.violations = self.judge.violations
        self.holdings = Holdings(self)
        self.disaster: Disaster | None = None
        self.copies: Copies | None = None
        self.refusals = 0  # commits that were refused because nothing is built on a head that denies what was seen
        self.busy = 0
        self.clones = self.restored = 0  # images that were started, beside their hosts or in their places

    def result(self) -> Result:
        self.found()
        clients = [Client(f"client{i}", left=self.options.operations) for i in range(self.options.clients)]
        count = self.world.faults.voters
        clients += [Client(f"admin{i}", left=self.options.operations, administrates=True) for i in range(count)]
        count = self.world.faults.rotations
        clients += [Client(f"keeper{i}", left=self.options.operations, rotates=True) for i in range(count)]
        self.busy = len(clients)
        for client in clients:
            self.world.at(self.rng.uniform(0.0, 1.0), lambda client=client: self._boot(client))
        self._plan_faults(clients)
        self.world.run(lambda: self.busy == 0)
        self.conclude(clients)
        return Result(
            self.options,
            self.violations,
            len(self.history),
            sum(operation.answer is not None for operation in self.history),
            self.world.requests,
            self.world.crashes,
            self.judge.alarms + self.refusals,
            sum(site.lies for site in self.world.sites.values() if isinstance(site, Liar)),
            self.clones,
            self.restored,
            bool(self.disaster and self.disaster.survivors),
            self.copies.turned_away if self.copies else 0,
            self.keys.generation - 1,
        )

    def _plan_faults(self, clients: list[Client]) -> None:
        for _ in range(self.world.faults.partitions):
            self.world.at(self.rng.uniform(0.0, 60.0), lambda: self._cut(clients))
        first = self.world.requests + self.rng.randint(10, 200)
        if self.world.faults.wiped:
            self.world.at_request(first, self._wipe)
        if self.world.faults.recovery:
            self.disaster = Disaster(self)
            self.world.at_request(first, self.disaster.strike)
        if self.world.faults.copied:
            self.copies = Copies(self, clients)
            self.world.at_request(first, self.copies.strike)
        for number in range(self.world.faults.images):
            self.world.at_request(first + 40 * number, lambda: self._take_image(clients))
        if self.world.faults.rolled_back:
            self.world.at_request(first, lambda: self._copy(clients, self.rng.randint(20, 150)))

    def manifest(self, process: Process, local: MemoryState | None = None) -> Manifest:
        return Manifest(
            dict.fromkeys(self.world.sites),
            self.keys,
            local or process.local,
            author=Author(host_id=process.name, host=process.name),
            draw=self.rng.randbytes,
            now_ns=lambda: int(self.world.now * 1e9),
            reach=self.copies and (lambda rows: self.copies.bind(process.name, rows)),
        )

    def found(self) -> None:
        """Every history begins with a manifest founded in peace."""
        self.world.faults, faults = Faults(), self.world.faults
        sites = list(self.world.sites)
        founding = Founding(
            repository=self.keys.repository,
            label="sim",
            policy=Policy(copies=1),
            targets=tuple(Target(f"{site}/main", 1, "active", f"file:///{site}") for site in sites),
            voters=tuple((site, f"{site}/main") for site in self.voters),
            modes=self.modes,
            keys=sim_membership.first_table(self) if faults.rotations else KeyTable(),
            liars=self.options.liars,
        )
        self.world.watchers.append(self.holdings.after)
        if faults.rotations:
            self.world.watchers.append(partial(sim_membership.check_slots, self))
        local = MemoryState()
        for site in self.liars:
            self.world.sites[site].honest = True
        begun = self.world.settle(Process("founder", local), begin_manifest(founding, self.keys, 0, "founder"))
        for site in self.liars:
            self.world.sites[site].honest = False
        self.founded = Witness(config=begun.config)
        self.targets = founding.targets
        self.world.faults = faults

    def _boot(self, client: Client) -> None:
        client.process = Process(client.name, client.local)
        client.local.remember(self.founded)
        client.manifest = self.manifest(client.process)
        self._watch(client, client.process)
        settling = self._bound(client, client.manifest.settling)
        self.world.start(client.process, settling(), lambda _, error: self._booted(client, error))

    def _bound(self, client: Client, talk: Any) -> Any:
        return self.copies.bound(client, talk) if self.copies else talk

    def _booted(self, client: Client, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, NoQuorum | Twice) and not self._is_alarm(error):
            self.violations.append(f"settling: {error!r}")
        self._next(client)

    def _is_alarm(self, error: BaseException) -> bool:
        """What may be said where a rollback is detected and not prevented: it is said, so nothing is lost in silence."""
        return not self.options.trusted and isinstance(error, Diverged | Forked | ObjectMissing | Rejected)

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
        sites = list(self.world.sites)
        for site in self.rng.sample(sites, self.rng.randint(1, len(sites) - 1)):
            self.world.cut[client.name, site] = until

    def _wipe(self) -> None:
        site = self.rng.choice(self.voters)
        self.judge.faulty.add(site)
        self.world.sites[site].objects.clear()

    def _take_image(self, clients: list[Client]) -> None:
        """Take an image of a host, its memory and its journal; later it is started beside the host, or put in its place."""
        client = self.rng.choice(clients)
        image, beside = deepcopy(client.local), self.rng.random() < 0.5

        def start() -> None:
            if beside and self.busy:
                clone = Client(f"{client.name}+{len(clients)}", image, left=self.options.operations, epoch=client.epoch)
                clients.append(clone)
                self.clones += 1
                self.busy += 1
                self._boot(clone)
            elif client.process is not None:
                client.process.alive = False
                client.local = image
                self.restored += 1

        self.world.at_request(self.world.requests + self.rng.randint(5, 150), start)

    def _copy(self, clients: Sequence[Client], requests: int) -> None:
        """Take a copy of a site, and put it back some requests later: a restored machine.

        Where that is not prevented from being seen, the worst is made of it: first another site is away, and then, when
        only the restored one knew what it missed, a third.
        """
        site, before, after = self.rng.sample(self.voters, 3)
        copy = dict(self.world.sites[site].objects)
        worst = not self.options.trusted and self.rng.random() < 0.5
        away_s = self.rng.uniform(30.0, 90.0)
        if worst:
            self.cut_off(clients, before, away_s)

        def put_back() -> None:
            self.judge.faulty.add(site)
            self.world.sites[site].objects = copy
            if worst:
                self.cut_off(clients, before, 0.0)
                self.cut_off(clients, after, away_s)

        self.world.at_request(self.world.requests + requests, put_back)

    def cut_off(self, clients: Sequence[Client], site: str, seconds: float) -> None:
        self.world.cut |= {(client.name, site): self.world.now + seconds for client in clients}

    def _next(self, client: Client) -> None:
        client.left -= 1
        if client.left < 0:
            self.busy -= 1
            client.process = None
            return
        kind = sim_work.draw_kind(self, client)
        pause_s = self.rng.choice((0.0, 0.0, self.rng.uniform(0.0, 5.0)))
        self.world.at(pause_s, lambda: self._begin(client, client.process, kind))

    def _begin(self, client: Client, process: Process | None, kind: str) -> None:
        if process is None or client.process is not process:
            return
        operation, talk = sim_work.begin(self, client, kind)
        self._attempt(client, process, operation, self._bound(client, talk), tries=3)

    def _attempt(self, client: Client, process: Process, operation: Operation, talk: Any, tries: int) -> None:
        before = client.local.witness()

        def done(value: Any, error: BaseException | None) -> None:
            if isinstance(error, NoQuorum) and tries > 1:
                self.world.at(
                    self.rng.uniform(1.0, 20.0), lambda: self._attempt(client, process, operation, talk, tries - 1)
                )
                return
            self.heard(client, operation, value, error, before)
            self._next(client)

        if process.alive:
            self.world.start(process, talk(), done)

    def heard(
        self, client: Client, operation: Operation, value: Any, error: BaseException | None, before: Witness
    ) -> None:
        """What became of an operation: its answer, or why there is none."""
        self.refusals += isinstance(error, Diverged)
        if isinstance(error, NoQuorum | Twice) or (error is not None and self._is_alarm(error)):
            # the same call again would be this one, repeated: an operation of its own needs other words
            client.epoch += operation.kind == "epoch"
            return
        if isinstance(error, Rejected) and (operation.kind, error.reason) in REFUSALS:
            operation.answer, operation.ended = False, self.world.now
            client.epoch += operation.kind == "epoch"
            return
        if error is not None:
            self.violations.append(f"{operation.kind} {operation.value}: {error!r}")
            return
        if operation.kind == "compact":
            operation.ended, operation.answer = self.world.now, True
            return
        view = value.view if operation.kind in ("append", "epoch") else value
        host = operation.value if operation.kind == "read" and operation.value else client.name
        marks, epoch = self.judge.see(host, view, before if host == client.name else Witness())
        operation.ended, client.epoch = self.world.now, epoch
        if operation.kind == "read":
            operation.answer = (marks, epoch)
        elif operation.kind == "append":
            operation.answer = marks[: marks.index(operation.value) + 1] if operation.value in marks else ("lost",)
        else:
            operation.answer = True

    def conclude(self, clients: Sequence[Client]) -> None:
        """Let everything land, read once more in peace, and compare."""
        self.world.faults = Faults()
        self.world.cut.clear()
        self.world.forget_plans()
        self.world.drain()
        try:
            self.holdings.in_the_end()
            if self.copies:
                self.copies.in_the_end()
            if self.disaster and self.disaster.survivors:
                self.disaster.decide()
            if self.liars and not self.options.trusted:
                go_on_without(self, self.liars)
            last = self._last_look(clients)
            if self.disaster and self.disaster.survivors:
                self.disaster.judge(clients, last[0])
            self.judge.conclude(self.history, last, self.world.now)
            self._repair()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a violation
            self.violations.append(f"the last reader: {error!r}")

    def _last_look(self, clients: Sequence[Client]) -> State:
        """A stranger and all the clients read; the stranger checks every site and every head that was ever shown."""
        process = Process("stranger", MemoryState())
        manifest = self.manifest(process)
        view = self.world.settle(process, manifest.reading())
        last = self.judge.see("stranger", view, Witness())
        self.judge.check(self.world.settle(process, manifest.checking()))
        self._judge_descent(manifest, process, view)
        for client in clients:
            before, again = client.local.witness(), Process(client.name, client.local)
            view = self.world.settle(again, self.manifest(again).reading())
            self.judge.see(client.name, view, before)
        return last

    def _judge_descent(self, manifest: Manifest, process: Process, view: Any) -> None:
        for sequence, digest in self.judge.digests.items():
            talk = digest_at(manifest._library, list(self.world.sites), view.learned, sequence)
            if sequence > view.sequence or not digest.startswith(self.world.settle(process, talk)):
                self.violations.append(f"fork: change {sequence} is not an ancestor of the last head")

    def _repair(self) -> None:
        """A site that forgot everything, or a part, begins a new life; a repair readmits those that never began.

        Then nothing is wrong any more.
        """
        forgetful = self.judge.faulty - set(self.liars)
        if not forgetful:
            return
        process = Process("repairer", MemoryState())
        manifest = self.manifest(process)
        config = self.world.settle(process, manifest.refreshing()).config
        forgetful &= {row.site for row in config.voters}
        if forgetful:
            members = [Member(row.site, row.target, row.mode, fresh=row.site in forgetful) for row in config.voters]
            after = self.world.settle(process, manifest.setting_voters(members))
            if after.config.number == config.number:
                self.violations.append(f"no new life for {forgetful}: {after.config}")
        problems = self.world.settle(process, manifest.checking())
        self.violations += [f"not repaired: {problem}" for problem in problems]
