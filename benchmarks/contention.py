"""`python -m benchmarks.contention`: many hosts that change the manifest at once, in virtual time.

Two workloads. *continuous*: some hosts commit one change after another for a minute. *tick*: many hosts that cron starts
at the same moment each read the manifest, open a session, renew it and add a snapshot, without other work in between.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.virtual import World
from drtool.crypto import Keyring
from drtool.errors import NoQuorum
from drtool.manifest import (
    AddSnapshot,
    Author,
    CheckpointSession,
    Counts,
    Founding,
    Manifest,
    MemoryState,
    Op,
    OpenSession,
    Policy,
    Snapshot,
    Target,
)
from drtool.manifest.beginning import begin_manifest
from drtool.manifest.ports import Reply
from drtool.manifest.witness import Witness
from drtool.model import RepositoryId, SessionId, SiteName, SnapshotId, TargetName
from drtool.stores.ports import Mode

SITES = tuple(SiteName(f"site{i}") for i in range(3))
COLUMNS = (
    "| workload | mode | seed | commits | commits/s | p50 s | p99 s | longest s | all done s | rounds | wasted rounds/commit"
    " | requests/commit | gave up |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)


@dataclass
class Tally:
    """The measured values."""

    latencies_s: list[float] = field(default_factory=list)
    ended_s: list[float] = field(default_factory=list)
    heads: set[int] = field(default_factory=set)
    gave_up: int = 0


class Crowd:
    """A manifest created without contention, and the hosts that change it."""

    def __init__(self, seed: int, mode: Mode, round_trip_s: float) -> None:
        self.world = World(seed, SITES, mode, round_trip_s, jitter=0.1)
        self.tally = Tally()
        draw = self.world.rng.randbytes
        self._keys = Keyring(RepositoryId(draw(16)), {1: draw(32)}, draw)
        founding = Founding(
            repository=self._keys.repository,
            label="crowd",
            policy=Policy(copies=1),
            targets=tuple(Target(TargetName(f"{site}/main"), 1, "active", f"file:///{site}") for site in SITES),
            voters=tuple((site, TargetName(f"{site}/main")) for site in SITES),
            modes=dict.fromkeys(SITES, mode),
        )
        begun = self.world.settle(MemoryState(), begin_manifest(founding, self._keys, 0, "founder"))
        self._known = Witness(config=begun.config)
        self.world.requests.clear()
        self.world.phases.clear()
        self.began_s = self.world.now_s

    def host(self, name: str) -> "Host":
        """Return a host with the list of voters and an empty cache."""
        local = MemoryState()
        local.remember(self._known)
        manifest = Manifest(
            {**self.world.stores},
            self._keys,
            local,
            author=Author(host_id=name, host=name),
            draw=self.world.rng.randbytes,
            now_ns=lambda: int(self.world.now_s * 1e9),
        )
        return Host(self, name, local, manifest)


class Host:
    """One run on one host, which makes the commits that `plan` yields one after the other."""

    def __init__(self, crowd: Crowd, name: str, local: MemoryState, manifest: Manifest) -> None:
        self.crowd, self.name, self._local, self._manifest = crowd, name, local, manifest
        self._plan: Iterator[Op | None] = iter(())
        self.busy = False

    def begin(self, plan: Iterator[Op | None]) -> None:
        self._plan, self.busy = plan, True
        self._next()

    def _next(self) -> None:
        op = next(self._plan, False)
        if op is False:
            self.busy = False
        elif op is None:
            self.crowd.world.start(self._local, self._manifest.reading(), self._read)
        else:
            self._commit((op,), self.crowd.world.now_s)  # type: ignore[arg-type]

    def _read(self, _view: Reply, error: Exception | None) -> None:
        if error is not None:
            raise error
        self._next()

    def _commit(self, batch: tuple[Op, ...], began_s: float) -> None:
        world, tally = self.crowd.world, self.crowd.tally

        def ended(committed: Reply, error: Exception | None) -> None:
            if isinstance(error, NoQuorum):
                tally.gave_up += 1  # and the user repeats the command
                return self._commit(batch, began_s)
            if error is not None:
                raise error
            tally.latencies_s.append(world.now_s - began_s)
            tally.ended_s.append(world.now_s)
            tally.heads.add(committed.view.sequence)
            return self._next()

        world.start(self._local, self._manifest.committing(batch), ended)

    def backup(self, checkpoint: bool) -> Iterator[Op]:
        """Yield the changes of one backup."""
        session = SessionId(self.crowd.world.rng.randbytes(16))
        yield OpenSession(kind="backup", host_id=self.name, host=self.name, source="home", session=session)
        if checkpoint:
            yield CheckpointSession(session)
        yield AddSnapshot(session, self._snapshot(session))

    def _snapshot(self, session: SessionId) -> Snapshot:
        rng, now_ns = self.crowd.world.rng, int(self.crowd.world.now_s * 1e9)
        return Snapshot(
            id=SnapshotId(rng.randbytes(16)),
            session=session,
            source="home",
            host=self.name,
            user="root",
            time_ns=now_ns,
            started_ns=now_ns,
            paths=(b"/home",),
            tags=(),
            root=rng.randbytes(32),
            parent=None,
            counts=Counts(files=3, bytes=1000),
            program="drtool",
        )


def continuous(crowd: Crowd, hosts: int, seconds: float) -> None:
    """Let `hosts` commit without a pause until the time is over, and finish the commits in progress."""
    ends_s = crowd.began_s + seconds

    def plan(host: Host) -> Iterator[Op | None]:
        while crowd.world.now_s < ends_s:
            yield from host.backup(checkpoint=False)

    _together(crowd, hosts, plan)


def tick(crowd: Crowd, hosts: int) -> None:
    """Let `hosts` start at once, read, and commit three times each."""

    def plan(host: Host) -> Iterator[Op | None]:
        yield None
        yield from host.backup(checkpoint=True)

    _together(crowd, hosts, plan)


def _together(crowd: Crowd, count: int, plan: Callable[[Host], Iterator[Op | None]]) -> None:
    hosts = [crowd.host(f"host{i}") for i in range(count)]
    for host in hosts:
        crowd.world.at(0.0, lambda host=host: host.begin(plan(host)))  # type: ignore[misc]
    crowd.world.at(0.001, lambda: None)
    crowd.world.run(lambda: crowd.world.now_s > crowd.began_s and not any(host.busy for host in hosts))


def row(title: str, mode: str, seed: int, crowd: Crowd, window_s: float | None) -> str:
    """Return one line of the table. A round is wasted unless a commit ended with its head."""
    tally, world = crowd.tally, crowd.world
    count, last_s = len(tally.latencies_s), max(tally.ended_s) - crowd.began_s
    within = sum(ended_s <= crowd.began_s + (window_s or last_s) for ended_s in tally.ended_s)
    rounds = world.phases["prepare"]
    cells = (
        title,
        mode,
        seed,
        count,
        f"{within / (window_s or last_s):.1f}",
        f"{_percentile(tally.latencies_s, 50):.2f}",
        f"{_percentile(tally.latencies_s, 99):.2f}",
        f"{max(tally.latencies_s):.2f}",
        f"{last_s:.1f}",
        rounds,
        f"{(rounds - len(tally.heads)) / count:.2f}",
        f"{world.requests.total() / count:.0f}",
        tally.gave_up,
    )
    return f"| {' | '.join(map(str, cells))} |"


def _percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def main() -> None:
    options = _options()
    print(COLUMNS, flush=True)
    for mode in options.modes:
        for seed in options.seeds:
            for hosts in options.proposers:
                crowd = Crowd(seed, mode, options.round_trip_ms / 1000)
                continuous(crowd, hosts, options.seconds)
                print(row(f"{hosts} continuously", mode, seed, crowd, options.seconds), flush=True)
            for hosts in options.hosts:
                crowd = Crowd(seed, mode, options.round_trip_ms / 1000)
                tick(crowd, hosts)
                print(row(f"{hosts} at one tick", mode, seed, crowd, None), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contention", description=__doc__)
    parser.add_argument("--modes", nargs="*", default=["chain", "cas"], choices=["chain", "cas"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--proposers", nargs="*", type=int, default=[1, 2, 4, 8, 32], help="continuous committers")
    parser.add_argument(
        "--hosts", nargs="*", type=int, default=[100], help="number of hosts that cron starts at one tick"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of the continuous workload")
    parser.add_argument("--round-trip-ms", type=float, default=50.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
