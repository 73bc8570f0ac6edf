"""Builds the snapshot's tree bottom-up while the walk goes on and files are still being read.

Invariants
    A directory is written when its last file and its last subdirectory are settled. Memory holds only the directories
    on the way down and those with files in progress.
    A directory in which every entry is the parent snapshot's very object keeps its id without being encoded.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

import msgspec
from msgspec.structs import force_setattr

from drtool.model import ChunkId
from drtool.operations.backup.messages import FileRead, NewStat
from drtool.operations.backup.request import FileCounts
from drtool.sources.filesystem import OwnerNames, Problem, join
from drtool.trees import Entry, FileType, Put, write_content, write_directory

_ID_BYTES = 32
TORN = "content: it changed each time it was read, so what is stored may mix several of its states"
_BY_NAME = attrgetter("name")
_STAT = attrgetter("size_bytes", "mtime_ns", "ctime_ns", "inode", "mode", "uid", "gid", "type")
_ESSENCE = attrgetter(
    *("content", "mtime_ns", "mode", "uid", "gid", "size_bytes", "type", "xattrs", "link_target", "flags", "rdev")
)


class Node:
    """A directory whose entries are known but not all settled."""

    __slots__ = ("entries", "inode", "parent", "path", "pending", "previous", "previous_subtree", "same", "slot")

    def __init__(
        self,
        path: bytes,
        parent: "Node | None",
        slot: int,
        entries: list[Entry],
        previous: Mapping[bytes, Entry],
        previous_subtree: bytes,
        same: bool,
        pending: int,
        inode: int,
    ) -> None:
        self.inode = inode
        self.path = path
        self.parent = parent
        self.slot = slot
        self.entries = entries
        self.previous = previous
        self.previous_subtree = previous_subtree
        self.same = same
        self.pending = pending


class TreeBuilder:
    """Settles files and directories as they come. `root` is set with the last one."""

    def __init__(
        self,
        put: Put,
        problem: Callable[[Problem], None],
        files: FileCounts,
        names: OwnerNames,
        settled: Callable[["Node"], None] = lambda _: None,
    ) -> None:
        """`settled` is called with each directory whose entries are all settled."""
        self._names = names
        self._put = put
        self._settled = settled
        self._problem = problem
        self._files = files
        self.root = b""
        self.directories = FileCounts()

    def file_read(self, node: Node, index: int, read: FileRead) -> None:
        """Accept a small file from a worker."""
        entry = node.entries[index]
        if read.gone:
            self._drop(node, index)
            return
        if read.error:
            self.file_failed(node, index, read.error)
            return
        # the entry is this run's own and not shared yet, so completing it in place saves a copy for every file
        if read.new_stat is not None:
            self._describe_again(entry, read.new_stat)
            force_setattr(entry, "holes", read.holes)
        if read.xattrs:
            force_setattr(entry, "xattrs", read.xattrs)
        if read.flags:
            force_setattr(entry, "flags", read.flags)
        if read.torn:
            self._problem(Problem(join(node.path, entry.name), TORN))
        if read.uncaptured:
            self._attributes_failed(node, entry, read.uncaptured)
        force_setattr(entry, "content", read.ids)
        self._count(node.previous.get(entry.name), entry)
        self.settle_one(node)

    def large_file_read(self, node: Node, index: int, ids: Sequence[ChunkId], read: FileRead) -> None:
        """Accept a stored large file. `ids` are its chunks, `read` the rest."""
        if read.error or read.gone:  # what was read before the failure is not the content
            self.file_read(node, index, read)
            return
        content, depth = write_content(ids, self._put)
        if depth:
            force_setattr(node.entries[index], "content_depth", depth)
        self.file_read(node, index, msgspec.structs.replace(read, ids=content))

    def _attributes_failed(self, node: Node, entry: Entry, uncaptured: tuple[str, ...]) -> None:
        new = [
            message for message in uncaptured if message not in entry.uncaptured
        ]  # the scan also asks about empty files
        force_setattr(entry, "uncaptured", (*entry.uncaptured, *new))
        for message in new:
            self._problem(Problem(join(node.path, entry.name), message))

    def _describe_again(self, entry: Entry, new_stat: NewStat) -> None:
        for field in NewStat.__struct_fields__:
            force_setattr(entry, field, getattr(new_stat, field))
        force_setattr(entry, "user", self._names.users[new_stat.uid])
        force_setattr(entry, "group", self._names.groups[new_stat.gid])

    def _count(self, old: Entry | None, entry: Entry) -> None:
        if old is None:
            self._files.new += 1
        elif is_equal(old, entry):
            self._files.unmodified += 1  # read again, and found equal
        else:
            self._files.changed += 1

    def file_failed(self, node: Node, index: int, error: str) -> None:
        entry = node.entries[index]
        force_setattr(entry, "uncaptured", (*entry.uncaptured, error))
        self._problem(Problem(join(node.path, entry.name), error))
        self.settle_one(node)

    def _drop(self, node: Node, index: int) -> None:
        """Drop a vanished file. Its slot stays until the directory is written."""
        force_setattr(node.entries[index], "name", b"")
        node.same = False
        self.settle_one(node)

    def directory_failed(self, node: Node, slot: int, error: str) -> None:
        """Record a subdirectory that could not be entered."""
        entry = node.entries[slot]
        lost = msgspec.structs.replace(entry, subtree=b"", uncaptured=(*entry.uncaptured, error))
        node.entries[slot] = lost
        node.same = False
        self._problem(Problem(join(node.path, entry.name), error))
        self.settle_one(node)

    def directory_gone(self, node: Node, slot: int) -> None:
        node.entries[slot] = msgspec.structs.replace(node.entries[slot], name=b"")
        node.same = False
        self.settle_one(node)

    def settle_one(self, node: Node) -> None:
        """Count one file or subdirectory as settled, and write every directory that this completes."""
        at: Node | None = node
        while at is not None:
            at.pending -= 1
            if at.pending:
                return
            at = self._complete(at)

    def _complete(self, node: Node) -> Node | None:
        self._name_acls(node)
        self._settled(node)
        if node.same:
            subtree = node.previous_subtree
            self.directories.unmodified += 1
        else:
            entries = [entry for entry in node.entries if entry.name]
            if node.parent is None:
                entries.sort(key=_BY_NAME)  # entries from outside the walk came last
            subtree = write_directory(entries, self._put)
            before = node.previous_subtree or _subtree_before(node)
            self.directories.unmodified += before == subtree
            self.directories.changed += before is not None and before != subtree
            self.directories.new += before is None
        if node.parent is None:
            self.root = subtree
            return None
        self._hang(node.parent, node.slot, subtree)
        return node.parent

    def _name_acls(self, node: Node) -> None:
        """Add the names of the users and groups in ACLs, also to entries of a parent snapshot without any."""
        for index, entry in enumerate(node.entries):
            if entry.xattrs and (named := self._names.with_acl_names(entry)) is not entry:
                node.entries[index] = named
                node.same = False

    def _hang(self, parent: Node, slot: int, subtree: bytes) -> None:
        entry = parent.entries[slot]
        if entry.subtree == subtree:
            return
        if entry is parent.previous.get(entry.name):
            entry = msgspec.structs.replace(entry, subtree=subtree)
            parent.entries[slot] = entry
        else:
            force_setattr(entry, "subtree", subtree)
        parent.same = False


def is_equal(old: Entry, entry: Entry) -> bool:
    """Return whether a restore of both would be the same: inode, ctime and owners' names may differ."""
    return _ESSENCE(old) == _ESSENCE(entry)


def has_same_stat(old: Entry, entry: Entry) -> bool:
    """Return whether nothing in stat has changed."""
    return _STAT(old) == _STAT(entry)


def _subtree_before(node: Node) -> bytes | None:
    """Return the subtree of the parent snapshot's entry of this directory, if it has one (empty if it is empty)."""
    old = node.parent.previous.get(node.path.rpartition(b"/")[2]) if node.parent is not None else None
    return old.subtree if old is not None and old.type == FileType.DIRECTORY else None
