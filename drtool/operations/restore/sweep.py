"""Names at the destination that are not in the snapshot: counted, or removed with `--delete`.

Invariants
    Only names that are proven absent from the snapshot are removed. If a directory of it could not be read, at backup
    or now, everything in it stays. The selection of --include and --exclude applies here, too.
    No symlink is followed, no other file system is entered, and this repository's own directories stay.
    A dry run takes the same path and counts the same names.
    Temporary files of a killed restore are always removed, since nothing else has such names. Those of a running one
    stay.
"""

import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from drtool.errors import DrtoolError
from drtool.operations.restore.aliases import other_spellings
from drtool.operations.restore.files import not_captured, words
from drtool.operations.restore.request import RestoreRequest
from drtool.operations.restore.select import Selection, Verdict
from drtool.operations.restore.walk import Frame
from drtool.repository.lodging import Lodging
from drtool.sources.filesystem import Folder
from drtool.trees import Entry, FileType, split_path

_TEMPORARY = re.compile(rb"\.drtool-[0-9a-f]{16}")
Names = tuple[bytes, ...]


class _Step(NamedTuple):
    """A directory to empty, and if `goes` to remove once it is empty. `device`: the one that it must be on."""

    names: Names
    included: bool
    goes: bool
    device: int
    emptied: bool = False


class Sweep:
    """One restore's look at the existing contents. `deleted` counts names that were, or would be, removed."""

    def __init__(
        self,
        root: Folder | None,
        request: RestoreRequest,
        above: Names,
        lived_in: Lodging,
        names_in: Callable[[Frame], Iterable[bytes]],
        failed: Callable[[Names, str], None],
        removed: Callable[[bytes], None],
    ) -> None:
        self._root = root
        self._request = request
        self._above = above
        self._lived_in = lived_in
        self._names_in = names_in
        self._failed = failed
        self._removed = removed
        self._selection = Selection(request.includes, request.excludes, b"/" + b"/".join(above))
        self._base = os.path.realpath(request.to)
        self._whole = len(above) == len(split_path(request.path or b""))
        """Not a single file, beside which others may exist."""
        self._in_place = root.is_in_place if root is not None else request.in_place
        self._spares_way = self._in_place or os.path.ismount(self._base)
        self._is_root = os.geteuid() == 0
        self._paths = [tuple(split_path(path)) for path in request.snapshot.paths]
        self.deleted = 0

    def enter(self, frame: Frame) -> None:
        """Record the contents of the directory before anything is put into it."""
        entry = frame.entry
        if self._root is None or not self._stands(frame):
            return
        try:
            with Folder(self._root.descend(frame.names), self._root.applier, existed=False) as folder:
                frame.lived_in = self._is_home(folder) or (frame.parent is not None and frame.parent.lived_in)
                if entry is not None and not_captured(entry):
                    return
                frame.there = _listing(folder)
        except FileNotFoundError:
            return
        except OSError as error:
            if not self._inside(frame.names):
                frame.there = self._leading_on(frame.names)
            elif self._request.delete:
                self._failed(frame.names, f"what is in it cannot be listed: {words(error)}")

    def _stands(self, frame: Frame) -> bool:
        """Return whether a directory, or a link that is followed, is already in the frame's place."""
        assert self._root is not None
        if frame.parent is None or frame.parent.stands is True:
            return True
        return frame.names in self._root.detours.ways

    def _leading_on(self, names: Names) -> dict[bytes, bool]:
        """Return the known names of a parent directory that we may not list: those that lead to what was backed up."""
        assert self._root is not None
        whole = (*self._above, *names)
        found = {}
        for path in self._paths:
            if path[: len(whole)] == whole and len(path) > len(whole):
                with suppress(OSError), Folder(self._root.descend(names), self._root.applier, existed=False) as folder:
                    stands = folder.stat(path[len(whole)])
                    if stands is not None:
                        found[path[len(whole)]] = stat.S_ISDIR(stands.st_mode)
        return found

    def is_folder_in_way(self, frame: Frame) -> bool:
        """Return whether a directory is in the place of the entry just met, and is replaced with all its contents."""
        return frame.stands is True and self._request.delete and self._request.overwrite != "never"

    def clear_way(self, frame: Frame, entry: Entry) -> bool:
        """Empty a directory that something else is about to replace, and return whether it is empty then."""
        if not self.is_folder_in_way(frame):
            return False
        if self._root is None or not_captured(entry):
            return False
        try:
            with Folder(self._root.descend(frame.names), self._root.applier, existed=False) as folder:
                device = os.fstat(folder.fd).st_dev
        except OSError:
            return False  # the replacement will report why it fails
        return self._empty(_Step((*frame.names, entry.name), True, False, device))

    def leave(self, frame: Frame) -> None:
        """Remove names that the snapshot does not have, now that the whole directory was seen."""
        there, frame.there = frame.there, {}
        if self._root is None or frame.broken or frame.kept or not there:
            return
        sweeps = self._request.delete and self._sweeps(frame)
        if not sweeps and not any(map(_TEMPORARY.fullmatch, there)):
            return
        try:
            with Folder(self._root.descend(frame.names), self._root.applier, existed=False) as folder:
                if not frame.met and self._mounted(folder, frame):
                    return
                device = os.fstat(folder.fd).st_dev
                if sweeps:
                    spared = other_spellings(folder, there, self._names_in(frame))
                    there = {name: is_directory for name, is_directory in there.items() if name not in spared}
                folders = self._sweep(folder, frame.names, frame.included, there, everything=sweeps)
        except (OSError, DrtoolError) as error:
            self._failed(frame.names, words(error))
            return
        for name, taken in folders:
            self._empty(_Step((*frame.names, name), taken, taken, device))

    def _sweeps(self, frame: Frame) -> bool:
        if not self._whole or frame.lived_in or self._lives_in(frame.names):
            return False
        return self._inside(frame.names) or not self._spares_way

    def is_way(self, names: Names) -> bool:
        """Return whether a directory of this host only leads to what was backed up, so that its times are its own."""
        return self._in_place and not self._inside(names)

    def leads(self, names: Names) -> bool:
        """Return whether a directory of the snapshot only leads to what was backed up."""
        return not self._inside(names)

    def gives_owner(self, names: Names) -> bool:
        """Return whether a directory is given its owner.

        Other users than root cannot, and need not on the way to their files.
        """
        return self._is_root or self._inside(names)

    def lost_link(self, entry: Entry) -> list[str]:
        """Return, in words, that a directory in place was reached through a symbolic link, and is a directory now."""
        if not self._in_place or not entry.link_target:
            return []
        target = os.fsdecode(entry.link_target)
        return [f"link: it was a symbolic link to {target}, where it cannot lead now, and is a directory"]

    def set_parts(self, names: Names, parts: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the differing parts of a directory's metadata that a restore sets."""
        left = {"mtime"} if self.is_way(names) else set()
        left |= set() if self.gives_owner(names) else {"owner"}
        return tuple(part for part in parts if part not in left)

    def _inside(self, names: Names) -> bool:
        path = (*self._above, *names)
        return any(path[: len(named)] == named for named in self._paths)

    def _sweep(
        self, folder: Folder, names: Names, included: bool, there: dict[bytes, bool], *, everything: bool
    ) -> list[tuple[bytes, bool]]:
        """Remove the files among `there`. Return the directories to look into, and whether each goes itself."""
        folders = []
        for name, is_directory in sorted(there.items()):
            if _TEMPORARY.fullmatch(name) and not is_directory:
                if not _is_in_use(folder, name):
                    self._unlink(folder, names, name, counted=False)
            elif _TEMPORARY.fullmatch(name) and _is_empty(folder, name):  # ours are never filled under such a name
                self._unlink(folder, names, name, counted=False)
            elif everything:
                verdict = self._verdict(names, name, is_directory=is_directory, included=included)
                if is_directory and verdict.enter:
                    folders.append((name, verdict.take))
                elif not is_directory and verdict.take and not _is_socket(folder, name):
                    self._unlink(folder, names, name)
        return folders

    def _empty(self, first: _Step) -> bool:
        """Empty a directory that the snapshot does not have, deepest first. Return whether nothing stays in it."""
        stack = [first]
        kept: set[Names] = set()
        while stack:
            step = stack.pop()
            if step.emptied:
                if step.names in kept or not step.goes or not self._rmdir(step.names):
                    kept.add(step.names[:-1])
                continue
            stack.append(step._replace(emptied=True))
            try:
                stack += self._contents(step, kept)
            except OSError as error:
                kept.add(step.names)
                self._failed(step.names, f"it cannot be deleted: {words(error)}")
        return first.names not in kept

    def _contents(self, step: _Step, kept: set[Names]) -> list[_Step]:
        """Remove the files of one directory, and return its subdirectories as steps."""
        steps = []
        if self._lives_in(step.names):
            raise OSError(0, "this repository lives there")
        with self._open(step.names) as folder:
            if self._is_home(folder):
                raise OSError(0, "this repository lives there")
            if os.fstat(folder.fd).st_dev != step.device:
                raise OSError(0, "another file system is mounted there")
            for name, is_directory in sorted(_listing(folder).items()):
                verdict = self._verdict(step.names, name, is_directory=is_directory, included=step.included)
                if is_directory and verdict.enter:
                    steps.append(_Step((*step.names, name), verdict.take, verdict.take, step.device))
                elif is_directory or not verdict.take or not self._unlink(folder, step.names, name):
                    kept.add(step.names)
        return steps

    def _open(self, names: Names) -> Folder:
        assert self._root is not None
        if self._request.dry_run:
            return Folder(self._root.descend(names), self._root.applier, existed=False)
        with Folder(self._root.descend(names[:-1]), self._root.applier, existed=False) as parent:
            return parent.enter(names[-1])  # unlocks it

    def _verdict(self, names: Names, name: bytes, *, is_directory: bool, included: bool) -> Verdict:
        kind = FileType.DIRECTORY if is_directory else FileType.FILE
        return self._selection.judge(names, Entry(name=name, type=kind, mode=0, uid=0, gid=0), inherited=included)

    def _unlink(self, folder: Folder, names: Names, name: bytes, *, counted: bool = True) -> bool:
        try:
            if not self._request.dry_run:
                folder.clear(name)
        except OSError as error:
            self._failed((*names, name), f"it cannot be deleted: {words(error)}")
            return False
        if counted:
            self.deleted += 1
            self._removed(os.path.join(self._base, *names, name))
        return True

    def _rmdir(self, names: Names) -> bool:
        assert self._root is not None
        try:
            with Folder(self._root.descend(names[:-1]), self._root.applier, existed=False) as folder:
                return self._unlink(folder, names[:-1], names[-1])
        except OSError as error:
            self._failed(names, f"it cannot be deleted: {words(error)}")
            return False

    def _lives_in(self, names: Names) -> bool:
        path = os.path.join(self._base, *names)
        return any(path == place or path.startswith(place + b"/") for place in self._lived_in.paths)

    def _is_home(self, folder: Folder) -> bool:
        found = os.fstat(folder.fd)
        return (found.st_dev, found.st_ino) in self._lived_in.identities

    def _mounted(self, folder: Folder, frame: Frame) -> bool:
        """Return whether it is a mount point. If it is empty in the snapshot, the mounted contents were not backed up."""
        assert self._root is not None
        if not frame.names:
            return False
        with Folder(self._root.descend(frame.names[:-1]), self._root.applier, existed=False) as parent:
            return os.fstat(folder.fd).st_dev != os.fstat(parent.fd).st_dev


def _is_empty(folder: Folder, name: bytes) -> bool:
    try:
        with Folder(folder.descend((name,)), folder.applier, existed=True) as inside:
            return inside.is_empty()
    except OSError:
        return False


def _is_socket(folder: Folder, name: bytes) -> bool:
    """Return whether a name is a socket's. Snapshots have none, so its absence there does not mean removal."""
    found = folder.stat(name)
    return found is not None and stat.S_ISSOCK(found.st_mode)


def _is_in_use(folder: Folder, temporary: bytes) -> bool:
    """Return whether a running restore holds this temporary file."""
    try:
        fd = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder.fd)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    finally:
        os.close(fd)
    return False


def _listing(folder: Folder) -> dict[bytes, bool]:
    """Return the names, and whether each is a directory."""
    with os.scandir(folder.fd) as listing:
        return {os.fsencode(item.name): item.is_dir(follow_symlinks=False) for item in listing}
