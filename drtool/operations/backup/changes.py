"""The items of a backup for `-v` and dry runs: `new`, `changed`, `removed`, or `skipped` for a socket.

Invariants
    Items are emitted when their directory is settled, so nothing accumulates. An item without a visible difference
    (only ctime, inode or link count) is not emitted, nor is a directory that only leads to what is backed up.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from msgspec.structs import replace

from drtool.events import Emit, ItemChanged
from drtool.operations.backup.builder import Node
from drtool.operations.backup.scan import Found, Scan
from drtool.sources.filesystem import join
from drtool.trees import Entry, FileType, split_path
from drtool.trees.compare import aspects

Pair = tuple[Entry | None, Entry | None]


class ChangeNotes:
    """Emits the changes of one backup. Without `emit` it does nothing."""

    def __init__(self, emit: Emit | None, scan: Scan) -> None:
        self._emit = emit
        self._scan = scan

    def settled(self, node: Node) -> None:
        """Emit the changes of a directory whose entries are all settled."""
        if self._emit is not None and not node.same:
            for old, new in pairs(node.previous, node.entries):
                self._walked(node.path, old, new)

    def left_out(self, found: Found) -> None:
        """Emit the sockets of a directory of the walk, and at its top those among the named paths."""
        if self._emit is None:
            return
        named = self._scan.roots.sockets if found.node.parent is None else ()
        for path in (*named, *(join(found.node.path, name) for name in found.sockets)):
            self._emit(ItemChanged.of(path, "skipped"))

    def looked_at(self, node: Node, fresh: Collection[int]) -> None:
        """Emit the changes of a directory of a dry run. Its subdirectories come with their own directories.

        Only reading a file could show whether its content differs. It counts as different if size or time do. A file
        that is to be read for another reason is `reread`.
        """
        if self._emit is None:
            return
        if node.parent is not None:
            entry = node.parent.entries[node.slot]
            self._walked(node.parent.path, node.parent.previous.get(entry.name), entry)
        to_read = {node.entries[index].name for index in fresh}
        for old, new in pairs(node.previous, node.entries):
            if new is None or new.type != FileType.DIRECTORY:
                if old is not None and new is not None and new.name in to_read:
                    self._to_be_read(join(node.path, new.name), old, new)
                else:
                    self._walked(node.path, old, new)

    def file_to_read(self, path: bytes, old: Entry | None) -> None:
        """Emit a file of a source that a dry run does not read."""
        if self._emit is not None:
            self._emit(ItemChanged.of(path, "new") if old is None else ItemChanged.of(path, "changed", ("content",)))

    def _to_be_read(self, path: bytes, old: Entry, new: Entry) -> None:
        """Emit a file of a dry run that the parent snapshot has, too. Its attributes are unknown without opening it."""
        is_touched = (old.size_bytes, old.mtime_ns) != (new.size_bytes, new.mtime_ns)
        content = b"" if is_touched else old.content
        known = replace(new, xattrs=old.xattrs, flags=old.flags, content=content, content_depth=old.content_depth)
        differing = aspects(old, known)
        if self._emit is not None:
            self._emit(ItemChanged.of(path, "changed" if differing else "reread", differing))

    def item(self, directory: bytes, old: Entry | None, new: Entry | None) -> None:
        """Emit one name, comparing the parent snapshot's entry with this one's."""
        entry = new or old
        if self._emit is None or entry is None or old is new:
            return
        differing = aspects(old, new) if old is not None and new is not None else ()
        if old is None or new is None or differing:
            change = "new" if old is None else "removed" if new is None else "changed"
            self._emit(ItemChanged.of(join(directory, entry.name), change, differing))

    def _walked(self, directory: bytes, old: Entry | None, new: Entry | None) -> None:
        """Emit one name of the walk, unless it only leads to what is backed up."""
        entry = new or old
        if entry is None or old is new:
            return
        path = join(directory, entry.name)
        if split_path(path)[0] in self._scan.beside or self._scan.roots.root_of(path) is not None:
            self.item(directory, old, new)


def pairs(previous: Mapping[bytes, Entry], entries: Sequence[Entry]) -> Iterator[Pair]:
    """Yield the entries of one directory before and now, by name. An entry without a name vanished meanwhile."""
    left = dict(previous)
    for entry in entries:
        if entry.name:
            yield left.pop(entry.name, None), entry
    for entry in left.values():
        yield entry, None
