"""A real repository at three sites, as directories, and the verbs on it: what tests of backup and restore begin with.

Opening a repository derives a key for 0.2 s; a `World` derives its own once and then goes on with it. Tests of passwords
open with `derive=True`.
"""

import gc
import hashlib
import os
import random
import shutil
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from drtool.crypto import Keyring
from drtool.events import Event, Warned, ignore
from drtool.manifest.facade import View
from drtool.manifest.records import Snapshot
from drtool.model import TargetName
from drtool.operations.backup import BackupRequest, BackupResult, SourceJob, backup
from drtool.operations.backup.request import SnapshotReport
from drtool.operations.restore import RestoreRequest, RestoreResult, restore
from drtool.operations.status import StatusResult, status
from drtool.operations.verify import VerifyRequest, VerifyResult, verify
from drtool.repository import Repository, RepositorySpec, TargetSpec, found, open_repository, opening

PASSWORD = b"correct horse"
HOST = "here"

_derive = opening.unlock


@dataclass
class World:
    """A repository below `root`; `targets` maps `site/name` to the directory's name."""

    root: Path
    targets: tuple[str, ...] = ("a/main", "b/main", "c/main")
    host: str = HOST
    state: str = "state"
    workers: int = 1
    keyrings: list[Keyring] = field(default_factory=list)
    heard: list[Event] = field(default_factory=list)

    def directory(self, target: str) -> Path:
        """A target's root; `a` means `a/main`."""
        site, _, name = target.partition("/")
        return self.root / (site if name in ("", "main") else f"{site}-{name}")

    def spec(self, *, password: bytes = PASSWORD, targets: Sequence[str] | None = None, **more: Any) -> RepositorySpec:
        rows = tuple(
            TargetSpec(name=TargetName(name), url=str(self.directory(name))) for name in targets or self.targets
        )
        return RepositorySpec(
            label="test",
            targets=rows,
            cache_dir=self.root / "cache",
            state_dir=self.root / self.state,
            password=lambda: password,
            host=self.host,
            **more,
        )

    def found(self, copies: int | None = None, minimum: int = 1) -> "World":
        found(self.spec(), copies, minimum, self.heard.append)
        return self

    def elsewhere(self, host: str) -> "World":
        """The same repository as another host sees it."""
        return World(self.root, self.targets, host, f"state-{host}", self.workers, self.keyrings, self.heard)

    @contextmanager
    def open(self, *, derive: bool = False, **more: Any) -> Iterator[Repository]:
        unlock = _derive if derive or not self.keyrings else lambda *_: self.keyrings[0]
        opening.unlock = unlock
        try:
            repository = open_repository(self.spec(**more), self.heard.append)
        finally:
            opening.unlock = _derive
        if not self.keyrings:
            self.keyrings.append(repository.keyring)
        with repository:
            yield repository

    def view(self) -> View:
        with self.open() as repository:
            return repository.view

    def snapshots(self) -> list[Snapshot]:
        return list(self.view().state.snapshots)

    def run_backup(self, repository: Repository, *paths: Path | bytes, **more: Any) -> BackupResult:
        request = {key: more.pop(key) for key in ("tags", "time_ns", "dry_run", "host") if key in more}
        job = SourceJob(name=more.pop("source", ""), paths=tuple(map(os.fsencode, paths)), **more)
        return self.run_jobs(repository, job, **request)

    def run_jobs(self, repository: Repository, *jobs: SourceJob, **request: Any) -> BackupResult:
        values = {"host": self.host, "now_ns": time.time_ns(), "workers": self.workers, "owed_s": 0, **request}
        return backup(repository, BackupRequest(jobs=jobs, **values), self.heard.append)

    def backup(self, *paths: Path | bytes, **more: Any) -> SnapshotReport:
        """Opens, backs up, closes; the one snapshot's report."""
        with self.open() as repository:
            (report,) = self.run_backup(repository, *paths, **more).snapshots
            return report

    def run_restore(
        self, repository: Repository, to: Path, snapshot: Snapshot | None = None, **more: Any
    ) -> RestoreResult:
        row = snapshot or max(repository.view.state.snapshots, key=lambda row: row.sequence)
        if isinstance(more.get("path"), Path):
            more["path"] = os.fsencode(more["path"])
        request = RestoreRequest(snapshot=row, to=os.fsencode(to), workers=self.workers, **more)
        return restore(repository, request, ignore)

    def restore(self, to: Path, snapshot: Snapshot | None = None, **more: Any) -> RestoreResult:
        """The newest snapshot, or `snapshot`, put back below `to`."""
        with self.open() as repository:
            return self.run_restore(repository, to, snapshot, **more)

    def verify(self, level: str = "full", **more: Any) -> VerifyResult:
        with self.open() as repository:
            return verify(repository, VerifyRequest(level=level, workers=2, **more), self.heard.append)

    def status(self) -> StatusResult:
        with self.open() as repository:
            return status(repository, ignore)

    def warnings(self) -> list[str]:
        return [event.message for event in self.heard if isinstance(event, Warned)]

    def objects(self, target: str, kind: str = "packs") -> list[Path]:
        """The object files of one kind on a target, sorted."""
        return sorted(path for path in (self.directory(target) / kind).rglob("*") if path.is_file())

    def names(self, target: str, kind: str = "packs") -> list[str]:
        return [str(path.relative_to(self.directory(target))) for path in self.objects(target, kind)]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in memory where there is one: these tests sync thousands of files, and a busy disk takes its time."""
    with _in_memory() as made:
        yield made


@contextmanager
def _in_memory() -> Iterator[Path]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="drtool-", dir=memory if os.access(memory, os.W_OK) else None) as made:
        yield Path(made)


@pytest.fixture(scope="session")
def founded() -> Iterator[World]:
    """Sites a, b and c, two copies, nothing stored: to be copied, never used."""
    with _in_memory() as made:
        world = World(made / "founded").found()
        with world.open():
            pass
        yield set_apart(world)


def set_apart(world: World) -> World:
    """Moved to where no catalogue names it: else each copy of it would be a target that exists twice."""
    apart = world.root.with_name(f"{world.root.name}-apart")
    world.root.rename(apart)
    return World(apart, keyrings=list(world.keyrings))


@pytest.fixture
def world(place: Path, founded: World) -> World:
    """Founded: sites a, b and c, two copies."""
    shutil.copytree(founded.root, place, dirs_exist_ok=True)
    return World(place, keyrings=list(founded.keyrings))


def noise(size_bytes: int, seed: int = 0) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size_bytes)


def fill(directory: Path, files: dict[str, bytes]) -> Path:
    """Writes files, by relative path."""
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return directory


def stored_twice(world: World, source: Path) -> tuple[set[str], set[str]]:
    """Every data pack that is there is hidden while a backup stores all of it again; its own, and the other's."""
    with world.open() as repository:
        first = {pack.pack.hex() for pack in repository.index.packs() if pack.kind == 1}
    hidden = [path for site in "abc" for path in world.objects(site) if path.name in first]
    for path in hidden:
        path.rename(path.with_name(f"{path.name}.hidden"))
    world.backup(source)
    for path in hidden:
        path.with_name(f"{path.name}.hidden").rename(path)
    with world.open() as repository:
        both = {pack.pack.hex() for pack in repository.index.packs() if pack.kind == 1}
    return first, both - first


def settle(directory: Path) -> None:
    """Waits until a backup that starts now will let its successor trust what it sees: changes younger than 2 s are read again."""
    newest_ns = max(
        (
            os.lstat(os.path.join(top, name)).st_ctime_ns
            for top, dirs, files in os.walk(directory)
            for name in dirs + files
        ),
        default=0,
    )
    time.sleep(max(0.0, (newest_ns + 2_050_000_000 - time.time_ns()) / 1e9))


def portrait(top: Path | bytes) -> dict[bytes, tuple[Any, ...]]:
    """Everything below `top` that a restore must bring back, by relative path; hard links by their group's first name."""
    root = os.fsencode(top)
    rows: dict[bytes, tuple[Any, ...]] = {}
    groups: dict[tuple[int, int], bytes] = {}
    _portray(root, b"", rows, groups)
    return rows


def _portray(
    root: bytes, below: bytes, rows: dict[bytes, tuple[Any, ...]], groups: dict[tuple[int, int], bytes]
) -> None:
    for name in sorted(os.listdir(os.path.join(root, below))):
        relative = os.path.join(below, name)
        path = os.path.join(root, relative)
        found = os.lstat(path)
        kind = stat.S_IFMT(found.st_mode)
        row: list[Any] = [oct(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns]
        row.append({name: os.getxattr(path, name, follow_symlinks=False) for name in _attributes(path)})
        if kind == stat.S_IFREG:
            group = groups.setdefault((found.st_dev, found.st_ino), relative) if found.st_nlink > 1 else relative
            row += [found.st_size, _digest(path), _data_map(path, found.st_size), group]
        elif kind == stat.S_IFLNK:
            row.append(os.readlink(path))
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            row.append(found.st_rdev)
        rows[relative] = tuple(row)
        if kind == stat.S_IFDIR:
            _portray(root, relative, rows, groups)


def _attributes(path: bytes) -> list[str]:
    return sorted(name for name in os.listxattr(path, follow_symlinks=False) if name != "security.selinux")


def _digest(path: bytes) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _data_map(path: bytes, size_bytes: int) -> list[tuple[int, int]]:
    """(start, end) of each stretch of data: where the holes are not."""
    spans: list[tuple[int, int]] = []
    with open(path, "rb") as file:
        at = 0
        while at < size_bytes:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # nothing but a hole from here on
                break
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            spans.append((start, at))
    return spans


def everything(directory: Path) -> dict[bytes, tuple[Any, ...]]:
    """Every byte, name and time below a directory: to show that nothing was touched."""
    rows = portrait(directory)
    return {
        name: (*row, os.lstat(os.path.join(os.fsencode(directory), name)).st_ctime_ns) for name, row in rows.items()
    }


def in_a_child(action: Callable[[], object], *, uid: int | None = None) -> int:
    """Runs `action` in a forked process, as another user if one is given; its exit code, minus the signal that ended it."""
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        gc.freeze()  # a collection would copy every page that is shared with the parent
        try:
            if uid is not None:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            action()
            status = 0
        except BaseException:  # noqa: BLE001 - the child says whatever it was, and ends
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
