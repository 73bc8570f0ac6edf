"""The directory `faults/`: one file per overlay, and next to it a list of the objects whose corruption has ended.

    <id>.json     the overlay, which is undone by deleting it
    <id>.ended    names of objects that were stored again since, one a line, without meaning if the overlay is gone
    STOP          the kill switch: while it exists, nothing is in force and nothing is injected

Invariants
    A file appears whole and durably, or not at all. Only `write` creates one, so a deleted file stays deleted.
    A file that does not parse, or belongs to another user, is never in force and never stops a command.
    No access follows a symbolic link, blocks on a pipe or reads without a limit.
"""

import fcntl
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from drtool.repository.overlays.record import OVER, OverlayRecord, State, decode, encode
from drtool.repository.processes import boot_time_s
from drtool.stores import durable
from drtool.stores.names import TEMPORARY_PREFIX

FAULTS = "faults"
STOP = "STOP"
FILE_BYTES_MAX = 16 << 20
_RECORD, _ENDED = ".json", ".ended"
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class BadFile(Struct, frozen=True, kw_only=True):
    """A file in the directory that is not one of our overlays."""

    name: str
    reason: str


class Shelf(Struct, frozen=True, kw_only=True):
    """The contents of the directory, sorted by name."""

    records: tuple[OverlayRecord, ...] = ()
    bad: tuple[BadFile, ...] = ()


class Dropped(Struct, frozen=True, kw_only=True):
    """An overlay that was over."""

    record: OverlayRecord
    state: State


class Swept(Struct, frozen=True, kw_only=True):
    """The overlays that a sweep removed, the files that it could not remove, and those that it did not understand."""

    dropped: tuple[Dropped, ...] = ()
    left: tuple[BadFile, ...] = ()
    bad: tuple[BadFile, ...] = ()


class OverlayFiles:
    """The overlays of one state directory."""

    def __init__(self, state_dir: Path) -> None:
        self.directory = state_dir / FAULTS

    @property
    def stop_path(self) -> Path:
        return self.directory / STOP

    def stopped(self) -> bool:
        """Return whether the kill switch is on."""
        return os.path.lexists(self.stop_path)

    def write(self, record: OverlayRecord) -> None:
        """Put an overlay in force, durably."""
        if not _ID.fullmatch(record.id):
            raise ValueError(f"not an overlay's id: {record.id!r}")
        self.directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _opened(self.directory.parent) as above:
            _lock(above, fcntl.LOCK_SH)
            self.directory.mkdir(mode=0o700, exist_ok=True)
            with _opened(self.directory) as directory:
                durable.replace(directory, record.id + _RECORD, encode(record))
            durable.sync_directory(above)

    def remove(self, record_id: str) -> None:
        """End an overlay. An already deleted one is a success. Raises OSError."""
        self.remove_files(record_id + _RECORD, record_id + _ENDED)

    def remove_files(self, *names: str) -> None:
        """Remove files of any type, in order, and the directory with the last of them. Raises OSError."""
        with suppress(FileNotFoundError), _opened(self.directory) as directory:
            for name in names:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=directory)
            durable.sync_directory(directory)
        self.tidy()

    def end_object(self, record_id: str, name: str) -> None:
        """Record that an object was stored again. An overlay that is gone needs no record."""
        with suppress(FileNotFoundError), _opened(self.directory) as directory:
            os.stat(record_id + _RECORD, dir_fd=directory)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(record_id + _ENDED, flags, 0o600, dir_fd=directory)
            try:
                os.write(descriptor, f"\n{name}\n".encode())  # starts a new line after a possibly torn one
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            durable.sync_directory(directory)

    def signature(self) -> tuple[tuple[str, int, int], ...]:
        """Return a value that changes whenever the directory does, without a clock. Empty if there is no directory."""
        rows = []
        with suppress(OSError), os.scandir(self.directory) as entries:
            for entry in entries:
                with suppress(OSError):  # gone since
                    status = entry.stat(follow_symlinks=False)
                    rows.append((entry.name, status.st_ino, status.st_size))
        return tuple(sorted(rows))

    def read(self) -> Shelf:
        """Return the contents. Objects whose corruption has ended are not in an overlay's objects any more."""
        records, bad = [], []
        for name in self._names():
            try:
                record = self._record(name)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, msgspec.MsgspecError) as error:
                bad.append(BadFile(name=name, reason=_reason(error)))
            else:
                records.append(record)
        return Shelf(records=tuple(records), bad=tuple(bad))

    def _names(self) -> Sequence[str]:
        """Return the files that are, or should be, overlays."""
        try:
            found = os.listdir(self.directory)
        except OSError:
            return ()
        records = {name.removesuffix(_RECORD) for name in found if name.endswith(_RECORD)}
        known = {STOP} | {name + ending for name in records for ending in (_RECORD, _ENDED)}
        stray = (name for name in found if name not in known and not name.startswith(".") and not name.endswith(_ENDED))
        return sorted((*(name + _RECORD for name in records), *stray))

    def _record(self, name: str) -> OverlayRecord:
        with _opened(self.directory) as directory:
            record_id = name.removesuffix(_RECORD)
            if record_id == name or not _ID.fullmatch(record_id):
                raise ValueError("its name is not that of an overlay")
            record = decode(_content(directory, name))
            if record.id != record_id:
                raise ValueError(f"it says that it is {record.id}")
            problem = record.problem(boot_time_s())
            if problem:
                raise ValueError(problem)
            try:
                ended = _content(directory, record_id + _ENDED).decode(errors="replace").splitlines()
            except FileNotFoundError:
                return record
        return replace(record, objects=tuple(each for each in record.objects if each not in ended)) if ended else record

    def sweep(self) -> Swept:
        """Remove the overlays that are over."""
        if not os.path.lexists(self.directory):
            return Swept()
        self.tidy()
        shelf, now_s, stopped = self.read(), boot_time_s(), self.stopped()
        states = [(record, record.state(now_s, stopped=stopped)) for record in shelf.records]
        dropped, left = [], []
        for record, state in states:
            if state not in OVER:
                continue
            try:
                self.remove(record.id)
            except OSError as error:
                left.append(BadFile(name=record.id + _RECORD, reason=_reason(error)))
            else:
                dropped.append(Dropped(record=record, state=state))
        elsewhere = tuple(
            BadFile(name=record.id + _RECORD, reason="it belongs to another machine")
            for record, state in states
            if state == "elsewhere"
        )
        return Swept(dropped=tuple(dropped), left=tuple(left), bad=(*shelf.bad, *elsewhere))

    def tidy(self) -> None:
        """Remove the leftovers of a process that was killed between two steps, and the directory if it is then empty.

        Not while a writer is active, since its unfinished files are not leftovers.
        """
        with (
            suppress(OSError),
            _opened(self.directory.parent) as above,
        ):  # leftovers have no effect, and the next call tries again
            _lock(above, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = set(os.listdir(self.directory))
            for name in found:
                stray = name.endswith(_ENDED) and name.removesuffix(_ENDED) + _RECORD not in found
                if stray or name.startswith(TEMPORARY_PREFIX):
                    os.unlink(self.directory / name)
            self.directory.rmdir()


def _lock(directory: int, how: int) -> None:
    """Lock the directory until it is closed. BlockingIOError if another process holds the lock."""
    try:
        fcntl.flock(directory, how)
    except BlockingIOError:
        raise
    except OSError:
        if how & fcntl.LOCK_EX:  # without locks it is unknown whether a writer is active
            raise


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, _DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _content(directory: int, name: str) -> bytes:
    descriptor = os.open(name, _READ, dir_fd=directory)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a plain file")
        if status.st_uid not in (0, os.geteuid()):
            raise ValueError(f"it belongs to user {status.st_uid}")
        if status.st_size > FILE_BYTES_MAX:
            raise ValueError("it is too large")
        return file.read(FILE_BYTES_MAX)


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
