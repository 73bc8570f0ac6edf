"""The snapshot's side of a restore: its starting point, and its entries in order, filtered."""

import os
from collections.abc import Iterator, Sequence

from drtool.errors import DrtoolError
from drtool.operations.restore.files import not_captured
from drtool.operations.restore.select import Selection
from drtool.operations.selection import WHOLE_PATHS
from drtool.trees import Entry, Fetch, FileType, find_entry, read_directory, split_path

Names = tuple[bytes, ...]


class Frame:
    """A directory of the snapshot on the way down. `names` is its location below the destination."""

    __slots__ = (
        "broken",
        "entries",
        "entry",
        "included",
        "kept",
        "lived_in",
        "locked",
        "made",
        "marks",
        "met",
        "names",
        "parent",
        "stands",
        "stays",
        "there",
        "what",
    )

    def __init__(
        self,
        names: tuple[bytes, ...],
        entry: Entry | None,
        parent: "Frame | None",
        entries: Iterator[Entry],
        *,
        included: bool,
    ) -> None:
        self.names = names
        self.entry = entry
        self.parent = parent
        self.included = included
        self.entries = entries
        self.stays = False
        self.lived_in = False
        """It is, or is in, a directory of this repository's own."""
        self.locked = 0
        """The flags of a directory that stays as it is, but was unlocked so that items could be put into it."""
        self.what: tuple[str, ...] = ()
        """The parts of its metadata that differ at the destination, if they are to be reported."""
        self.met = False
        """It is not empty in the snapshot."""
        self.there: dict[bytes, bool] = {}
        """Its names at the destination that were not met in the snapshot so far: name → is it a directory."""
        self.stands: bool | None = None
        """What was in the place of the entry just met: True a directory, False something else, None nothing."""
        self.marks: set[int] = set()
        """For the names that were taken so far (see `aliases`)."""
        self.made = entry is None
        self.broken = False
        self.kept = False
        """Something else is in its place and stays, so everything below is skipped."""


def named_entry(root: bytes, path: bytes | None, fetch: Fetch) -> Entry | None:
    """Return the entry at `path`, or None for the whole tree. DrtoolError if it is missing, or was not captured."""
    if path is None or not split_path(path):
        return None
    entry = find_entry(root, path, fetch)
    if entry is None:
        raise DrtoolError(f"{os.fsdecode(path)} is not in this snapshot", hint=WHOLE_PATHS)
    if entry.type == FileType.DIRECTORY and (missing := not_captured(entry)):
        raise DrtoolError(f"{os.fsdecode(path)} cannot be restored: {missing}", hint="choose an older snapshot")
    return entry


def start(path: bytes | None, entry: Entry | None, root: bytes, fetch: Fetch) -> tuple[Names, Iterator[Entry]]:
    """Return the entries to put into the destination (the whole tree's, a directory's, or one file alone).

    They come with the names that lead to them in the snapshot.
    """
    if entry is None:
        return (), read_directory(root, fetch)
    parts = tuple(split_path(path or b""))
    if entry.type != FileType.DIRECTORY:
        return parts[:-1], iter([entry])
    return parts, read_directory(entry.subtree, fetch) if entry.subtree else iter(())


class Walk:
    """A depth-first walk, parents before their children, with one page per level in memory."""

    def __init__(
        self, top: Iterator[Entry], includes: Sequence[str], excludes: Sequence[str], fetch: Fetch, above: Names = ()
    ) -> None:
        self._selection = Selection(includes, excludes, b"/" + b"/".join(above))
        self._fetch = fetch
        self.top = Frame((), None, None, top, included=False)
        self._stack = [self.top]
        self.took_something = False
        self.left: list[Frame] = []
        """Frames that ended since the caller last looked. The caller empties the list."""
        self.unreadable: list[tuple[tuple[bytes, ...], str]] = []
        """Directories whose entries could not all be read, and why. The caller reports them and empties the list."""

    def __iter__(self) -> Iterator[tuple[Frame, Entry, Frame | None]]:
        """Yield (directory, entry, the entry's own frame if it is a directory that will be entered next).

        A directory that is only searched for matches has `included` false, and must not be created yet.
        """
        while self._stack:
            frame = self._stack[-1]
            entry = None if frame.broken else self._next(frame)
            if entry is None:
                self.left.append(self._stack.pop())
                continue
            verdict = self._selection.judge(frame.names, entry, inherited=frame.included)
            self.took_something |= verdict.take
            if entry.type == FileType.DIRECTORY and verdict.enter:
                below = read_directory(entry.subtree, self._fetch) if entry.subtree else iter(())
                child = Frame((*frame.names, entry.name), entry, frame, below, included=verdict.take)
                self._stack.append(child)
                yield frame, entry, child
            elif verdict.take:
                yield frame, entry, None

    def _next(self, frame: Frame) -> Entry | None:
        try:
            entry = next(frame.entries, None)
        except DrtoolError as error:
            frame.there = {}  # the rest of its contents is unknown
            self.unreadable.append((frame.names, error.message))
            return None
        if entry is not None:
            frame.met = True
            frame.stands = frame.there.pop(entry.name, None)
        return entry
