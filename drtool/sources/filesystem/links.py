"""Hard links among what is restored: the first name of a group is a file, the others link to it.

Invariants
    Only what this restore put back, or found to be right, is linked to; that it still is the same inode is checked after
    linking, so a swapped file does not gain a name.
    A link takes the place of another file in one step, so a link that cannot be made leaves what was there.
    A file that cannot be changed cannot be linked either: `lock` makes it immutable or append-only after the last link.
"""

import errno
import os
from collections.abc import Callable

from blake3 import blake3

from drtool.sources.filesystem.attributes import LOCKING_FLAGS
from drtool.sources.filesystem.putback import Folder, temporary_name
from drtool.sources.filesystem.reading import reason
from drtool.trees import Entry

_ID_BYTES = 32
LinkGroup = tuple[int, int, int, bytes]


class HardLinks:
    """The groups met so far, by the device and inode that they had when they were captured, and by their content.

    An inode number may have been used twice while one snapshot was taken: what differs in content is another file.
    """

    __slots__ = ("_first", "_root", "_to_lock")

    def __init__(self, root: Folder) -> None:
        self._root = root
        self._first: dict[LinkGroup, tuple[tuple[bytes, ...], tuple[int, int]]] = {}
        self._to_lock: list[tuple[tuple[bytes, ...], Entry]] = []

    def remember(self, entry: Entry, names: tuple[bytes, ...], found: os.stat_result) -> None:
        """`names`, from the root down, is now a complete file of the entry's group; `found` is its stat.

        Further names link to the newest file of the group: the older one may have as many links as it can have.
        """
        if entry.links > 1:
            self._first[link_group(entry)] = names, _identity(found)
            if entry.flags & LOCKING_FLAGS:
                self._to_lock.append((names, entry))

    def is_linked(self, entry: Entry, found: os.stat_result) -> bool:
        """Whether an existing name is the group's file already."""
        first = self._first.get(link_group(entry))
        return first is not None and first[1] == _identity(found)

    def link(self, entry: Entry, folder: Folder, make_way: Callable[[], object] = lambda: None) -> bool:
        """Make `entry.name` in `folder` a further name of its group, in place of what is there, for which `make_way` is
        called first; False if the group has no file here yet.

        OSError if linking failed (EMLINK, EXDEV, …): restore the content instead, and report that.
        """
        first = self._first.get(link_group(entry)) if entry.links > 1 else None
        if first is None:
            return False
        names, identity = first
        with Folder(self._root.descend(names[:-1]), self._root.applier, existed=False) as source:
            if entry.flags & LOCKING_FLAGS:
                source.unlock(names[-1])  # until `lock`
            try:
                _link(source, names[-1], identity, folder, entry.name)
            except FileExistsError:
                temporary = temporary_name()
                _link(source, names[-1], identity, folder, temporary)
                try:
                    make_way()
                    folder.replace(temporary, entry.name)
                except OSError:
                    folder.discard(temporary)
                    raise
        return True

    def lock(self) -> list[tuple[tuple[bytes, ...], list[str]]]:
        """Make immutable or append-only what is to be so, after the last link. Returns names and what could not be set."""
        failed = []
        for names, entry in self._to_lock:
            try:
                with Folder(self._root.descend(names[:-1]), self._root.applier, existed=False) as folder:
                    problems = folder.lock(names[-1], entry)
            except OSError as error:
                problems = [reason("flags", error)]
            if problems:
                failed.append((names, problems))
        return failed


def _link(source: Folder, name: bytes, identity: tuple[int, int], folder: Folder, new: bytes) -> None:
    os.link(name, new, src_dir_fd=source.fd, dst_dir_fd=folder.fd, follow_symlinks=False)
    found = folder.stat(new)
    if found is None or _identity(found) != identity:
        folder.discard(new)
        raise OSError(errno.ESTALE, "the first name was replaced meanwhile")


def link_group(entry: Entry) -> LinkGroup:
    """What two names have in common if they are hard links of one file."""
    content = entry.content or entry.link_target
    return entry.device, entry.inode, entry.type, content if len(content) <= _ID_BYTES else blake3(content).digest()


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
