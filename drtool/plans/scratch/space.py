"""The creation of a scratch space, and its removal after any outcome.

    with make_scratch(state_dir, run, size_bytes=…, inodes=…, roots=(…,)) as scratch:
        restore(to=scratch.path)
    scratch.left        # the leftovers: the run exits with 8

Invariants
    Creation is refused, before anything exists, without room for a tenth more than requested, in bytes and inodes.
    The record is durable before the directory exists, so `scratch list` shows everything that a killed process leaves.
"""

import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from drtool.errors import DrtoolError, Refused, UsageError
from drtool.plans.interrupts import uninterrupted
from drtool.plans.scratch.registry import SCRATCH, ScratchRecord, check_run, clear_away, directory_name, register
from drtool.plans.scratch.removing import Leftover
from drtool.repository.processes import this_process

MARGIN_TENTHS = 1
"""The extra free space required beyond the requested amount, for directories and concurrent growth."""


class NoRoom(DrtoolError):
    """Raised when no scratch root has room for the data to restore."""


class Room(Struct, frozen=True, kw_only=True):
    """The free space at an existing or future directory. `inodes` is None if they are unlimited."""

    free_bytes: int
    inodes: int | None

    def lacks(self, size_bytes: int, inodes: int) -> str:
        """Describe the shortage, or return an empty string."""
        need_bytes, need_inodes = _with_margin(size_bytes), _with_margin(inodes)
        if self.free_bytes < need_bytes:
            return (
                f"{need_bytes} bytes are needed (a tenth more than {size_bytes}), but only {self.free_bytes} are free"
            )
        if self.inodes is not None and self.inodes < need_inodes:
            return f"{need_inodes} inodes are needed (a tenth more than {inodes}), but only {self.inodes} are free"
        return ""


@dataclass
class Scratch:
    """A scratch space while it exists, and afterwards the result of its removal."""

    record: ScratchRecord
    removed: bool = False
    left: tuple[Leftover, ...] = field(default=())

    @property
    def path(self) -> Path:
        return Path(self.record.path)


def roots_of(state_dir: Path, temporary: Path | None) -> tuple[Path, ...]:
    """Return the default scratch roots: the state directory, and the directory for temporary files."""
    return (state_dir / SCRATCH, *([temporary] if temporary is not None else []))


def room_at(root: Path) -> Room:
    """Return the free space at `root`, or at its nearest existing parent."""
    while not root.exists() and root != root.parent:
        root = root.parent
    status = os.statvfs(root)
    return Room(free_bytes=status.f_bavail * status.f_frsize, inodes=status.f_favail if status.f_files else None)


def choose_root(roots: Sequence[Path], size_bytes: int, inodes: int) -> Path:
    """Return the root with the most free space, the first among equals. Raises NoRoom if none has enough."""
    rooms = [(root, room_at(root)) for root in roots]
    root, room = max(rooms, key=lambda each: each[1].free_bytes)
    fitting = [each for each, its in rooms if not its.lacks(size_bytes, inodes)]
    if root in fitting:
        return root
    if fitting:  # more bytes, but too few inodes
        return fitting[0]
    raise NoRoom(
        f"not enough room for scratch at {root}: {room.lacks(size_bytes, inodes)}",
        hint="choose another scratch root, free space there, or restore less",
    )


@contextmanager
def make_scratch(
    state_dir: Path, run: str, *, size_bytes: int, inodes: int, roots: Sequence[Path]
) -> Iterator[Scratch]:
    """Create an empty, private directory. Raises NoRoom before anything is made."""
    check_run(run)
    root = choose_root(roots, size_bytes, inodes)
    name = f"{run}.{secrets.token_hex(8)}"
    record = ScratchRecord(
        name=name,
        run=run,
        path=str(_usable(root) / directory_name(name)),
        owner=this_process(),
        size_bytes=size_bytes,
        inodes=inodes,
        created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    with _held(state_dir, record) as scratch:
        scratch.path.mkdir(mode=0o700)
        yield scratch


@contextmanager
def take_over(state_dir: Path, record: ScratchRecord) -> Iterator[Scratch]:
    """Take over the space of a resumed run, with its contents. This process owns it from now on."""
    if record.owner.standing() != "gone":
        raise Refused(f"the scratch space {record.path} may still be in use by process {record.owner.pid}")
    with _held(state_dir, replace(record, owner=this_process())) as scratch:
        yield scratch


@contextmanager
def _held(state_dir: Path, record: ScratchRecord) -> Iterator[Scratch]:
    scratch, owner = Scratch(record), os.getpid()
    try:
        with uninterrupted():
            register(state_dir, record)
        yield scratch
    finally:
        if os.getpid() == owner:  # a forked child that leaves the block removes nothing
            with uninterrupted():
                scratch.left = clear_away(state_dir, record.name, scratch.path)
                scratch.removed = not scratch.left


def _with_margin(count: int) -> int:
    return -(-count * (10 + MARGIN_TENTHS) // 10)


def _usable(root: Path) -> Path:
    """Return the root without links. A directory where others could replace the space is refused."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    real = root.resolve()
    mode = real.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise UsageError(
            f"{root} cannot be used for scratch, because any user may replace files there", hint=f"chmod +t {root}"
        )
    return real
