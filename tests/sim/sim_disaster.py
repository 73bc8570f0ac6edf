"""A majority is lost for ever, or only seems to be from where the administrators are; they recover from the rest.

What may be claimed then: nobody is shown less than he saw without being told; what was acknowledged and is on a survivor
stays; what was acknowledged elsewhere comes back when its host runs again; two recoveries are named, and a person who
chooses one ends it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sim_world import Process

from drtool.errors import DrtoolError, Forked, NoQuorum, Refused
from drtool.manifest import MemoryState, ports
from drtool.manifest.finding import Sighting, look_around, newest_record
from drtool.manifest.library import Library
from drtool.manifest.local import MemoryCache
from drtool.manifest.witness import Witness

if TYPE_CHECKING:
    from sim_run import Client, Run

TRIES = 8


class Disaster:
    """One disaster of one run: what was lost, what the survivors held, who recovers."""

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._rng = run.rng
        self.survivors: list[str] = []
        self.kept: set[str] = set()  # acknowledged before, and on a survivor
        self.forks = 0
        self.for_ever = self._rng.random() < 0.6

    def strike(self) -> None:
        """Too few sites are left, and one or two administrators notice."""
        run = self._run
        known = self._choose_survivors()
        lost = [site for site in run.voters if site not in self.survivors]
        admins = [f"admin{number}" for number in range(self._rng.choice((1, 1, 2)))]
        for site in lost if self.for_ever else ():
            run.world.sites[site].gone = True
            run.judge.faulty.add(site)
        for name in () if self.for_ever else admins:
            run.world.cut |= {(name, site): run.world.now + 10_000.0 for site in lost}
        run.judge.may_give_up = True
        acknowledged = {op.value for op in run.history if op.kind == "append" and op.answer is not None}
        self.kept = acknowledged & set(known)
        for name in admins:
            run.busy += 1
            run.world.at(self._rng.uniform(0.0, 20.0), lambda name=name: self._recover(name, TRIES))

    def _choose_survivors(self) -> Sequence[str]:
        """Fewer than a quorum: the changes there, by mark. However few there are, they tell their newest head alone."""
        run = self._run
        count = self._rng.randint(1, len(run.voters) - run.options.quorum)
        self.survivors = sorted(self._rng.sample(run.voters, count))
        return self._marks_on(self.survivors)

    def _marks_on(self, sites: Sequence[str]) -> Sequence[str]:
        """What the newest head at any of them says, by looking at their bytes."""
        run, library = self._run, Library(self._run.keys, MemoryCache())
        replies = _now(run, look_around(sites, run.keys, wait_for_all=True))
        record = newest_record([seen for seen in replies.values() if isinstance(seen, Sighting)])
        if record is None:
            raise NoQuorum("no survivor holds a head")
        learned = _now(run, library.learn(list(sites), record.value))
        return [row.source for row in learned.state.snapshots]

    def _recover(self, name: str, tries: int) -> None:
        run = self._run
        process = Process(name, MemoryState())
        process.local.remember(run.founded)
        manifest = run.manifest(process)

        def done(_view: Any, error: BaseException | None) -> None:
            self.forks += isinstance(error, Forked)
            if isinstance(error, NoQuorum) and tries > 1:
                run.world.at(self._rng.uniform(1.0, 20.0), lambda: self._recover(name, tries - 1))
                return
            if error is not None and not isinstance(error, Forked | Refused | NoQuorum):
                run.violations.append(f"recovery by {name}: {error!r}")
            run.busy -= 1

        run.world.start(process, manifest.recovering(self.survivors), done)

    def decide(self) -> None:
        """If the fork, or the loss, is still there in the end: a person names the sites to go on from."""
        run = self._run
        process = Process("person", MemoryState())
        manifest = run.manifest(process)
        try:
            run.world.settle(process, manifest.reading())
        except Forked:
            self.forks += 1
            sites = self._one_side()
        except NoQuorum:
            sites = self.survivors
        else:
            return
        try:
            run.world.settle(process, manifest.recovering(sites))
        except DrtoolError as error:
            run.violations.append(f"a person could not decide: {error!r}")

    def _one_side(self) -> list[str]:
        """The sites that went along with one of the two recoveries."""
        replies = _now(self._run, look_around(self.survivors, self._run.keys, wait_for_all=True))
        sides: dict[bytes, list[str]] = {}
        for site, seen in replies.items():
            newest = max(seen.configs(), key=lambda config: config.place)
            sides.setdefault(newest.recovery, []).append(site)
        return max(sides.values(), key=len)

    def judge(self, clients: "Sequence[Client]", marks: Sequence[str]) -> None:
        """What was acknowledged and kept is there at once; the rest when its hosts have run again."""
        run = self._run
        if not self.kept <= set(marks):
            run.violations.append(f"lost on survivors: {sorted(self.kept - set(marks))}")
        for client in clients:
            process = Process(client.name, client.local)
            manifest = run.manifest(process)
            run.world.settle(process, manifest.settling())
            before = client.local.witness()
            run.judge.see(client.name, run.world.settle(process, manifest.reading()), before)
        process = Process("auditor", MemoryState())
        view = run.world.settle(process, run.manifest(process).reading())
        there = run.judge.see("auditor", view, Witness())[0]
        acknowledged = {op.value for op in run.history if op.kind == "append" and op.answer is not None}
        if not acknowledged <= set(there):
            run.violations.append(f"never came back: {sorted(acknowledged - set(there))}")


def go_on_without(run: "Run", liars: Sequence[str]) -> None:
    """Recover if the honest sites have no quorum without the liars.

    A liar that the quorum does not tolerate can take it away, by denying that its register ever began. It may do so at the
    next read, so the person does not count on its answers.
    """
    process = Process("person", MemoryState())
    run.world.cut |= {(process.name, site): run.world.now + 1000.0 for site in liars}
    manifest = run.manifest(process)
    try:
        run.world.settle(process, manifest.reading())
    except NoQuorum:
        honest = [site for site in run.voters if site not in liars]
        seen = _now(run, look_around(honest, run.keys, wait_for_all=True))
        newest = max(max(seen[site].configs(), key=_place).place for site in honest)
        holding = [site for site in honest if seen[site].config is not None and seen[site].config.place == newest]
        run.judge.may_give_up = True
        run.world.settle(process, manifest.recovering(holding))
    except DrtoolError:
        return  # whatever else there is, the last reader says it


def _place(config: Any) -> Any:
    return config.place


def _now(run: "Run", talk: Any) -> Any:
    """Answer a conversation that only reads at once, outside of time."""
    reply: Any = None
    while True:
        try:
            request = talk.send(reply)
        except StopIteration as end:
            return end.value
        match request:
            case ports.Gather():
                reply = {site: _now(run, branch) for site, branch in request.branches.items()}
            case ports.Note():
                reply = None
            case _:
                reply = run.world.sites[request.site].perform(request)
