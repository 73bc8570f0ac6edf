"""A target's disk that becomes full or read-only at a chosen write: a real one, and one of injected faults.

The real one is a small tmpfs and needs root. The other is a `FaultyStore`, and runs everywhere.
"""

import os
import subprocess
import time
from mmap import mmap
from pathlib import Path

import pytest

from drtool.repository import targets as targets_module
from drtool.repository.targets import Targets
from drtool.stores import NO_FAULTS, Faults, FaultyStore

OBJECTS = ("packs/", "index/")


WELL, FULL, READ_ONLY = range(3)


class Disk:
    """The disk of one target. `at(k, turn)` applies `turn` just before the k-th object is written or deleted from now on.

    Forked workers count as well, because the counts are in shared memory.
    """

    def __init__(self, point: Path) -> None:
        self.point = point
        self._shared = memoryview(mmap(-1, 32)).cast("q")  # remaining writes, the turn, the state, whether it happened

    def at(self, write: int, turn: str) -> None:
        self._shared[0], self._shared[1], self._shared[3] = write, {"full": FULL, "read_only": READ_ONLY}[turn], 0

    @property
    def turned(self) -> bool:
        return bool(self._shared[3])

    def turn(self, turn: str) -> None:
        getattr(self, turn)()

    def about_to_write(self, name: str) -> None:
        if not self._shared[1] or not name.startswith(OBJECTS):
            return
        self._shared[0] -= 1
        if self._shared[0] <= 0:
            turn, self._shared[1], self._shared[3] = self._shared[1], WELL, 1
            self.turn("full" if turn == FULL else "read_only")

    def faults(self) -> Faults:
        """The faults to inject."""
        return NO_FAULTS


class RealDisk(Disk):
    """A tmpfs."""

    def full(self) -> None:
        with open(self.point / "ballast", "ab", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(65536))
            except OSError:
                pass
        assert os.statvfs(self.point).f_bavail == 0

    def read_only(self) -> None:
        """Remount read-only. The kernel refuses while another thread has a file open for writing."""
        ends_at = time.monotonic() + 20
        while subprocess.run(["mount", "-o", "remount,ro", self.point], check=False, capture_output=True).returncode:
            assert time.monotonic() < ends_at, "it stays busy"
            time.sleep(0.002)

    def mend(self) -> None:
        self._mount("remount,rw")
        (self.point / "ballast").unlink(missing_ok=True)

    def mount(self) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can mount a small disk")
        self.point.mkdir(exist_ok=True)
        self._mount("size=256m", "-t", "tmpfs", "drtool-test")

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", self.point], check=False, capture_output=True)

    def _mount(self, options: str, *words: str) -> None:
        done = subprocess.run(["mount", "-o", options, *words, self.point], capture_output=True, text=True, check=False)
        if done.returncode:
            complain = pytest.fail if os.environ.get("CI") or not words else pytest.skip
            complain(f"this machine lets root mount nothing: {done.stderr.strip()}")


class InjectedDisk(Disk):
    """The same by the decorator."""

    def full(self) -> None:
        self._shared[2] = FULL

    def read_only(self) -> None:
        self._shared[2] = READ_ONLY

    def mend(self) -> None:
        self._shared[2] = WELL

    def mount(self) -> None:
        pass

    def unmount(self) -> None:
        pass

    def faults(self) -> Faults:
        return (NO_FAULTS, Faults(full_after_bytes=0), Faults(read_only=True))[self._shared[2]]


class Turning(FaultyStore):
    """Notify the disk before each write, as near to the medium as possible, and apply the disk's faults."""

    def __init__(self, inner, disk) -> None:
        self._disk = disk
        super().__init__(inner)

    def put(self, name, data):
        self._disk.about_to_write(name)
        super().put(name, data)

    def delete(self, name):
        self._disk.about_to_write(name)
        super().delete(name)

    def _begin(self, name):
        faults = self._disk.faults()
        if faults != self.faults:
            self.faults = faults
        return super()._begin(name)


def opened_through(monkeypatch, disks) -> None:
    """From now on open the stores of `disks` (by target) through a store that notifies the disk and injects its faults."""
    plain = targets_module.open_store

    def opener(spec):
        disk = disks.get(spec.name)
        return Turning(plain(spec), disk) if disk else plain(spec)

    monkeypatch.setattr(Targets.__init__, "__defaults__", (opener,))
