"""One conversation that dies at a chosen step, with its request under way or not; then another host, then the same again."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sim_disaster import Disaster
from sim_linear import Operation
from sim_options import Options, limits_of
from sim_run import Client, Run
from sim_work import backup
from sim_world import Process

from drtool.errors import DrtoolError, Refused
from drtool.manifest import Member

Errand = Callable[[Run, Client], Any]


@dataclass
class Crash:
    """What became of it: whether the victim died at all, and what was violated."""

    died: bool
    violations: list[str]


def commit(run: Run, client: Client) -> Any:
    mark = f"{client.name}.1"
    run.history.append(Operation("append", mark, run.world.now))
    return client.manifest.committing(backup(run, client.name, mark))


def voters(*names: str, fresh: str = "") -> Errand:
    """Make these sites the voters."""

    def errand(run: Run, client: Client) -> Any:
        return client.manifest.setting_voters(
            [Member(name, f"{name}/main", run.modes.get(name, "chain"), name == fresh) for name in names]
        )

    return errand


def recovery(run: Run, client: Client) -> Any:
    """All sites but the first are gone for ever; go on from that one."""
    first, *rest = run.voters
    for site in rest:
        run.world.sites[site].gone = True
        run.judge.faulty.add(site)
    run.judge.may_give_up = True
    run.disaster = Disaster(run)
    run.disaster.survivors = [first]
    return client.manifest.recovering([first])


def crash_one(options: Options, errand: Errand, step: int, *, lands: bool) -> Crash:
    """The victim dies at `step` of the errand; another host commits; the victim comes back and does it all again."""
    with limits_of(options):
        run = Run(options)
        run.found()
        victim, other = (_host(run, name) for name in ("victim", "other"))
        _do(run, other, Operation("append", "before", run.world.now))
        assert victim.process is not None
        victim.process.crash_at, victim.process.lands = step, lands
        run.world.start(victim.process, errand(run, victim), lambda _value, error: _note(run, error))
        run.world.drain()
        died = not victim.process.alive
        if errand is recovery and died:  # nobody else can do anything before it is finished
            second = _host(run, "second")
            with suppress(Refused):  # the victim had finished it
                run.world.settle(second.process, errand(run, second))
        _do(run, other, Operation("append", "after", run.world.now))
        again = _host(run, "victim", victim)
        try:
            run.world.settle(again.process, again.manifest.settling())
        except DrtoolError as error:
            run.violations.append(f"nobody can settle: {error!r}")
        if victim.local.outstanding():
            run.violations.append("the journal is not settled")
        run.conclude([victim, other])
        return Crash(died, run.violations)


def _host(run: Run, name: str, known: Client | None = None) -> Client:
    client = known or Client(name)
    client.local.remember(run.founded)
    client.process = Process(name, client.local)
    client.manifest = run.manifest(client.process)
    return client


def _do(run: Run, client: Client, operation: Operation) -> None:
    run.history.append(operation)
    before = client.local.witness()
    batch = backup(run, client.name, operation.value)
    try:
        value = run.world.settle(client.process, client.manifest.committing(batch))
    except DrtoolError as error:
        run.violations.append(f"nobody can commit {operation.value!r}: {error!r}")
    else:
        run.heard(client, operation, value, None, before)


def _note(run: Run, error: BaseException | None) -> None:
    if error is not None:
        run.violations.append(f"the victim, alive: {error!r}")
