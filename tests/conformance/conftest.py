"""The media of the conformance suite. A new medium needs one more entry in MEDIA."""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import seaweed
import sshd

from drtool.stores import Guard, LocalStore, MemoryStore, Mode, Rates, VoterStore
from drtool.stores.overlay import OverlaidStore, Overlay
from drtool.stores.s3 import S3Store
from drtool.stores.sftp import SftpStore


@dataclass(frozen=True)
class Medium:
    """A target that tests can open repeatedly."""

    open: Callable[[], VoterStore]
    mode: Mode
    root: Path | None = None
    """Where its objects lie as files, for media that can be reached from other processes through the file system."""
    sorts: bool = True
    """False: the server walks directories, and sorts `a/b` before `a-b`; drtool has no such names, and says so if it met them."""


def local(scratch: Path) -> Medium:
    LocalStore.create(scratch / "site").close()
    return Medium(open=lambda: LocalStore.open(scratch / "site"), mode="chain", root=scratch / "site")


def memory_chain(scratch: Path) -> Medium:
    store = MemoryStore("chain")
    return Medium(open=lambda: store, mode="chain")


def memory_cas(scratch: Path) -> Medium:
    store = MemoryStore("cas")
    return Medium(open=lambda: store, mode="cas")


def guarded(scratch: Path) -> Medium:
    """A directory with all decorators between drtool and a target."""
    store, guard = MemoryStore("cas"), Guard(Rates(upload_bytes_s=1 << 40, download_bytes_s=1 << 40))
    return Medium(open=lambda: guard.objects(store), mode="cas")


class Mild:
    """A drill's fault with almost no effect."""

    def now(self) -> list[Overlay]:
        return [Overlay(id="f1", run="r1", step="s1", kind="slow", latency_s=1e-6)]

    def replaced(self, overlay: Overlay, name: str) -> None:
        raise AssertionError(f"nothing is corrupted, nor {name}")


def overlaid(scratch: Path) -> Medium:
    """A directory under a drill's fault, which still keeps every promise."""
    store = MemoryStore("cas")
    return Medium(open=lambda: OverlaidStore(store, Mild()), mode="cas")


def s3_cas(scratch: Path) -> Medium:
    return bucket(scratch, "cas")


def s3_chain(scratch: Path) -> Medium:
    return bucket(scratch, "chain")


def bucket(scratch: Path, mode: Mode) -> Medium:
    """A prefix of a bucket at a real local server."""
    place = seaweed.shared().place(scratch, mode)
    return Medium(open=lambda: S3Store.open(place), mode=mode, sorts=False)


def sftp(scratch: Path) -> Medium:
    """A directory at a real local SSH server."""
    place = sshd.shared().place(scratch / "site")
    SftpStore.create(place).close()
    return Medium(open=lambda: SftpStore.open(place), mode="chain", root=scratch / "site")


MEDIA = (local, memory_chain, memory_cas, guarded, overlaid, s3_cas, s3_chain, sftp)


@pytest.fixture(params=MEDIA, ids=lambda medium: medium.__name__)
def medium(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Medium]:
    """Yield one medium, and close everything that a test opened."""
    plain, opened = request.param(tmp_path), []

    def open_and_remember() -> VoterStore:
        opened.append(plain.open())
        return opened[-1]

    yield replace(plain, open=open_and_remember)
    for store in opened:
        store.close()


@pytest.fixture
def store(medium: Medium) -> Iterator[VoterStore]:
    opened = medium.open()
    yield opened
    opened.close()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a tmpfs with the given options, until the end of the test."""
    mounts: list[Path] = []

    def mount(options: str) -> Path:
        point = tmp_path / f"disk{len(mounts)}"
        point.mkdir()
        if os.geteuid() != 0:
            pytest.skip("only root can mount a small disk")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "drtool-test", point], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            complain = pytest.fail if os.environ.get("CI") else pytest.skip
            complain(f"this machine lets root mount nothing: {done.stderr.strip()}")
        mounts.append(point)
        return point

    yield mount
    for point in mounts:
        subprocess.run(["umount", "-l", point], check=False, capture_output=True)
