"""A target that is a directory on this host.

Invariants
    The root is opened once, and every access is relative to that descriptor. Nothing is acknowledged unless the path still
    leads to the same (device, inode): an unmounted or replaced root is offline, and is never silently filled or recreated.
    `open` creates nothing; only `create` makes a root. Symbolic links below the root are not followed.
"""

import errno
import os
import stat as modes
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from drtool.errors import ObjectMissing, StoreError, TargetOffline, TargetUnanswered
from drtool.model import ObjectInfo
from drtool.stores import durable
from drtool.stores.medium import meaning, translated
from drtool.stores.names import TEMPORARY_PREFIX, check_name, is_object_name, may_hold
from drtool.stores.ports import Buffer, Mode, Tagged, tag_of
from drtool.stores.voting import VoteVerdict, file_system_of, verdict

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK, because opening a named pipe in an object's place would otherwise block for ever
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_UNSYNCABLE = frozenset({errno.EROFS, errno.EACCES})

TAGGED_BYTES_MAX = 4 << 20
"""The limit for tagged reads. A register's record has at most 1 MiB, so a larger file cannot fill the memory."""


class LocalStore:
    """Objects as files below one directory, and a voter's register in chain mode."""

    def __init__(self, root: Path, descriptor: int) -> None:
        """Take over an open descriptor of `root`. Use `open` or `create` instead."""
        self.root = root
        self._root = descriptor
        self._identity = _identity(os.fstat(descriptor))
        self._durable_directories = {""}

    @classmethod
    def open(cls, root: Path) -> "LocalStore":
        """Open the target at `root`. Raises TargetOffline if there is no such directory."""
        try:
            return cls(root, os.open(root, _DIRECTORY))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise TargetOffline(
                f"there is no directory {root}", hint="mount it; only `init`, `target add` and `site add` create one"
            ) from error
        except OSError as error:
            raise meaning(error, str(root), writing=False) from error

    @classmethod
    def create(cls, root: Path) -> "LocalStore":
        """Create the directory `root` (mode 0700) and its missing parents durably, or open an existing one."""
        with translated(str(root), writing=True):
            _make_durably(root)
        return cls.open(root)

    def names(self) -> Sequence[str]:
        """Return the names in the root, except for our temporary files."""
        self._check_root()
        with translated(str(self.root), writing=False):
            return sorted(name for name in os.listdir(self._root) if not name.startswith(TEMPORARY_PREFIX))

    def can_vote(self) -> bool:
        """Return whether this may hold a voter's register without confirmation by the user."""
        return self.vote_verdict().can_vote

    def vote_verdict(self) -> VoteVerdict:
        """Return the same with the file system's name and the reason."""
        self._check_root()
        with translated(str(self.root), writing=False):
            return verdict(file_system_of(self._root))

    @property
    def mode(self) -> Mode:
        return "chain"

    def put(self, name: str, data: Buffer) -> None:
        self._write(name, data, replace=True)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        return self._write(name, data, replace=False)

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None:
        raise StoreError(f"{self.root} is a directory and has no compare and swap; its registers are chains")

    def read_tagged(self, name: str) -> Tagged | None:
        try:
            data = self.get(name, 0, TAGGED_BYTES_MAX + 1)
        except ObjectMissing:
            return None
        if len(data) > TAGGED_BYTES_MAX:
            raise StoreError(f"{self._where(name)} is larger than a register's record can be, so it is not read")
        self._sync_for_reading(name)
        return Tagged(data=data, tag=tag_of(data))

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        check_name(name)
        self._check_root()
        with translated(self._where(name), writing=False):
            descriptor = self._open_object(name)
            try:
                return _span(descriptor, start, length)
            finally:
                os.close(descriptor)

    def stat(self, name: str) -> int:
        check_name(name)
        self._check_root()
        with translated(self._where(name), writing=False):
            try:
                status = os.stat(name, dir_fd=self._root, follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                raise self._missing(name) from None
        if modes.S_ISREG(status.st_mode):
            return status.st_size
        raise self._missing(name)

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        self._check_root()
        with translated(str(self.root), writing=False):
            yield from self._below("", prefix, start_after)
        self._check_root()

    def delete(self, name: str) -> None:
        check_name(name)
        self._check_root()
        parent, _, base = name.rpartition("/")
        with translated(self._where(name), writing=True):
            try:
                directory = self._open_directory(parent)
            except (FileNotFoundError, NotADirectoryError):
                return
            try:
                _unlink_if_there(directory, base)
                durable.sync_directory(directory)
            finally:
                os.close(directory)
        self._check_root(TargetUnanswered)

    def free_bytes(self) -> int | None:
        self._check_root()
        with translated(str(self.root), writing=False):
            room = os.fstatvfs(self._root)
        return room.f_bavail * room.f_frsize

    def try_room(self, size_bytes: int) -> None:
        """Claim the room and release it: a quota may refuse space that `free_bytes` reports as free."""
        if not self.can_vote() or not hasattr(os, "posix_fallocate"):
            return  # on other file systems the call may write every block over a network
        with translated(str(self.root), writing=True):
            directory = self._open_directory("")
            try:
                durable.claim_room(directory, size_bytes)
            finally:
                os.close(directory)

    def sweep(self, directories: Sequence[str], older_than_s: float) -> int:
        self._check_root()
        with translated(str(self.root), writing=True):
            return sum(self._swept(path, time.time() - older_than_s) for path in directories)

    def close(self) -> None:
        descriptor, self._root = self._root, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _write(self, name: str, data: Buffer, *, replace: bool) -> bool:
        check_name(name)
        self._check_root()
        parent, _, base = name.rpartition("/")
        with translated(self._where(name), writing=True):
            directory = self._ready_directory(parent)
            try:
                if replace:
                    durable.replace(directory, base, data)
                    created = True
                else:
                    created = durable.create(directory, base, data)
            except FileNotFoundError:  # the directory was removed concurrently
                self._durable_directories = {""}
                self._check_root()
                raise
            finally:
                os.close(directory)
        self._check_root(TargetUnanswered)
        return created

    def _ready_directory(self, path: str) -> int:
        """Return an open descriptor of the directory `path`, creating it if necessary, with a durable name."""
        if path in self._durable_directories:
            try:
                return self._open_directory(path)
            except FileNotFoundError:
                self._durable_directories = {""}
                self._check_root()
        above, _, base = path.rpartition("/")
        parent = self._ready_directory(above)
        try:
            try:
                os.mkdir(base, 0o700, dir_fd=parent)
            except FileExistsError:
                pass  # its creator may not have synced it yet, so it is synced here anyway
            durable.sync_directory(parent)
        finally:
            os.close(parent)
        self._durable_directories.add(path)
        return self._open_directory(path)

    def _open_directory(self, path: str) -> int:
        return os.open(path or ".", _DIRECTORY | os.O_NOFOLLOW, dir_fd=self._root)

    def _open_object(self, name: str) -> int:
        try:
            descriptor = os.open(name, _READ, dir_fd=self._root)
        except (FileNotFoundError, NotADirectoryError):
            raise self._missing(name) from None
        if modes.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise self._missing(name)

    def _sync_for_reading(self, name: str) -> None:
        """Make a record durable before it is trusted, because its writer may have died between link and fsync."""
        with translated(self._where(name), writing=False):
            directory = self._open_directory(name.rpartition("/")[0])
            try:
                durable.sync_directory(directory)
            except OSError as error:
                if error.errno not in _UNSYNCABLE:
                    raise
            finally:
                os.close(directory)

    def _below(self, directory: str, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """Yield objects below a directory. Memory is bounded by the names of the directories on one path down."""
        for base, is_directory in self._entries(directory):
            path = directory + base
            if is_directory:
                if may_hold(path, prefix, start_after):
                    yield from self._below(path, prefix, start_after)
            elif path.startswith(prefix) and path > start_after:
                size_bytes = self._size_of(path)
                if size_bytes is not None:
                    yield ObjectInfo(path, size_bytes)

    def _entries(self, directory: str) -> Sequence[tuple[str, bool]]:
        """Return the files and directories of one directory. Directories end in `/`, so that they sort like their contents."""
        try:
            descriptor = self._open_directory(directory.rstrip("/"))
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            with os.scandir(descriptor) as entries:
                found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        finally:
            os.close(descriptor)
        return sorted((name + "/" * is_directory, is_directory) for name, is_directory in found if is_object_name(name))

    def _swept(self, path: str, before_s: float) -> int:
        """Remove old temporary files of a directory, by its own clock. Vanished names belonged to live writers."""
        try:
            directory = self._open_directory(path)
        except (FileNotFoundError, NotADirectoryError):
            return 0
        removed = 0
        try:
            for name in os.listdir(directory):
                if name.startswith(TEMPORARY_PREFIX) and durable.remove_if_old(directory, name, before_s):
                    removed += 1
        finally:
            os.close(directory)
        return removed

    def _size_of(self, path: str) -> int | None:
        try:
            status = os.stat(path, dir_fd=self._root, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_size if modes.S_ISREG(status.st_mode) else None

    def _check_root(self, otherwise: type[TargetOffline] = TargetOffline) -> None:
        """Check that the root is still in place. After a write, `otherwise` is raised because the data may be on a lost disk."""
        if self._root < 0:
            raise StoreError(f"{self.root} is closed")
        try:
            now = _identity(os.stat(self.root))
        except (FileNotFoundError, NotADirectoryError):
            now = None
        except OSError as error:
            raise meaning(error, str(self.root), writing=False) from error
        if now != self._identity:
            raise otherwise(
                f"{self.root}: the root was replaced or unmounted",
                hint="mount it again; writes in the meantime were not acknowledged",
            )

    def _missing(self, name: str) -> ObjectMissing:
        return ObjectMissing(f"{self._where(name)} does not exist")

    def _where(self, name: str) -> str:
        return f"{self.root}/{name}"


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _make_durably(directory: Path) -> None:
    if directory.is_dir():
        return
    _make_durably(directory.parent)
    try:
        directory.mkdir(0o700)
    except FileExistsError:
        pass
    descriptor = os.open(directory.parent, _DIRECTORY)
    try:
        durable.sync_directory(descriptor)
    finally:
        os.close(descriptor)


def _unlink_if_there(directory: int, base: str) -> None:
    try:
        os.unlink(base, dir_fd=directory)
    except FileNotFoundError:
        pass


def _span(descriptor: int, start: int, length: int | None) -> bytes:
    """Return `length` bytes from `start`, or as many as there are."""
    size_bytes = os.fstat(descriptor).st_size
    end = size_bytes if length is None else min(size_bytes, start + length)
    pieces: list[bytes] = []
    while start < end:
        piece = os.pread(descriptor, end - start, start)
        if not piece:
            break
        pieces.append(piece)
        start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
