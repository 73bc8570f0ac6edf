"""One process of the scenario: a host that writes or reads, call after call, and writes down what it heard.

Every call is a real one of `drtool.manifest.Manifest`, as a run of drtool makes it: the stores are opened for it, and the
host's memory is its state directory. The writer that has a command line runs `python -m drtool backup` for some of its
calls. Which calls, in what order and with which pauses is drawn from the seed; how they fall into each other is not.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sim"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from chaos_history import Diary, hash_of

from drtool.crypto import Keyring
from drtool.errors import DrtoolError, NoQuorum, Rejected, StoreError
from drtool.manifest import (
    AddSnapshot,
    Author,
    Counts,
    DirectoryState,
    Manifest,
    MemoryCache,
    OpenSession,
    SetRing,
    Snapshot,
    View,
)
from drtool.manifest.switching import Member
from drtool.stores import Faults, FaultyStore, LocalStore

REPOSITORY = Path(__file__).resolve().parents[2]
ACKNOWLEDGED = (0, 5)  # 5: stored, and a site that was away is owed its copy
NO_QUORUM = 6
STEPS_OF_A_CALL = 90


class Host:
    """What a process knows of the world: the file that the scenario wrote, and its own directories."""

    def __init__(self, world: Path, name: str, run: int) -> None:
        self.directory = world
        self.facts: dict[str, Any] = json.loads((world / "world.json").read_text())
        self.name = name
        self.process = f"{name}.{run}"
        self.rng = random.Random(f"{self.facts['seed']} {self.process}")
        masters = {int(generation): bytes.fromhex(key) for generation, key in self.facts["masters"].items()}
        self.keys = Keyring(bytes.fromhex(self.facts["repository"]), masters)
        self.home = world / "hosts" / name
        self.local = DirectoryState(self.home / "state" / "repositories" / self.facts["repository"])
        self.pages = MemoryCache()

    def orders(self) -> dict[str, Any]:
        """What the scenario wants at this moment: slow sites, and how probable it is to die or stop in a call."""
        return dict(json.loads((self.directory / "orders.json").read_text()))

    @contextlib.contextmanager
    def manifest(self, hook: Any = None) -> Iterator[Manifest]:
        """A run's manifest, over the stores that can be opened now."""
        slow: Mapping[str, float] = self.orders()["slow"]
        stores: dict[str, Any] = {}
        for site, root in self.facts["sites"].items():
            with contextlib.suppress(StoreError):
                stores[site] = FaultyStore(LocalStore.open(Path(root)), Faults(delay_s=slow.get(site, 0.0)))
        timing = {name: self.facts[name] for name in ("patience_s", "request_timeout_s", "deadline_s")}
        more = {"hook": hook} if hook is not None else {}
        author = Author(host_id=self.name, host=self.name, pid=os.getpid())
        try:
            yield Manifest(stores, self.keys, self.local, cache=self.pages, author=author, **timing, **more)
        finally:
            for store in stores.values():
                store.close()


class Worker:
    """Calls until it is told to end."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.rng = host.rng
        self.diary = Diary(host.directory / "history" / f"{host.process}.jsonl")
        self.over = False
        self.marks = 0
        self.view: View | None = None
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, *_: object) -> None:
        self.over = True

    def run(self) -> None:
        self.settle()
        self.diary.say(ready=True)
        kinds: dict[str, float] = self.host.facts["hosts"][self.host.name]
        calls = {
            "append": self._append,
            "read": self._read,
            "epoch": self._move,
            "check": self._check,
            "cli": self._cli,
        }
        while not self.over:
            kind = self.rng.choices(list(kinds), list(kinds.values()))[0]
            try:
                calls[kind]()
            except DrtoolError as error:
                self.diary.say(violation=f"{kind}: {error!r}")
            time.sleep(self.rng.uniform(0.0, self.host.facts["pause_s"]))

    def settle(self) -> None:
        """What a run of this host that died had sent: in, or rejected for good. A quorum may have to be waited for."""
        while not self.over:
            try:
                with self.host.manifest() as manifest:
                    manifest.settle()
            except NoQuorum:
                time.sleep(0.5)
            else:
                return

    def _append(self) -> None:
        self.marks += 1
        mark = f"{self.host.process}.{self.marks}"
        number = self.diary.begin(kind="append", value=mark, began=time.monotonic())
        with self.host.manifest(self._mishap()) as manifest:
            batch = snapshot_ops(self.host, mark)
            self._hear(number, lambda: manifest.commit(batch).view, tries=3)

    def _read(self) -> None:
        number = self.diary.begin(kind="read", value=None, began=time.monotonic())
        with self.host.manifest(self._mishap()) as manifest:
            self._hear(number, manifest.read)

    def _move(self) -> None:
        """Move the ring's epoch on, from the one that this process saw last."""
        if self.view is None:
            self._read()
            return
        epoch = self.view.state.ring_epoch + 1
        number = self.diary.begin(kind="epoch", value=epoch, began=time.monotonic())
        with self.host.manifest(self._mishap()) as manifest:
            ring = SetRing(epoch=epoch, targets=self.view.state.targets)
            try:
                self._hear(number, lambda: manifest.commit(ring).view, tries=3)
            except Rejected as error:
                if error.reason != "ring-changed":
                    raise
                self.diary.end(number, ended=time.monotonic(), answered=True, refused=True)
                self.view = None

    def _check(self) -> None:
        number = self.diary.begin(kind="check", value=None, began=time.monotonic())
        with self.host.manifest() as manifest:
            problems = [[problem.site, problem.kind, problem.message] for problem in manifest.check()]
        self.diary.end(number, ended=time.monotonic(), answered=True, problems=problems)

    def change_voters(self, how: str, site: str) -> None:
        """An administrator's errand, until it is done: another voter, other numbers, or a new life for a wiped register."""
        self.settle()
        while not self.over:
            with self.host.manifest(self._mishap()) as manifest:
                try:
                    if self._change_voters(manifest, how, site):
                        return
                except NoQuorum:
                    pass
                except Rejected as error:
                    if error.reason != "voters-changed":
                        raise
            time.sleep(self.rng.uniform(0.2, 0.6))

    def _change_voters(self, manifest: Manifest, how: str, site: str) -> bool:
        view = manifest.read()
        members = self._members(view, how, site)
        number = self.diary.begin(kind="voters", value=f"{how} {site}", began=time.monotonic())
        return self._hear(number, manifest.refresh if how == "refresh" else lambda: manifest.set_voters(members))

    def _members(self, view: View, how: str, site: str) -> list[Member]:
        voters = [voter.site for voter in view.config.voters]
        others = [name for name in self.host.facts["sites"] if name not in voters]
        if how == "resize":
            everybody = voters + others
            voters = self.rng.sample(
                everybody, self.rng.choice([count for count in (3, 5, 7) if count <= len(everybody)])
            )
        elif how == "swap" and others:
            voters[self.rng.randrange(len(voters))] = self.rng.choice(others)
        return [Member(name, f"{name}/main", fresh=how == "fresh" and name == site) for name in voters]

    def _hear(self, number: int, call: Any, tries: int = 1) -> bool:
        """Make the call; without a quorum again, as its words invite to; write down what came of it. Whether it succeeded."""
        for left in reversed(range(tries)):
            try:
                view: View = call()
            except NoQuorum as error:
                if left and not self.over:
                    time.sleep(self.rng.uniform(0.1, 1.0))
                    continue
                self.diary.end(number, unknown=error.message, ended_at=time.monotonic())
                return False
            ended = time.monotonic()
            self.view = view
            self.diary.end(number, ended=ended, answered=True, **facts_of(view))
            return True
        return False

    def _mishap(self) -> Any:
        """A hook that kills or stops this process at a step that is drawn now, if it is to happen in this call at all."""
        orders, chance = self.host.orders(), self.rng.random()
        if chance >= orders["kill"] + orders["stop"]:
            return None
        at = self.rng.randint(1, STEPS_OF_A_CALL)
        number = signal.SIGKILL if chance < orders["kill"] else signal.SIGSTOP

        def hook(step: int, _request: object) -> None:
            if step == at:
                os.kill(os.getpid(), number)

        return hook

    def _cli(self) -> None:
        """The real program, as cron would run it."""
        self.marks += 1
        mark = f"{self.host.process}.{self.marks}"
        source = self.host.home / "source" / mark
        source.mkdir(parents=True)
        (source / "file").write_bytes(self.rng.randbytes(3000))
        number = self.diary.begin(kind="append", value=mark, began=time.monotonic())
        done = drtool(self.host.directory, self.host.name, "--json", "backup", source, "--tag", mark)
        ended = time.monotonic()
        if done.returncode in ACKNOWLEDGED:
            snapshot = json.loads(done.stdout)["snapshots"][0]["id"]
            self.diary.end(number, ended=ended, answered=True, snapshot=snapshot)
        elif done.returncode == NO_QUORUM:
            self.diary.end(number, unknown=done.stdout, ended_at=ended)
        elif done.returncode >= 0:
            self.diary.say(violation=f"drtool backup: exit {done.returncode}: {done.stdout} {done.stderr}")


def facts_of(view: View) -> dict[str, Any]:
    marks = [mark_of(row) for row in view.state.snapshots]
    return {
        "seen": (len(marks), hash_of(marks)),
        "epoch": view.state.ring_epoch,
        "sequence": view.sequence,
        "digest": view.digest.hex(),
        "problems": list(view.problems),
    }


def mark_of(row: Snapshot) -> str:
    """A backup by the command line carries its mark as a tag."""
    return row.tags[0] if row.tags else row.source


def snapshot_ops(host: Host, mark: str) -> tuple[Any, ...]:
    """One backup, as far as the manifest sees it: a session, and in the same commit its snapshot, which ends it."""
    session = os.urandom(16)
    opening = OpenSession(kind="backup", host_id=host.name, host=host.name, source=mark, session=session)
    snapshot = Snapshot(
        id=os.urandom(16),
        session=session,
        source=mark,
        host=host.name,
        user="root",
        time_ns=time.time_ns(),
        started_ns=time.time_ns(),
        paths=(b"/" + mark.encode(),),
        tags=(),
        root=bytes(32),
        parent=None,
        counts=Counts(),
        program="chaos",
    )
    return opening, AddSnapshot(session, snapshot, ())


def drtool(world: Path, host: str, *words: Any) -> "subprocess.CompletedProcess[str]":
    """The command line, on one of the hosts."""
    home = world / "hosts" / host
    environment = os.environ | {
        "DRTOOL_CONFIG": str(world / "drtool.yaml"),
        "DRTOOL_STATE_DIR": str(home / "state"),
        "DRTOOL_CACHE_DIR": str(home / "cache"),
        "DRTOOL_PASSWORD_FILE": str(world / "password"),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH")))),
    }
    command = [sys.executable, "-m", "drtool", *map(str, words)]
    return subprocess.run(
        command, env=environment, cwd=world, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def main() -> None:
    world, name, run = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    host = Host(world, name, run)
    breaking: Any = contextlib.nullcontext()
    if host.facts["mutation"]:
        from chaos_mutations import MUTATIONS

        breaking = MUTATIONS[host.facts["mutation"]]()
    worker = Worker(host)
    with breaking:
        match sys.argv[4:]:
            case ["settle"]:
                worker.settle()
            case ["voters", how, site]:
                worker.change_voters(how, site)
            case _:
                worker.run()


if __name__ == "__main__":
    main()
