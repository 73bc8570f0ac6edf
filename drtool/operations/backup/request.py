"""The request and the result of `backup`."""

import os
from collections.abc import Mapping

from msgspec import Struct

from drtool.model import TargetName
from drtool.repository.copying import Amount
from drtool.sources.filesystem import Problem, Roots, plan_roots
from drtool.sources.port import Source


class SourceJob(Struct, frozen=True, kw_only=True):
    """One source: its name (empty for bare paths), its part of the file system, and what else it captures."""

    name: str
    paths: tuple[bytes, ...] = ()
    paths_as_they_are: tuple[bytes, ...] = ()
    """Further paths, in which a symlink is taken as a symlink. In `paths` it is followed."""
    captured: Source | None = None
    excludes: tuple[str, ...] = ()
    exclude_caches: bool = False
    one_file_system: bool = False
    larger_than_bytes: int | None = None
    """Files above this size are left out."""
    ignore_files: bool = False
    """`.drtoolignore` files in the directories also exclude items."""
    ignore_inode: bool = False
    """Another inode number does not make another file, for file systems whose numbers do not last."""
    max_shrink: float | None = None
    """The share of the last snapshot that may be missing. None: all of it."""
    ignore_ctime: bool = False
    """Another ctime does not make a changed file, for file systems and programs that set it without need."""

    @property
    def roots(self) -> Roots:
        """Return the roots of the paths that exist now."""
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
    shows_progress: bool = False
    """Whether progress is shown, so that counting the files of a first backup is worth the effort."""
    workers: int = 2
    owed_s: int | None = None
    """How long to copy what targets are owed afterwards; None: as fits the time that the backup took."""
    environ: Mapping[str, str] = {}
    """The environment of programs that a source runs."""

    @property
    def taken_ns(self) -> int:
        """Return the snapshot's time: the user's, or else now."""
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
    """Return a problem as a row of the result."""
    return ItemError(os.fsdecode(problem.path), problem.message)


class JobFailure(Struct, frozen=True):
    """A source without a snapshot. `path` is its name."""

    path: str
    message: str
    exit_code: int


class CopiesReport(Struct, frozen=True):
    wanted: int
    minimum_written: int


class OwedReport(Struct, frozen=True):
    target: TargetName
    reason: str


class Brought(Struct, frozen=True, kw_only=True):
    """What a backup copied to a target that was owed it, and what is owed still; `reason`: why the target took no more."""

    target: TargetName
    copied: Amount
    left: Amount
    reason: str = ""


class SnapshotReport(Struct, frozen=True, kw_only=True):
    """One row of `backup`'s result. `id` is None for a dry run."""

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
    """How many were left out, since a socket has no content to store."""
    facts: list[str] = []
    """In a dry run: facts about a source other than plain files."""


class BackupResult(Struct, frozen=True, kw_only=True):
    snapshots: list[SnapshotReport]
    failed: list[JobFailure] = []
    """Sources without a snapshot, and why."""
    brought: list[Brought] = []
    """Copies that targets were owed and that were made after the snapshots were committed."""
