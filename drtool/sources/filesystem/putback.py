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
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from msgspec.structs import replace

from drtool.errors import UsageError
from drtool.sources.filesystem.applying import Applier, Tidy, prepare_flags
from drtool.sources.filesystem.attributes import LOCKING_FLAGS, flags_of, set_flags
from drtool.sources.filesystem.detours import Detours, Names, descend, make_link, make_step, open_behind
from drtool.sources.filesystem.inheritance import forget_inherited, passes_on
from drtool.sources.filesystem.inodes import OLD, PATH, Inode, through, unlock_directory
from drtool.sources.filesystem.reading import is_passage, open_directory, open_leased, open_top, reason
from drtool.sources.filesystem.removing import remove, retry_unlocked, unlock
from drtool.sources.filesystem.times import proves_exactness
from drtool.sources.filesystem.without_proc import HAS_PROC
from drtool.trees import Entry, FileType

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_DETOURS = Detours()


class Folder:
    """An open directory at the destination. Close it, or use it in a `with` statement."""

    __slots__ = (
        "_exact_times",
        "applier",
        "detours",
        "existed",
        "fd",
        "is_in_place",
        "locked",
        "passes_on",
        "way",
    )

    def __init__(
        self, fd: int, applier: Applier, *, existed: bool, detours: Detours = _NO_DETOURS, locked: int = 0
    ) -> None:
        self.fd = fd
        self.way: int | str = through(fd) if is_passage(fd) else fd
        """Leads to the directory's metadata: its descriptor, unless we may not read it."""
        self.locked = locked
        """The flags that it had when `enter` made it changeable; 0 if it was."""
        self.applier = applier
        self._exact_times = False
        self.existed = existed
        self.detours = detours
        self.is_in_place = False
        """It is the directory that was backed up."""
        self.passes_on = existed and (isinstance(self.way, int) or HAS_PROC) and passes_on(self.way)
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
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UsageError(f"--to {os.fsdecode(path)}: {error.strerror}", hint="name another directory") from error
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
                detour = detours.ways.get(names[:number])
                is_new = make_step(at, name, detour)
                below = descend(at, (name,), Detours({(name,): detour} if detour else {}))
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
                applier.way_problems += applier.apply(made, entry, tidy=Tidy.INHERITED, lock=False)
                os.close(made)
        return cls._in_place(fd, names, detours, applier)

    @classmethod
    def found_in_place(cls, names: Names, detours: Detours, applier: Applier) -> "Folder | None":
        """As `in_place`, and None if it is not there: nothing is created."""
        top = open_top()
        try:
            fd = descend(top, (*names, b"."), detours)
        except FileNotFoundError:
            return None
        finally:
            os.close(top)
        return cls._in_place(fd, names, detours, applier)

    @classmethod
    def _in_place(cls, fd: int, names: Names, detours: Detours, applier: Applier) -> "Folder":
        folder = cls(fd, applier, existed=True, detours=detours.below(names))
        folder.is_in_place = True
        return folder

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

    def may_write(self) -> bool:
        """Return whether names can be put into it. An owner can give himself the right."""
        if os.geteuid() == 0 or os.fstat(self.fd).st_uid == os.geteuid():
            return True
        return os.access(b".", os.W_OK | os.X_OK, dir_fd=self.fd, effective_ids=True)

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

    def enter(self, name: bytes) -> "Folder":
        """The subdirectory `name`, made if absent; what is there and is no directory gives way.

        Give it its own metadata with `finish` when everything in it is done.
        """
        found = self.stat(name)
        if found is not None and not stat.S_ISDIR(found.st_mode):
            self._put_folder_over(name)
            found = None
        elif found is None:
            os.mkdir(name, 0o700, dir_fd=self.fd)
        fd = self._open_folder(name)
        try:
            flags = flags_of(fd) if found is not None else 0
            if found is not None:
                unlock(fd)
            elif self.passes_on:
                forget_inherited(fd)
            return Folder(fd, self.applier, existed=found is not None, locked=flags if flags & LOCKING_FLAGS else 0)
        except BaseException:
            os.close(fd)
            raise

    def _put_folder_over(self, name: bytes) -> None:
        """A new directory in place of something that is none, which stays if no directory can be made."""
        temporary = temporary_name()
        os.mkdir(temporary, 0o700, dir_fd=self.fd)
        try:
            self.clear(name)
            self._rename(temporary, name)
        except BaseException:
            self.clear(temporary)
            raise

    def _open_folder(self, name: bytes) -> int:
        if os.geteuid() == 0:
            return open_directory(self.fd, name)
        # An owner may have locked himself out, by its mode or by his umask; `finish` sets the right mode.
        handle = os.open(name, PATH | os.O_DIRECTORY, dir_fd=self.fd)
        try:
            found = os.fstat(handle)
            if found.st_mode & 0o700 != 0o700 and found.st_uid == os.geteuid():
                unlock_directory(handle, stat.S_IMODE(found.st_mode) | 0o700)
        finally:
            os.close(handle)
        return descend(self.fd, (name,), _NO_DETOURS)

    def finish(
        self,
        entry: Entry,
        *,
        with_times: bool = True,
        with_owner: bool = True,
        is_way: bool = False,
        locked: int = 0,
    ) -> list[str]:
        """Give this directory its own metadata, unless it has it; after everything in it. Returns what could not be set.

        `is_way`: it only leads to what was backed up. `locked`: the flags that it had before `enter`.
        """
        found = os.fstat(self.fd)
        if not with_times:
            entry = replace(entry, mtime_ns=found.st_mtime_ns)
        problems = []
        if not self._is_as_in(entry, found, is_way=is_way):
            tidy = Tidy.OLDER if self.existed else Tidy.NOTHING
            problems = self.applier.apply(self.way, entry, tidy=tidy, with_owner=with_owner, is_way=is_way)
        if locked & ~entry.flags and not self.applier.decides_flags(entry, is_way=is_way):
            problems += self.relock(flags_of(self.fd) | locked)
        return problems

    def _is_as_in(self, entry: Entry, found: os.stat_result, *, is_way: bool) -> bool:
        if not self.existed or not self.applier.stat_matches(found, entry):
            return False
        is_closed = not isinstance(self.way, int)  # its attributes are not for us to read, and less so to set
        return is_closed or self.applier.matches(self.fd, found, entry, is_way=is_way)

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
        """Let what is finished take its name, in place of what is there.

        OSError ENOTEMPTY if that is a directory with something in it.
        """
        try:
            retry_unlocked(self.fd, name, lambda: self._rename(temporary, name))
        except IsADirectoryError:
            self.clear(name)
            retry_unlocked(self.fd, name, lambda: self._rename(temporary, name))

    def _rename(self, old: bytes, new: bytes) -> None:
        os.rename(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def discard(self, name: bytes) -> None:
        """Remove a file that could not be completed."""
        remove(self.fd, name, recursive=False)

    def open_file(self, name: bytes, *, write: bool = False) -> int:
        """An existing regular file, to compare it or to correct it in place. OSError if it is none.

        Correct in place only if its link count is 1: other names of the file may lie outside of the restore.
        """
        fd = open_leased(name, OLD | (os.O_RDWR if write else os.O_RDONLY), self.fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "no regular file", name)
        return fd

    def finish_file(self, fd: int, entry: Entry, *, lock: bool = True) -> list[str]:
        """Give a completely written file its metadata. Returns what could not be set.

        Without `lock` the file does not become immutable or append-only yet, so that it can be renamed and linked.
        """
        exact = self._exact_times
        tidy = Tidy.INHERITED if self.passes_on else Tidy.NOTHING
        problems = self.applier.apply(fd, entry, tidy=tidy, lock=lock, exact_times=exact)
        if not exact and proves_exactness(entry.mtime_ns):  # one stat tells of all files of the directory
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
        return self.correct(entry, tidy=Tidy.INHERITED if self.passes_on else Tidy.NOTHING)

    def make_beside(self, entry: Entry) -> tuple[bytes, list[str]]:
        """As `make`, under a temporary name, to be renamed over `entry.name` by `replace`."""
        temporary = temporary_name()
        try:
            return temporary, self.make(replace(entry, name=temporary))
        except BaseException:
            self.discard(temporary)
            raise

    def correct(self, entry: Entry, *, tidy: Tidy = Tidy.OLDER, lock: bool = True) -> list[str]:
        """Give what is under the entry's name its metadata, contents untouched. Returns what could not be set."""
        with self._inode(entry) as inode:
            return inode.reach(lambda way: self.applier.apply(way, entry, tidy=tidy, lock=lock))

    def keep_unseen(self, fd: int, entry: Entry) -> list[str]:
        """Give a file that takes the name of another one those attributes of it that the snapshot could not see.

        Returns what could not be set.
        """
        found = self.stat(entry.name)
        if found is None or found.st_mode >> 12 != entry.type:
            return []
        with self._inode(entry) as inode:
            pairs = inode.reach(lambda way: self.applier.unseen(way, entry))
        return self.applier.take_over(fd, pairs, entry)

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
        with self._inode(entry) as inode:
            return inode.reach(lambda way: self.applier.matches(way, found, entry))

    def differing(self, entry: Entry, *, is_way: bool = False) -> tuple[str, ...]:
        """Return the parts in which what is under the entry's name differs from it, contents left aside; empty if nothing
        is there or nothing differs. Of a directory that we may not read, only what its stat tells."""
        found = self.stat(entry.name)
        if found is None:
            return ()
        if found.st_mode >> 12 != entry.type:
            return ("type",)
        link = entry.type == FileType.SYMLINK
        target = link and os.readlink(entry.name, dir_fd=self.fd) != entry.link_target
        with self._inode(entry) as inode:
            if inode.is_closed and entry.type == FileType.DIRECTORY:
                return self.applier.stat_differing(found, entry)
            parts = inode.reach(lambda way: self.applier.differing(way, found, entry, is_way=is_way))
        return ("target", *parts) if target else parts

    def descend(self, names: Names) -> int:
        """A descriptor of a directory further down that exists; no symlink on the way is followed but the detours."""
        return descend(self.fd, names, self.detours)

    def goes_through(self, names: Names) -> bool:
        """Whether a symbolic link on the way stays, and is gone through. OSError if it stays and is not."""
        if refusal := self.detours.refused.get(names):
            raise OSError(errno.ELOOP, refusal)
        return names in self.detours.ways

    def mend_link(self, names: Names) -> bool:
        """Make a missing symbolic link on the way again, if it is to be gone through. Returns whether it was missing."""
        detour = self.detours.ways[names]
        if not detour.missing:
            return False
        with Folder(self.descend(names[:-1]), self.applier, existed=False) as folder:
            return make_link(folder.fd, names[-1], detour)

    def behind(self, names: Names) -> tuple[int, bytes]:
        """A descriptor of the directory, and the name in it, of a file that a detour leads to. OSError if it is refused."""
        self.goes_through(names)
        detour = self.detours.ways[names]
        with Folder(self.descend(names[:-1]), self.applier, existed=False) as folder:
            return open_behind(folder.fd, names[-1], detour), detour.file

    def _inode(self, entry: Entry) -> Inode:
        return Inode(self.fd, entry)


def temporary_name() -> bytes:
    """Return a name for what is not complete yet; a later restore removes what has such a name."""
    return b".drtool-" + secrets.token_hex(8).encode()


def _open_destination(path: bytes) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return os.open(path, PATH & ~os.O_NOFOLLOW | os.O_DIRECTORY)  # names can be put into it all the same
