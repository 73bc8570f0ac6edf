"""Hard links among what is restored: the first name of a group is a file, the others link to it.

Invariants
    Only what this restore put back, or found to be right, is linked to; that it still is the same inode is checked after
    linking, so a swapped file does not gain a name.
"""

import os

from blake3 import blake3

from drtool.sources.filesystem.putback import Folder
from drtool.trees import Entry

_ID_BYTES = 32
LinkGroup = tuple[int, int, int, bytes]


class HardLinks:
    """The groups met so far, by the device and inode that they had when they were captured, and by their content.

    An inode number may have been used twice while one snapshot was taken: what differs in content is another file.
    """

    __slots__ = ("_first", "_root")

    def __init__(self, root: Folder) -> None:
        self._root = root
        self._first: dict[LinkGroup, tuple[tuple[bytes, ...], tuple[int, int]]] = {}

    def remember(self, entry: Entry, names: tuple[bytes, ...], found: os.stat_result) -> None:
        """`names`, from the root down, is now a complete file of the entry's group; `found` is its stat."""
        if entry.links > 1:
            self._first.setdefault(link_group(entry), (names, _identity(found)))

    def is_linked(self, entry: Entry, found: os.stat_result) -> bool:
        """Whether an existing name is the group's file already."""
        first = self._first.get(link_group(entry))
        return first is not None and first[1] == _identity(found)

    def holds(self, entry: Entry) -> bool:
        """Whether the entry's group has a file here already."""
        return link_group(entry) in self._first

    def link(self, entry: Entry, folder: Folder) -> bool:
        """Make `entry.name` in `folder` a further name of its group; False if the group has no file here yet.

        FileExistsError if the name is taken; OSError if linking failed (EMLINK, …): restore the content instead.
        """
        first = self._first.get(link_group(entry)) if entry.links > 1 else None
        if first is None:
            return False
        names, identity = first
        source = self._root.descend(names[:-1])
        try:
            os.link(names[-1], entry.name, src_dir_fd=source, dst_dir_fd=folder.fd, follow_symlinks=False)
        finally:
            os.close(source)
        found = folder.stat(entry.name)
        if found is not None and _identity(found) == identity:
            return True
        folder.discard(entry.name)
        return False


def link_group(entry: Entry) -> LinkGroup:
    """What two names have in common if they are hard links of one file."""
    content = entry.content
    return entry.device, entry.inode, entry.type, content if len(content) <= _ID_BYTES else blake3(content).digest()


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
