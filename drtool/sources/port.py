"""The port of sources other than directories: a few named files with contents from anywhere.

    class Stream:                                       # drtool/sources/stream.py
        kind, paths = "stream", (b"/dump.sql",)
        def foresee(self, around: Around) -> Foresight: ...
        def files(self, around: Around) -> Generator[VirtualFile, None, None]: ...

Invariants
    A content is read once, in order, as it arrives. A content that can come through a pipe is never written to disk first.
    Any error of `files` or of a content ends the backup without a snapshot, because half a dump is worthless. The one
    exception is a file with `failed`, which is left out and reported.
    Closing the iterator undoes its effects: child processes and their children are ended, and staged files removed.
    `foresee` changes nothing. It raises for anything that could not be backed up now.
"""

import io
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

from drtool.errors import DrtoolError
from drtool.sources.filesystem import Problem

PART_BYTES_MAX = 255
PATH_BYTES_MAX = 4095


class Readable(Protocol):
    """The reading side of `io.RawIOBase`, as in a file opened without a buffer, or `io.BytesIO`."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Return the number of bytes, or 0 at the end, or None if none arrive within a second; the caller then tries again."""
        ...


Opening: TypeAlias = Callable[[], AbstractContextManager[Readable]]
"""Opens a content. Leaving the context raises DrtoolError if the content is incomplete."""


class Attributes(NamedTuple):
    """The attributes of a file or directory that a restore sets."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int | None = None
    """None: when a backup first saw this content."""

    @classmethod
    def own(cls, mode: int) -> "Attributes":
        """Return those of this process, private."""
        return cls(mode, os.geteuid(), os.getegid())

    @classmethod
    def of(cls, found: os.stat_result) -> "Attributes":
        """Return those of an existing file without its times, because the stored bytes are not that file's."""
        return cls(found.st_mode & 0o7777, found.st_uid, found.st_gid)


@dataclass(frozen=True, kw_only=True)
class VirtualFile:
    """A file in the snapshot that need not exist on this host."""

    path: bytes
    """An absolute path, as made by `virtual_path`."""
    opened: Opening
    attributes: Attributes | None = None
    failed: Callable[[DrtoolError], None] | None = None
    """Called if the content's program failed. The file is then left out and the backup continues. None: the backup ends."""
    above: Mapping[bytes, Attributes] = field(default_factory=dict)
    """The attributes of its parent directories, if they have any."""


class Foreseen(NamedTuple):
    """A file that would be stored, with its size if it is known in advance."""

    path: bytes
    size_bytes: int | None = None


class Foresight(NamedTuple):
    """The preview of a capture."""

    files: tuple[Foreseen, ...]
    facts: tuple[str, ...] = ()
    """Facts for the user: programs and versions, the server that answered, its size."""


@dataclass(frozen=True, kw_only=True)
class Around:
    """The environment of a capture."""

    state_dir: Path
    """The parent of staged files; see `drtool.sources.staging`."""
    environ: Mapping[str, str]
    """The environment of child programs, without the repository's password."""
    warn: Callable[[str], None]
    problem: Callable[[Problem], None]
    """Reports an item that is missing while the rest is good: the backup is incomplete (3)."""


class Source(Protocol):
    """A source other than directories and files. A job may name directories and files beside it."""

    @property
    def kind(self) -> str:
        """The kind as in the configuration: `stream`, `sqlite`, `postgresql`, …"""
        ...

    @property
    def paths(self) -> tuple[bytes, ...]:
        """The paths of the snapshot, known before the capture and constant over runs."""
        ...

    @property
    def again(self) -> bool:
        """Whether it can be captured again. A pipe from another process cannot."""
        ...

    def foresee(self, around: Around) -> Foresight: ...

    def files(self, around: Around) -> Generator[VirtualFile, None, None]:
        """Yield files in any order. Each is read to its end before the next one."""
        ...


def virtual_path(name: str | bytes) -> bytes:
    """Convert `orders/dump.sql` to `/orders/dump.sql`. One leading slash makes no difference. Raises ValueError."""
    raw = os.fsencode(name).removeprefix(b"/")
    parts = raw.split(b"/")
    if any(part in (b"", b".", b"..") for part in parts) or b"\0" in raw:
        raise ValueError("it has an empty part, or `.`, or `..`; write NAME or FOLDER/NAME")
    if len(raw) > PATH_BYTES_MAX or any(len(part) > PART_BYTES_MAX for part in parts):
        raise ValueError(f"it is longer than file systems allow: {PART_BYTES_MAX} bytes per part")
    return b"/" + raw


def from_bytes(path: bytes, text: bytes) -> VirtualFile:
    """Return a small file with a known content."""
    return VirtualFile(path=path, opened=lambda: io.BytesIO(text))


def from_file(path: bytes, staged: Path, **more: Attributes | Mapping[bytes, Attributes] | None) -> VirtualFile:
    """Return a file of this host under another name."""

    def opened() -> io.FileIO:
        try:
            return io.FileIO(staged)
        except OSError as error:
            raise DrtoolError(f"{staged} cannot be read: {error.strerror}") from None

    return VirtualFile(path=path, opened=opened, **more)  # type: ignore[arg-type]
