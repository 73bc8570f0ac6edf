"""Names that the destination's file system may treat as one: case-insensitive and normalising file systems.

Invariants
    Only names that are equal except for case, composition of characters, and trailing dots and spaces are checked
    further. A restore then tests the file system with the names of new, empty files. A dry run creates nothing: it
    judges by existing names, and by the type of the file system.
"""

import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

from drtool.operations.restore.walk import Frame
from drtool.sources.filesystem import Folder, folds_by_flag
from drtool.sources.filesystem.putback import temporary_name
from drtool.stores.voting import file_system_of
from drtool.trees import Fetch, read_directory

NAMES_MAX = 1_000_000
"""How many names of a directory are remembered. Two further equal names are detected when the second cannot be created.
"""
_NAME_BYTES_MAX = 255


class Folding(NamedTuple):
    """The differences between two names that a file system ignores."""

    case: bool = False
    composition: bool = False
    endings: bool = False
    """Trailing dots and spaces."""

    def of(self, name: bytes) -> str:
        """Return a value that is equal for names that the file system treats as one. Pure."""
        text = name.decode("utf-8", "surrogateescape")
        text = unicodedata.normalize("NFD", text) if self.composition else text
        text = text.lower() if self.case else text
        return text.rstrip(". ") if self.endings else text


_FAT = Folding(case=True, endings=True)
_APPLE = Folding(case=True, composition=True)
_KNOWN = {"vfat": _FAT, "msdos": _FAT, "exfat": _FAT, "hfs": _APPLE, "hfsplus": _APPLE, "cifs": _FAT, "smb3": _FAT}


def folded(name: bytes) -> bytes:
    """Return a value that is equal for names that any file system may treat as one. Pure."""
    if name.isascii():
        return name.lower().rstrip(b". ")
    text = unicodedata.normalize("NFD", name.decode("utf-8", "surrogateescape")).casefold()
    return unicodedata.normalize("NFC", text).rstrip(". ").encode("utf-8", "surrogateescape")


def remember(frame: Frame, name: bytes) -> bool:
    """Return whether another name of the directory was met that might be treated as this one."""
    mark = hash(folded(name))
    if mark in frame.marks:
        return True
    if len(frame.marks) < NAMES_MAX:
        frame.marks.add(mark)
    return False


def names_in(frame: Frame, top: bytes, fetch: Fetch) -> Iterator[bytes]:
    """Yield the names of a snapshot's directory once more, in order. `top` names the tree of the uppermost one."""
    subtree = top if frame.entry is None else frame.entry.subtree
    return (entry.name for entry in read_directory(subtree, fetch)) if subtree else iter(())


def taken_for(folder: Folder, name: bytes, others: Iterable[bytes]) -> str:
    """Return why `name` cannot be restored beside another, earlier name of its directory, or an empty string."""
    return _taken(name, others, lambda other: _are_one(folder, other, name))


def would_be_taken_for(folding: Folding, name: bytes, others: Iterable[bytes]) -> str:
    """Return the same for a file system with known folding. Pure."""
    return _taken(name, others, lambda other: folding.of(other) == folding.of(name))


def _taken(name: bytes, others: Iterable[bytes], is_one: Callable[[bytes], bool]) -> str:
    for other in others:
        if other >= name:
            return ""
        if folded(other) == folded(name) and is_one(other):
            return (
                f"this file system takes its name for that of {os.fsdecode(other)}, so one of the two is not restored"
            )
    return ""


def folding_of(fd: int) -> Folding:
    """Return what the file system of an open directory folds, as far as that is known without creating a file."""
    if folds_by_flag(fd):
        return _APPLE
    known = _KNOWN.get(file_system_of(fd), Folding())
    ignores_case = _ignores_case(fd)
    return known if ignores_case is None else known._replace(case=ignores_case)


def _ignores_case(fd: int) -> bool | None:
    """Return whether an existing name is found in other letters, or None if no name shows it."""
    listed = set(map(os.fsencode, os.listdir(fd)))
    for name in listed:
        swapped = name.swapcase()
        if swapped not in listed:
            try:
                found = os.stat(swapped, dir_fd=fd, follow_symlinks=False)
            except OSError:
                return False
            return os.path.samestat(found, os.stat(name, dir_fd=fd, follow_symlinks=False))
    return None


def other_spellings(folder: Folder, listed: Collection[bytes], wanted: Iterable[bytes]) -> set[bytes]:
    """Return those names of a listing under which the file system also finds one of the wanted names.

    A wanted name that is found, but that no listing shows, is one of these.
    """
    by_folded: dict[bytes, list[bytes]] = {}
    for name in listed:
        by_folded.setdefault(folded(name), []).append(name)
    suspects = [name for name in wanted if folded(name) in by_folded]
    if not suspects:
        return set()
    shown = set(map(os.fsencode, os.listdir(folder.fd)))
    found = [name for name in suspects if name not in shown and folder.stat(name) is not None]
    return {alias for name in found for alias in by_folded[folded(name)]}


def _are_one(folder: Folder, one: bytes, other: bytes) -> bool:
    """Return whether a new file whose name ends in `one` is found by the name that ends in `other`."""
    beginning = temporary_name()
    if len(beginning) + max(len(one), len(other)) > _NAME_BYTES_MAX:
        first, second = folder.stat(one), folder.stat(other)
        return first is not None and second is not None and os.path.samestat(first, second)
    probe = beginning + one
    os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=folder.fd))
    try:
        return folder.stat(beginning + other) is not None
    finally:
        folder.clear(probe)
