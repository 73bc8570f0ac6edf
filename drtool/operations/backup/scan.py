"""The walk over one source: directories in order, each compared with the parent snapshot's, one level in memory at a
time.
"""

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec

from drtool.errors import DrtoolError
from drtool.manifest.records import Snapshot
from drtool.operations.backup.builder import Node, TreeBuilder, is_equal
from drtool.operations.backup.request import FileCounts, SourceJob
from drtool.sources.filesystem import (
    OwnerNames,
    Problem,
    Recent,
    Rules,
    capture_directory,
    complete,
    describe_stat,
    gone,
    join,
    open_directory_path,
    open_passage_path,
)
from drtool.trees import Entry, Fetch, FileType, read_directory

_SWAPPED = (
    "another directory replaced it during the backup, or its file system gives it another inode number each time"
    " (--ignore-inode)"
)
RECENT_NS = 2_000_000_000


class Found(NamedTuple):
    """A directory just inspected. `fresh`: the indices of the files that must be read."""

    node: Node
    fresh: list[int]
    followed: frozenset[bytes]
    sockets: list[bytes]
    """Names that are left out, since sockets have no content to store."""


def parent_of_job(snapshots: Iterable[Snapshot], job: SourceJob, host: str) -> Snapshot | None:
    """Return the newest snapshot of the same host and source, or of the same set of paths without a source name."""
    return max(filter(is_same_source(job, host), snapshots), key=lambda row: row.sequence, default=None)


def is_same_source(job: SourceJob, host: str) -> Callable[[Snapshot], bool]:
    """Return a test for snapshots of this host and source."""
    paths = set(job.roots.paths) | set(job.captured.paths if job.captured else ())
    return lambda row: row.host == host and row.source == job.name and bool(job.name or set(row.paths) == paths)


class Scan:
    """Inspects every directory of one source once, and counts."""

    def __init__(self, job: SourceJob, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self.started_ns = time.time_ns()
        self.roots = job.roots
        self.paths = tuple(sorted({*self.roots.paths, *(job.captured.paths if job.captured else ())}))
        self.beside: dict[bytes, Entry] = {}
        """Top-level entries that are already settled and not part of the walk: the captured content of a source."""
        self.checked: Callable[[Entry], Entry] | None = None
        """Applied to the parent snapshot's entries before the comparison. None: all of them may be reused."""
        self.problems: list[Problem] = [
            *self.roots.problems,
            *(Problem(path, "it does not exist") for path in self.roots.missing),
        ]
        self.files = FileCounts()
        self.processed_bytes = 0
        self.sockets = len(self.roots.sockets)
        self._job = job
        self._rules = self.new_rules()
        self.names = OwnerNames()
        self._recent = Recent()

    def new_rules(self) -> Rules:
        """Return the rules of the source, which have not learned of any ignore file yet."""
        job = self._job
        return Rules(
            self.roots,
            job.excludes,
            exclude_caches=job.exclude_caches,
            one_file_system=job.one_file_system,
            larger_than_bytes=job.larger_than_bytes,
            ignore_files=job.ignore_files,
            ignore_inode=job.ignore_inode,
            ignore_ctime=job.ignore_ctime,
        )

    def problem(self, problem: Problem) -> None:
        self.problems.append(problem)

    def is_empty(self) -> bool:
        """Return whether each named path is an empty directory, as an unmounted disk would be."""
        return all(_holds_nothing(path) for path in self.roots.paths)

    def count_bytes(self, size_bytes: int) -> None:
        """Count so many captured bytes as read."""
        self.processed_bytes += size_bytes

    def directories(self, parent: Snapshot | None, fetch: Fetch, builder: TreeBuilder) -> Iterator[Found]:
        """Yield every directory, parents before their children. Each is settled in `builder` once its files are."""
        if parent:
            self._recent = Recent.since(parent.started_ns, self.started_ns, RECENT_NS)
        top = self._enter(b"/", None, 0, parent.root if parent else b"", fetch, builder)
        if top is None:
            raise DrtoolError("the root directory cannot be read")
        stack = [self._below(top)]
        yield top.found
        builder.settle_one(top.found.node)
        while stack:
            step = next(stack[-1], None)
            if step is None:
                stack.pop()
                continue
            path, parent_node, slot, previous, follow = step
            entered = self._enter(path, parent_node, slot, previous, fetch, builder, follow=follow)
            if entered is not None:
                stack.append(self._below(entered))
                yield entered.found
                builder.settle_one(entered.found.node)

    def _below(self, entered: "_Entered") -> Iterator[tuple[bytes, Node, int, bytes, bool]]:
        node = entered.found.node
        for slot in entered.enter:
            entry = node.entries[slot]
            old = node.previous.get(entry.name)
            previous = old.subtree if old is not None and old.type == FileType.DIRECTORY else b""
            yield join(node.path, entry.name), node, slot, previous, entry.name in entered.found.followed

    def _enter(
        self,
        path: bytes,
        parent: Node | None,
        slot: int,
        previous_subtree: bytes,
        fetch: Fetch,
        builder: TreeBuilder,
        *,
        follow: bool = False,
    ) -> "_Entered | None":
        before = previous = _entries_of(previous_subtree, fetch, self._warn)
        if self.checked is not None:
            previous = {name: self.checked(entry) for name, entry in before.items()}
        known = bool(previous)
        kept_out = {name: previous.pop(name, None) for name in self.beside} if parent is None else {}
        try:
            fd = self._open(path, follow=follow)
            try:
                inode = 0 if self._rules.ignore_inode else os.fstat(fd).st_ino
                if parent is not None:
                    mounted = self._recognise(parent, slot, fd, follow=follow)
                    on_the_way = self.roots.root_of(path) is None
                    uncaptured = _complete_directory(parent, slot, fd, self.names, on_the_way=on_the_way)
                    self.problems += (Problem(path, message) for message in uncaptured)
                    if mounted and self._rules.one_file_system and path not in self.roots.devices and not on_the_way:
                        builder.settle_one(parent)
                        return None
                captured = capture_directory(fd, path, previous, self._rules, self._recent, self.names)
            finally:
                os.close(fd)
        except OSError as error:
            if parent is None:
                raise DrtoolError(f"{os.fsdecode(path)} cannot be read: {error.strerror}") from None
            if gone(error, path):
                builder.directory_gone(parent, slot)
            else:
                builder.directory_failed(parent, slot, f"content: {error.strerror or error}")
            return None
        self.problems += captured.problems
        node = Node(
            path,
            parent,
            slot,
            captured.entries,
            before,  # a file that is read again may turn out equal
            previous_subtree if known else b"",
            captured.same and known,
            len(captured.fresh) + len(captured.enter) + 1,
            inode,
        )
        self._count(node, captured.fresh)
        self._hang_beside(node, kept_out)
        self.sockets += len(captured.sockets)
        return _Entered(Found(node, captured.fresh, captured.followed, captured.sockets), captured.enter)

    def _open(self, path: bytes, *, follow: bool) -> int:
        """Open a directory. One that only leads to what is backed up need not be readable."""
        try:
            return open_directory_path(path, follow=follow)
        except PermissionError:
            if self.roots.root_of(path) is not None:
                raise
            return open_passage_path(path, follow=follow)

    def _recognise(self, parent: Node, slot: int, fd: int, *, follow: bool) -> bool:
        """Return whether a file system was mounted on the directory since it was listed, as automounters do at first
        access.

        Its entry then describes the root of that file system. OSError if another directory replaced it.
        """
        entry, found = parent.entries[slot], os.fstat(fd)
        if found.st_ino == entry.inode or self._rules.ignore_inode:
            return False
        # a mount does not move: it is still in the directory that was listed
        if found.st_dev == entry.device or not (follow or _is_in(fd, parent.inode)):
            raise OSError(errno.EBUSY, _SWAPPED)
        parent.entries[slot] = msgspec.structs.replace(
            describe_stat(entry.name, found, self.names), link_target=entry.link_target
        )
        parent.same = False
        return True

    def _hang_beside(self, node: Node, previous: dict[bytes, Entry | None]) -> None:
        """Add the entries from outside the walk to the root. Their order is corrected when the directory is written."""
        if not previous:
            return
        taken = {entry.name for entry in node.entries} & self.beside.keys()
        if taken:
            raise DrtoolError(f"/{os.fsdecode(min(taken))} is both a path of this host and what the source captured")
        node.entries += self.beside.values()
        node.same = node.same and all(self.beside[name] == old for name, old in previous.items())
        node.previous = {**node.previous, **{name: old for name, old in previous.items() if old is not None}}

    def _count(self, node: Node, fresh: list[int]) -> None:
        """Count files that need not be read. Files to read are counted when they were read."""
        unmodified = changed = new = size_bytes = 0
        to_read = set(fresh)
        for index, entry in enumerate(node.entries):
            if entry.type == FileType.DIRECTORY:
                continue
            size_bytes += entry.size_bytes
            old = node.previous.get(entry.name)
            if old is entry:
                unmodified += 1
            elif index in to_read:
                continue
            elif old is not None and is_equal(old, entry):
                unmodified += 1
            else:
                changed += old is not None
                new += old is None
        self.files.unmodified += unmodified
        self.files.changed += changed
        self.files.new += new
        self.processed_bytes += size_bytes


class _Entered(NamedTuple):
    found: Found
    enter: list[int]


def _holds_nothing(path: bytes) -> bool:
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None
    except OSError:  # no directory, or unreadable: the walk reports it
        return False


def _entries_of(subtree: bytes, fetch: Fetch, unreadable: Callable[[str], None]) -> dict[bytes, Entry]:
    if not subtree:
        return {}
    try:
        return {entry.name: entry for entry in read_directory(subtree, fetch)}
    except DrtoolError as error:
        # a parent that cannot be read costs time, never a backup: everything below counts as new
        unreadable(f"a directory of the parent snapshot cannot be read, so its files are read again: {error.message}")
        return {}


def _complete_directory(parent: Node, slot: int, fd: int, names: OwnerNames, *, on_the_way: bool) -> tuple[str, ...]:
    """Add a new directory's attributes, while it is open, and return the unreadable ones in words.

    The parent snapshot's own entry has them already. For a directory that is only on the way to what is backed up,
    changed times alone do not count: `/tmp` has new ones every second, and an unchanged source would store new trees
    each time.
    """
    entry = parent.entries[slot]
    if entry is parent.previous.get(entry.name):
        return ()
    described = names.with_acl_names(msgspec.structs.replace(complete(entry, fd), subtree=b""))
    old = parent.previous.get(entry.name)
    parent.entries[slot] = old if on_the_way and old is not None and _but_for_times(described, old) else described
    return described.uncaptured[len(entry.uncaptured) :]


def _is_in(fd: int, inode: int) -> bool:
    """Return whether the directory above an open one has this inode."""
    return os.stat(b"..", dir_fd=fd).st_ino == inode


def _but_for_times(entry: Entry, old: Entry) -> bool:
    times_of_old = msgspec.structs.replace(entry, mtime_ns=old.mtime_ns, ctime_ns=old.ctime_ns, subtree=old.subtree)
    return times_of_old == old
