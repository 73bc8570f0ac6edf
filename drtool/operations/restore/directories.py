"""The directories of a restore: created before their contents, and finished after them.

Invariants
    A directory gets its metadata when everything in it is done. Until then it is writable.
    A part of its metadata is reported as changed after the change, not before.
    A missing symbolic link that led to a directory is created again where it may be followed.
"""

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from msgspec.structs import replace

from drtool.errors import DrtoolError, UsageError
from drtool.operations.restore.files import TAKEN, is_full, not_captured, words
from drtool.operations.restore.in_place import refusal
from drtool.operations.restore.request import RestoreRequest
from drtool.operations.restore.sweep import Sweep
from drtool.operations.restore.tally import Tally
from drtool.operations.restore.walk import Frame
from drtool.sources.filesystem import Folder
from drtool.trees import Entry, FileType

Names = tuple[bytes, ...]


class _Ending(NamedTuple):
    """A directory to finish once every job up to `after` is done."""

    after: int
    names: Names
    entry: Entry
    locked: int
    """The flags that prevented changes before anything was put into it, or 0."""
    stays: bool
    """It gets no metadata except these flags."""
    what: tuple[str, ...]
    """The parts of its metadata that differed before anything was put into it."""


class Directories:
    """The directories below one destination, and the destination itself if it is one of the snapshot's."""

    def __init__(
        self,
        root: Folder,
        request: RestoreRequest,
        named: Entry | None,
        is_new: bool,
        sweep: Sweep,
        tally: Tally,
        names_in: Callable[[Frame], Iterable[bytes]],
    ) -> None:
        """`named`: the entry whose metadata the destination gets, if any. `is_new`: the destination did not exist."""
        self._names_in = names_in
        self._root = root
        self._request = request
        self._named = named
        self._sweep = sweep
        self._tally = tally
        self._endings: deque[_Ending] = deque()
        self._what = () if named is None or is_new else self._parts(root, (), replace(named, name=b"."))
        if named is not None and is_new:
            tally.changed((), "new")

    def make(self, frame: Frame) -> bool:
        """Make a directory and its parents. Return False if that failed, which is reported once."""
        if frame.made or frame.parent is None or frame.entry is None:
            return not frame.broken
        if not self.make(frame.parent):
            frame.broken, frame.kept = frame.parent.broken, frame.parent.kept
            return False
        try:
            frame.made = self._make(frame, frame.parent, frame.entry)
        except (OSError, DrtoolError) as error:
            frame.broken = True
            self._tally.full = self._tally.full or is_full(error)
            self._tally.failed(frame.names, words(error))
        return frame.made

    def _make(self, frame: Frame, above: Frame, entry: Entry) -> bool:
        """Make one directory, or keep what is in its place."""
        if why := refusal(self._root, frame.names, is_way=self._sweep.is_way(frame.names)):
            raise OSError(errno.ELOOP, why)
        is_behind_link = self._root.goes_through(frame.names)
        if is_behind_link and self._root.mend_link(frame.names):
            self._tally.changed(frame.names, "new", ("link",))
        entry = replace(entry, name=b".") if is_behind_link else entry
        with self.folder(frame.names if is_behind_link else above.names) as parent:
            found = parent.stat(entry.name)
            is_folder = found is not None and stat.S_ISDIR(found.st_mode)
            if found is not None and self._request.overwrite == "never" and not is_folder:
                frame.kept = True
                return False
            if found is not None and self._request.replacing is None:
                raise OSError(errno.EEXIST, TAKEN)
            if found is not None and not is_folder:
                check_readable(entry, frame, self._names_in)
            frame.what = self._parts(parent, frame.names, entry) if is_folder else ()
            with parent.enter(entry.name) as made:
                frame.locked = made.locked
        frame.stays = is_folder and self._request.overwrite == "never"
        if found is None:
            self._tally.changed(frame.names, "new")
            self._tally.imperfect(frame.names, self._sweep.lost_link(entry))
        elif not is_folder:
            self._tally.changed(frame.names, "changed", ("type",))
        return True

    def left(self, frame: Frame, after: int) -> None:
        """Finish a directory that the walk has left, once every job up to `after` is done."""
        if frame.entry is not None and frame.made and (frame.locked or not frame.stays):
            self._endings.append(_Ending(after, frame.names, frame.entry, frame.locked, frame.stays, frame.what))

    def finish_up_to(self, done: int) -> None:
        """Finish the directories that wait for no job after number `done`."""
        while self._endings and self._endings[0].after <= done:
            self._finish_one(self._endings.popleft())

    def finish_all(self) -> None:
        """Finish all waiting directories, and the destination."""
        while self._endings:
            self._finish_one(self._endings.popleft())
        if self._named is not None:
            problems = self._finish(self._root, (), self._named, self._what)
            self._tally.directory_ended((), self._named, problems)

    def folder(self, names: Names) -> Folder:
        """Open a directory below the destination."""
        return Folder(self._root.descend(names), self._root.applier, existed=True)

    def _finish_one(self, ending: _Ending) -> None:
        try:
            with self.folder(ending.names) as folder:
                if ending.stays:
                    self._tally.imperfect(ending.names, folder.relock(ending.locked))
                    return
                problems = self._finish(folder, ending.names, ending.entry, ending.what, ending.locked)
        except OSError as error:
            problems = [words(error)]
        self._tally.directory_ended(ending.names, ending.entry, problems)

    def _finish(self, folder: Folder, names: Names, entry: Entry, what: tuple[str, ...], locked: int = 0) -> list[str]:
        """Give a directory its own metadata, report the changed parts, and return what could not be set."""
        problems = folder.finish(
            entry,
            with_times=not self._sweep.is_way(names),
            with_owner=self._sweep.gives_owner(names),
            is_way=self._sweep.leads(names),
            locked=locked,
        )
        if what and problems:
            missing = self._parts(folder, names, replace(entry, name=b"."))
            what = tuple(part for part in what if part not in missing)
        if what:
            self._tally.changed(names, "changed", what)
        return problems

    def _parts(self, parent: Folder, names: Names, entry: Entry) -> tuple[str, ...]:
        """Return the parts of a directory's metadata that differ and are set, if they are to be reported."""
        if not self._request.names_items:
            return ()
        parts = parent.differing(entry, is_way=self._sweep.leads(names))
        return self._sweep.set_parts(names, parts) if parts else ()


def check_readable(entry: Entry, frame: Frame, names_in: Callable[[Frame], Iterable[bytes]]) -> None:
    """Raise DrtoolError if a directory of the snapshot cannot be read, so that nothing is replaced by it."""
    if missing := not_captured(entry):
        raise DrtoolError(missing)
    for _ in names_in(frame):
        pass


def destination_entry(request: RestoreRequest, named: Entry | None) -> Entry | None:
    """Return the entry whose metadata the destination gets, or None if it keeps its own.

    It keeps its own if it holds more than one directory's contents: part of a directory, or a shared one like /tmp.
    """
    if named is None or named.type != FileType.DIRECTORY or request.includes:
        return None
    try:
        found = os.stat(request.to)
    except FileNotFoundError:
        return named
    return None if request.overwrite == "never" or found.st_mode & stat.S_ISVTX else named


def check_creatable(to: bytes) -> None:
    """UsageError if a destination that is absent cannot be created, as far as that shows beforehand."""
    at = os.path.abspath(to)
    while not os.path.lexists(at):
        at = os.path.dirname(at)
    name = os.fsdecode(at)
    if not os.path.exists(at):
        raise UsageError(
            f"--to {os.fsdecode(to)}: {name} is a symbolic link that leads nowhere", hint="name a directory"
        )
    if not os.access(at, os.W_OK | os.X_OK):
        raise UsageError(f"--to {os.fsdecode(to)}: nothing can be created in {name}", hint="name another directory")


def unlock_destination(to: bytes) -> None:
    """Make the destination writable for its owner. It gets its own mode when everything is in it."""
    try:
        found = os.stat(to)
    except FileNotFoundError:
        return
    if found.st_mode & 0o700 != 0o700 and found.st_uid == os.geteuid() != 0:
        os.chmod(to, stat.S_IMODE(found.st_mode) | 0o700)
