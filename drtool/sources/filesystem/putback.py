"""Putting entries back below a destination, and nowhere else.

Invariants
    Everything is relative to a descriptor of the directory it goes into; no symlink below the destination is followed.
    A directory's own metadata is set when it is finished, after everything in it; until then only its owner may enter.
    Nothing that the destination's directories would pass on (default ACLs, setgid, flags, the umask) reaches what is put
    into them.
    What is there gives way only when asked (`clear`); a file that is to be replaced is written under another name first.

A small new file costs open, write, fchown, fchmod, utimensat, close.
"""

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Self, TypeVar

from msgspec.structs import replace

from drtool.errors import UsageError
from drtool.sources.filesystem.acls import ACL_DEFAULT, ACLS
from drtool.sources.filesystem.applying import Applier, prepare_flags
from drtool.sources.filesystem.attributes import HAS_XATTRS, LOCKING_FLAGS, flags_of, set_flags
from drtool.sources.filesystem.detours import Detours, Names, descend, open_behind
from drtool.sources.filesystem.reading import is_passage, open_directory, open_leased, open_top, reason
from drtool.sources.filesystem.removing import remove, retry_unlocked, unlock
from drtool.sources.filesystem.without_proc import HAS_PROC, in_directory
from drtool.trees import Entry, FileType

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_PATH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC


_NO_DETOURS = Detours()
_NS_PER_S = 10**9
_Answer = TypeVar("_Answer")


class Folder:
    """An open directory at the destination. Close it, or use it in a `with` statement."""

    __slots__ = ("_exact_times", "applier", "detours", "existed", "fd", "locked", "passes_on", "way")

    def __init__(
        self, fd: int, applier: Applier, *, existed: bool, detours: Detours = _NO_DETOURS, locked: int = 0
    ) -> None:
        self.fd = fd
        self.way: int | str = _through(fd) if is_passage(fd) else fd
        """Leads to the directory's metadata: its descriptor, unless we may not read it."""
        self.locked = locked
        """The flags that it had when `enter` made it changeable; 0 if it was."""
        self.applier = applier
        self._exact_times = False
        self.existed = existed
        self.detours = detours
        self.passes_on = existed and (isinstance(self.way, int) or HAS_PROC) and _passes_on(self.way)
        """New names in it inherit ACLs or flags, which must be taken off them."""

    @classmethod
    def destination(cls, path: bytes, applier: Applier | None = None) -> "Folder":
        """The directory that `--to` names, created with its parents if absent; only here are symlinks followed.

        UsageError if something else is there.
        """
        try:
            os.makedirs(path, exist_ok=True)
            fd = _open_destination(path)
        except (FileExistsError, NotADirectoryError) as error:
            raise UsageError(f"{os.fsdecode(path)} is not a directory", hint="name a directory with --to") from error
        return cls(fd, applier or Applier(), existed=True)

    @classmethod
    def in_place(
        cls, names: Names, detours: Detours, applier: Applier | None = None, entries: Sequence[Entry | None] = ()
    ) -> "Folder":
        """The directory at an absolute path, created with its parents if absent; no symlink is followed but the detours.

        What is created gets the metadata of `entries`, one for each name, if any. OSError if a symlink is in the way.
        """
        at = open_top()
        created: dict[int, Entry] = {}
        try:
            for number, name in enumerate(names, start=1):
                is_new = False
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=at)
                    is_new = True
                way = Detours({(name,): detours.ways[names[:number]]} if names[:number] in detours.ways else {})
                below = descend(at, (name,), way)
                entry = entries[number - 1] if is_new and number <= len(entries) else None
                if entry is not None:
                    created[os.dup(below)] = entry
                os.close(at)
                at = below
            fd = descend(at, (b".",), _NO_DETOURS)
        finally:
            os.close(at)
            applier = applier or Applier()
            for made, entry in created.items():
                applier.way_problems += applier.apply(made, entry, tidy=False, lock=False)
                os.close(made)
        return cls(fd, applier, existed=True, detours=detours.below(names))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self.fd)

    def is_empty(self) -> bool:
        """Whether nothing is in it."""
        with os.scandir(self.fd) as listing:
            return next(listing, None) is None

    def stat(self, name: bytes) -> os.stat_result | None:
        """What is there under this name, symlinks not followed; None if nothing is."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def clear(self, name: bytes, *, delete: bool = False) -> int:
        """Remove what is there and return how many names that were. OSError ENOTEMPTY for a directory with something
        in it, unless `delete`."""
        return remove(self.fd, name, recursive=delete)

    def enter(self, name: bytes, *, delete: bool = False) -> "Folder":
        """The subdirectory `name`, made if absent; what is there and is no directory gives way.

        Give it its own metadata with `finish` when everything in it is done.
        """
        found = self.stat(name)
        if found is not None and not stat.S_ISDIR(found.st_mode):
            self.clear(name, delete=delete)
            found = None
        if found is None:
            os.mkdir(name, 0o700, dir_fd=self.fd)
        fd = self._open_folder(name)
        try:
            flags = flags_of(fd) if found is not None else 0
            if found is not None:
                unlock(fd)
            elif self.passes_on:
                _forget_inherited(fd)
            return Folder(fd, self.applier, existed=found is not None, locked=flags if flags & LOCKING_FLAGS else 0)
        except BaseException:
            os.close(fd)
            raise

    def _open_folder(self, name: bytes) -> int:
        if os.geteuid() == 0:
            return open_directory(self.fd, name)
        # An owner may have locked himself out, by its mode or by his umask; `finish` sets the right mode.
        handle = os.open(name, _PATH | os.O_DIRECTORY, dir_fd=self.fd)
        try:
            found = os.fstat(handle)
            if found.st_mode & 0o700 != 0o700 and found.st_uid == os.geteuid():
                _unlock_directory(handle, stat.S_IMODE(found.st_mode) | 0o700)
        finally:
            os.close(handle)
        return descend(self.fd, (name,), _NO_DETOURS)

    def finish(self, entry: Entry, *, with_times: bool = True, with_owner: bool = True) -> list[str]:
        """Give this directory its own metadata, unless it has it; after everything in it. Returns what could not be set."""
        found = os.fstat(self.fd)
        if not with_times:
            entry = replace(entry, mtime_ns=found.st_mtime_ns)
        if self.existed and self.applier.stat_matches(found, entry):
            is_closed = not isinstance(self.way, int)  # its attributes are not for us to read, and less so to set
            if is_closed or self.applier.matches(self.fd, found, entry):
                return []
        return self.applier.apply(self.way, entry, tidy=self.existed, with_owner=with_owner)

    def relock(self, flags: int) -> list[str]:
        """Give it back the flags that it had before `enter`. Returns what could not be set."""
        try:
            set_flags(self.fd, flags)
        except OSError as error:
            return [reason("flags", error)]
        return []

    def create_file(self, entry: Entry, name: bytes | None = None) -> int:
        """A new, empty file that only its owner may open; write into the descriptor, `finish_file`, close.

        FileExistsError if the name is taken, even by a dangling symlink. After a failure, `discard` it.
        """
        name = entry.name if name is None else name
        fd = os.open(name, _NEW, 0o600, dir_fd=self.fd)
        if entry.flags:
            prepare_flags(fd, entry)
        if entry.holes:
            try:
                os.ftruncate(fd, entry.size_bytes)
            except OSError:
                os.close(fd)
                self.discard(name)
                raise
        return fd

    def create_beside(self, entry: Entry) -> tuple[int, bytes]:
        """A new file under a temporary name, to be renamed over `entry.name` by `replace` when it is complete.

        It is locked for as long as its descriptor is open, so that another restore leaves it in place.
        """
        temporary = temporary_name()
        fd = self.create_file(entry, temporary)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return fd, temporary

    def replace(self, temporary: bytes, name: bytes) -> None:
        """Let a finished temporary file take its name, in place of what is there (no directory: `clear` that)."""
        retry_unlocked(self.fd, name, lambda: os.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd))

    def discard(self, name: bytes) -> None:
        """Remove a file that could not be completed."""
        remove(self.fd, name, recursive=False)

    def open_file(self, name: bytes, *, write: bool = False) -> int:
        """An existing regular file, to compare it or to correct it in place. OSError if it is none.

        Correct in place only if its link count is 1: other names of the file may lie outside of the restore.
        """
        fd = open_leased(name, _OLD | (os.O_RDWR if write else os.O_RDONLY), self.fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "no regular file", name)
        return fd

    def finish_file(self, fd: int, entry: Entry, *, lock: bool = True) -> list[str]:
        """Give a completely written file its metadata. Returns what could not be set.

        Without `lock` the file does not become immutable or append-only yet, so that it can be renamed and linked.
        """
        exact = self._exact_times
        problems = self.applier.apply(fd, entry, tidy=self.passes_on, lock=lock, exact_times=exact)
        if not exact and entry.mtime_ns % _NS_PER_S:  # one stat tells of all files of the directory
            self._exact_times = os.fstat(fd).st_mtime_ns == entry.mtime_ns
        return problems

    def make(self, entry: Entry) -> list[str]:
        """A new symlink, FIFO or device, with its metadata. Returns what could not be set. OSError if it failed."""
        name = entry.name
        if entry.type == FileType.SYMLINK:
            os.symlink(entry.link_target, name, dir_fd=self.fd)
        elif entry.type == FileType.FIFO:
            os.mkfifo(name, 0o600, dir_fd=self.fd)
        else:
            os.mknod(name, entry.type << 12 | 0o600, entry.rdev, dir_fd=self.fd)
        return self.correct(entry, existed=self.passes_on)

    def correct(self, entry: Entry, *, existed: bool = True, lock: bool = True) -> list[str]:
        """Give what is under the entry's name its metadata, contents untouched. Returns what could not be set."""
        with self._target(entry) as target:
            return target.reach(lambda way: self.applier.apply(way, entry, tidy=existed, lock=lock))

    def lock(self, name: bytes, entry: Entry) -> list[str]:
        """Make an existing file immutable or append-only if its entry is. Returns what could not be set."""
        fd = self.open_file(name)
        try:
            return self.applier.lock(fd, entry)
        finally:
            os.close(fd)

    def unlock(self, name: bytes) -> None:
        """Make an existing file neither immutable nor append-only. OSError if that is not permitted."""
        fd = self.open_file(name)
        try:
            unlock(fd)
        finally:
            os.close(fd)

    def matches(self, entry: Entry) -> bool:
        """Whether what is under the entry's name has its type, metadata and link target; contents are not compared."""
        found = self.stat(entry.name)
        if found is None or not self.applier.stat_matches(found, entry):
            return False
        if entry.type == FileType.SYMLINK and os.readlink(entry.name, dir_fd=self.fd) != entry.link_target:
            return False
        with self._target(entry) as target:
            return target.reach(lambda way: self.applier.matches(way, found, entry))

    def differing(self, entry: Entry) -> tuple[str, ...]:
        """Return the parts in which what is under the entry's name differs from it, contents left aside; empty if nothing
        is there or nothing differs."""
        found = self.stat(entry.name)
        if found is None:
            return ()
        if found.st_mode >> 12 != entry.type:
            return ("type",)
        link = entry.type == FileType.SYMLINK
        target = link and os.readlink(entry.name, dir_fd=self.fd) != entry.link_target
        with self._target(entry) as inode:
            parts = inode.reach(lambda way: self.applier.differing(way, found, entry))
        return ("target", *parts) if target else parts

    def descend(self, names: Names) -> int:
        """A descriptor of a directory further down that exists; no symlink on the way is followed but the detours."""
        return descend(self.fd, names, self.detours)

    def goes_through(self, names: Names) -> bool:
        """Whether a symbolic link on the way stays, and is gone through. OSError if it stays and is not."""
        if refusal := self.detours.refused.get(names):
            raise OSError(errno.ELOOP, refusal)
        return names in self.detours.ways

    def behind(self, names: Names) -> tuple[int, bytes]:
        """A descriptor of the directory, and the name in it, of a file that a detour leads to. OSError if it is refused."""
        self.goes_through(names)
        detour = self.detours.ways[names]
        with Folder(self.descend(names[:-1]), self.applier, existed=False) as folder:
            return open_behind(folder.fd, names[-1], detour), detour.file

    def _target(self, entry: Entry) -> "_Target":
        return _Target(self.fd, entry)


class _Target:
    """Access to one inode's metadata: a descriptor where it has flags, else `/proc/self/fd/N` of an O_PATH one.

    Without /proc it is reached by its name.
    """

    __slots__ = ("_dir_fd", "_fd", "_name", "_way")

    def __init__(self, dir_fd: int, entry: Entry) -> None:
        self._dir_fd, self._name = dir_fd, entry.name
        self._fd = os.open(entry.name, _PATH, dir_fd=dir_fd)
        if os.fstat(self._fd).st_mode >> 12 != entry.type:
            os.close(self._fd)
            raise OSError(errno.ESTALE, "it was replaced meanwhile", entry.name)
        self._way: int | str = _through(self._fd)
        if entry.type in (FileType.FILE, FileType.DIRECTORY):
            self._reopen()

    def _reopen(self) -> None:
        try:
            if HAS_PROC:
                fd = open_leased(_through(self._fd), _OLD & ~os.O_NOFOLLOW)
            else:
                fd = open_leased(self._name, _OLD, self._dir_fd)
        except PermissionError:
            return  # not readable for us: everything but its flags can be set without opening it
        same = os.path.sameopenfile(fd, self._fd)
        os.close(self._fd)
        self._fd = self._way = fd
        if not same:
            os.close(fd)
            raise OSError(errno.ESTALE, "it was replaced meanwhile", self._name)

    def reach(self, action: Callable[[int | str | bytes], _Answer]) -> _Answer:
        """Return what `action` returns for the way to the inode."""
        if HAS_PROC or isinstance(self._way, int):
            return action(self._way)
        return in_directory(self._dir_fd, lambda: action(self._name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def temporary_name() -> bytes:
    """Return a name for what is not complete yet; a later restore removes what has such a name."""
    return b".drtool-" + secrets.token_hex(8).encode()


def write_data(fd: int, entry: Entry, offset: int, data: bytes | memoryview) -> int:
    """Write `data`, which belongs at `offset`, except zeros where the entry has holes; returns how much was written.

    Within a new file of `create_file` that leaves the holes as they were.
    """
    if not entry.holes:
        return _write_all(fd, offset, memoryview(data))
    return sum(
        _write_all(fd, offset + start, memoryview(data)[start:end]) for start, end in _solid(entry, offset, data)
    )


def _solid(entry: Entry, offset: int, data: bytes | memoryview) -> Iterator[tuple[int, int]]:
    """The parts of `data` that must be written, as (start, end) within it."""
    at = 0
    for hole, length in entry.holes:
        start = min(max(hole - offset, at), len(data))
        end = min(max(hole + length - offset, start), len(data))
        # A file that changed while it was backed up may have data where the map of its holes, taken first, has none.
        if end > start and bytes(data[start:end]) == bytes(end - start):
            if start > at:
                yield at, start
            at = end
    if at < len(data):
        yield at, len(data)


def _write_all(fd: int, offset: int, data: memoryview) -> int:
    done = os.pwrite(fd, data, offset)
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)
    return done


def _through(handle: int) -> str:
    return f"/proc/self/fd/{handle}"


def _unlock_directory(handle: int, mode: int) -> None:
    if HAS_PROC:
        os.chmod(_through(handle), mode)
    else:
        in_directory(handle, lambda: os.chmod(".", mode))


def _open_destination(path: bytes) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return os.open(path, _PATH & ~os.O_NOFOLLOW | os.O_DIRECTORY)  # names can be put into it all the same


def _passes_on(way: int | str) -> bool:
    if isinstance(way, int) and flags_of(way):
        return True
    return HAS_XATTRS and os.fsdecode(ACL_DEFAULT) in _names(way)


def _names(way: int | str) -> list[str]:
    try:
        return os.listxattr(way)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise


def _forget_inherited(fd: int) -> None:
    """A new directory in one that passes something on: take it off before anything is put into it."""
    if HAS_XATTRS:
        for acl in set(map(os.fsdecode, ACLS)) & set(_names(fd)):
            os.removexattr(fd, acl)
    if flags_of(fd):
        set_flags(fd, 0)
