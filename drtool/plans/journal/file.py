"""The journal file of one run: JSON lines, each with the digest of the previous line, each durable before it counts.

Invariants
    A line is durable when `append` returns. A line cut off by a crash is dropped; nothing had followed from it.
    A line that was changed, removed or inserted afterwards breaks the chain. The error names the number of the line.
    Only one process writes at a time. A second one is refused.
"""

import fcntl
import os
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from drtool.errors import DrtoolError, FormatError, Refused
from drtool.plans.journal.events import Event

JOURNAL_FILE = "journal.jsonl"
BYTES_MAX = 256 << 20
LINE_BYTES_MAX = 4 << 20
GENESIS = "0" * 64

_encoder = msgspec.json.Encoder()


class Journal:
    """An open journal. Use `create` or `resume`."""

    def __init__(self, path: Path, descriptor: int, events: list[Event], head: str) -> None:
        self.path = path
        self._descriptor = descriptor
        self.events = events
        self.head = head
        """Digest of the last line, which authenticates the whole run."""

    @classmethod
    def create(cls, folder: Path) -> "Journal":
        """Create a journal and its folder, readable by this user only. Raises FileExistsError if there is one already."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / JOURNAL_FILE
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_APPEND, 0o600)
        journal = cls(path, _locked(descriptor, path), [], GENESIS)
        for directory in (folder, folder.parent):
            _sync_directory(directory)
        return journal

    @classmethod
    def resume(cls, folder: Path) -> "Journal":
        """Open an existing journal for appending. An incomplete last line is removed."""
        path = folder / JOURNAL_FILE
        descriptor = _locked(_opened(path, os.O_RDWR | os.O_APPEND), path)
        try:
            events, head, whole_bytes = parse(_read(descriptor, path), path)
            os.ftruncate(descriptor, whole_bytes)
            os.fsync(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor, events, head)

    def append(self, event: Event) -> None:
        """Append an event durably. After an OSError the run must not continue."""
        line = _line(event, self.head)
        if len(line) > LINE_BYTES_MAX:
            raise DrtoolError(
                f"{self.path}: a step's outputs are too large for the journal: a line of {len(line)} bytes"
            )
        _write_all(self._descriptor, line)
        os.fsync(self._descriptor)
        self.events.append(event)
        self.head = sha256(line).hexdigest()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(folder: Path) -> tuple[list[Event], str]:
    """Return the events of a run and its head, even while it is being written. Raises FormatError if the chain is broken."""
    path = folder / JOURNAL_FILE
    descriptor = _opened(path, os.O_RDONLY)
    try:
        events, head, _ = parse(_read(descriptor, path), path)
    finally:
        os.close(descriptor)
    return events, head


def read_damaged(folder: Path) -> tuple[list[Event], str, str]:
    """Return the events vouched for by later lines, the digest at that point, and the problem after it (or an empty string).

    If a line does not match the digest of the previous one, either may have been changed, so neither is returned.
    """
    path = folder / JOURNAL_FILE
    descriptor = _opened(path, os.O_RDONLY)
    try:
        events, head, _, problem = _scan(_read(descriptor, path), path)
    finally:
        os.close(descriptor)
    return events, head, problem.message if problem is not None else ""


def is_written(folder: Path) -> bool:
    """Return whether a process has the journal open for writing."""
    descriptor = _opened(folder / JOURNAL_FILE, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def parse(data: bytes, path: Path) -> tuple[list[Event], str, int]:
    """Return (events, digest of the last line, bytes of whole lines). An incomplete last line does not count."""
    events, head, whole_bytes, problem = _scan(data, path)
    if problem is not None:
        raise problem
    return events, head, whole_bytes


def _scan(data: bytes, path: Path) -> tuple[list[Event], str, int, FormatError | None]:
    """Parse up to the last line before the first broken one, and return the error of that one too."""
    events: list[Event] = []
    head, at = GENESIS, 0
    before = (head, at)
    while (end := data.find(b"\n", at)) >= 0:
        line = data[at : end + 1]
        try:
            events.append(_parsed(line, head, f"{path}:{len(events) + 1}"))
        except FormatError as error:
            return events[:-1], *before, error
        before = (head, at)
        head, at = sha256(line).hexdigest(), end + 1
    return events, head, at, None


def _parsed(line: bytes, head: str, where: str) -> Event:
    try:
        fields = msgspec.json.decode(line, type=dict[str, Any])
        prev = fields.pop("prev", None)
        event: Event = msgspec.convert(fields, Event)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise FormatError(f"{where}: not a line of a journal: {error}") from None
    if prev != head:
        raise FormatError(f"{where}: this line does not match the digest of the previous one: the journal was changed")
    try:
        datetime.fromisoformat(event.at)
    except ValueError:
        raise FormatError(f"{where}: {event.at!r} is not a time") from None
    return event


def _line(event: Event, head: str) -> bytes:
    fields: dict[str, Any] = _writable(msgspec.to_builtins(event))
    return _encoder.encode({"prev": head, **fields}) + b"\n"


def _writable(value: Any) -> Any:  # noqa: ANN401 - any plain value
    """Return a value with non-UTF-8 bytes (in file names and program output) as `\\xff`, because JSON cannot hold them."""
    if isinstance(value, str):
        return (
            value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        )
    if isinstance(value, dict):
        return {_writable(key): _writable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(item) for item in value]
    return value


def _locked(descriptor: int, path: Path) -> int:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Refused(f"run {path.parent.name} is in progress in another process") from None
    return descriptor


def _opened(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise DrtoolError(f"there is no run {path.parent.name}", hint="drtool plan history lists them") from None


def _read(descriptor: int, path: Path) -> bytes:
    size_bytes = os.fstat(descriptor).st_size
    if size_bytes > BYTES_MAX:
        raise FormatError(f"{path}: the journal has {size_bytes} bytes, more than the limit of {BYTES_MAX}")
    parts: list[bytes] = []
    at = 0
    while part := os.pread(descriptor, 1 << 20, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _write_all(descriptor: int, data: bytes) -> None:
    """Write all data. A failed write is undone, so that the next line follows a complete one."""
    before_bytes = os.fstat(descriptor).st_size
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        os.ftruncate(descriptor, before_bytes)
        raise


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
