"""What the process that took a snapshot could see of a file, and so what its entry decides about.

Invariants
    What a snapshot could not see is not removed by a restore, and is no difference.
    Where a snapshot does not record what was hidden from it, what may have been hidden stays as well and is reported.
"""

from collections.abc import Collection
from typing import NamedTuple

from drtool.trees import Entry, FileType

TRUSTED = "trusted"
"""Attributes whose names begin with `trusted.`: they show only with CAP_SYS_ADMIN."""
UNREADABLE = "unreadable"
"""Flags and `user.*` attributes of directories that lead to what was named, and that only others may read."""
FLAGS = "flags"
"""Flags of files: sandboxes may forbid to ask for them."""
_DIRECTORY = int(FileType.DIRECTORY)


class Sight(NamedTuple):
    """What a snapshot saw: `trusted.*` attributes, directories on the way that not everyone may read, and flags.

    None: it is not recorded.
    """

    trusted: bool | None = True
    unreadable: bool | None = True
    flags: bool | None = True

    @classmethod
    def of(cls, hidden: Collection[str] | None) -> "Sight":
        """Return what a snapshot saw from which the kinds in `hidden` were hidden; None of an old snapshot."""
        if hidden is None:
            return cls(None, None, None)
        return cls(TRUSTED not in hidden, UNREADABLE not in hidden, FLAGS not in hidden)

    def of_xattr(self, name: bytes, entry: Entry, *, is_way: bool = False) -> bool | None:
        """Return whether the entry would have this attribute if the file had it; None if that is unknown."""
        if _is_unread(entry) or any(_names_xattr(word, name) for word in entry.uncaptured):
            return False
        if name.startswith(b"trusted."):
            return self.trusted
        return self.unreadable if is_way and name.startswith(b"user.") else True

    def of_flags(self, entry: Entry, *, is_way: bool = False) -> bool | None:
        """Return whether the entry would have the flags that the file has; None if that is unknown."""
        if _is_unread(entry) or any(word.startswith("flags:") for word in entry.uncaptured):
            return False
        if entry.type == _DIRECTORY and not entry.subtree:
            return False  # a mount point of another file system: it was not opened
        if is_way and self.flags is not False:
            return self.unreadable
        if self.flags is None:  # earlier versions did not say that an empty file could not be opened
            return True if entry.size_bytes or entry.type == _DIRECTORY else None
        return self.flags


EVERYTHING = Sight()


def _names_xattr(word: str, name: bytes) -> bool:
    """Return whether `uncaptured` says that this attribute, or all of them, could not be read."""
    return word.startswith(("xattrs:", f"xattr {name.decode('utf-8', 'backslashreplace')}:"))


def _is_unread(entry: Entry) -> bool:
    """Return whether the entry is of a directory that could not be opened: nothing but its stat is known."""
    return entry.type == _DIRECTORY and any(word.startswith("content") for word in entry.uncaptured)
