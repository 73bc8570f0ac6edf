"""What a backup is asked to do, and its document."""

import os
from collections.abc import Mapping

from msgspec import Struct

from drtool.model import TargetName
from drtool.sources.filesystem import Problem, Roots, plan_roots
from drtool.sources.port import Source


class SourceJob(Struct, frozen=True, kw_only=True):
    """One source: its name (empty for bare paths), what of the file system it takes, and what else it captures."""

    name: str
    paths: tuple[bytes, ...] = ()
    paths_as_they_are: tuple[bytes, ...] = ()
    """More of them, of which a symlink is taken as a symlink; of `paths` it is followed."""
    captured: Source | None = None
    excludes: tuple[str, ...] = ()
    exclude_caches: bool = False
    one_file_system: bool = False
    larger_than_bytes: int | None = None
    """Files above this size are left out."""
    ignore_files: bool = False
    """`.drtoolignore` files in the directories leave things out, too."""
    ignore_inode: bool = False
    """A file with another inode number is no other file, for file systems whose numbers do not last."""
    max_shrink: float | None = None
    """The share of the last snapshot that may be gone; None: all of it."""
    ignore_ctime: bool = False
    """A file with another ctime has not changed, for file systems and programs that touch it without need."""

    @property
    def roots(self) -> Roots:
        """What is there of the paths just now."""
        return plan_roots(self.paths, self.paths_as_they_are)


class BackupRequest(Struct, frozen=True, kw_only=True):
    jobs: tuple[SourceJob, ...]
    tags: tuple[str, ...] = ()
    host: str
    user: str = ""
    time_ns: int | None = None
    now_ns: int
    dry_run: bool = False
    names_items: bool = False
    """Emit an `item_changed` for each item that is new, changed or removed."""
    workers: int = 2
    environ: Mapping[str, str] = {}
    """What programs that a source runs inherit."""

    @property
    def taken_ns(self) -> int:
        """The snapshot's time: what the user says, else now."""
        return self.now_ns if self.time_ns is None else self.time_ns


class FileCounts(Struct, kw_only=True):
    new: int = 0
    changed: int = 0
    unmodified: int = 0

    def add(self, other: "FileCounts") -> None:
        self.new += other.new
        self.changed += other.changed
        self.unmodified += other.unmodified


class ItemError(Struct, frozen=True):
    path: str
    message: str


def item_error(problem: Problem) -> ItemError:
    """Return a problem as a row of the document."""
    return ItemError(os.fsdecode(problem.path), problem.message)


class JobFailure(Struct, frozen=True):
    """A source that gave no snapshot; `path` is its name."""

    path: str
    message: str
    exit_code: int


class CopiesReport(Struct, frozen=True):
    wanted: int
    minimum_written: int


class OwedReport(Struct, frozen=True):
    target: TargetName
    reason: str


class SnapshotReport(Struct, frozen=True, kw_only=True):
    """One row of `backup`'s document; `id` is None for a dry run."""

    id: str | None
    source: str
    host: str
    time_ns: int
    parent: str | None
    files: FileCounts
    dirs: FileCounts
    errors: list[ItemError]
    processed_bytes: int
    added_bytes: int
    stored_bytes: int
    wall_seconds: float
    copies: CopiesReport
    degraded: bool
    owed: list[OwedReport]
    manifest_bytes: int
    sockets: int = 0
    """How many were left out: nothing of a socket can be stored."""
    facts: list[str] = []
    """Of a dry run: what was found out about a source that is more than files."""


class BackupResult(Struct, frozen=True, kw_only=True):
    snapshots: list[SnapshotReport]
    failed: list[JobFailure] = []
    """Sources that gave no snapshot, and why."""
