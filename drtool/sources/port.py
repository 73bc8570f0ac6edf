"""What a source is that is more than directories: a few named files whose contents come from anywhere.

    class Stream:                                       # drtool/sources/stream.py
        kind, paths = "stream", (b"/dump.sql",)
        def foresee(self, around: Around) -> Foresight: ...
        def files(self, around: Around) -> Generator[VirtualFile, None, None]: ...

Invariants
    A content is read once, in order, as it arrives: what can come through a pipe is never laid on the disk first.
    Whatever `files` raises, or a content on its way out, ends the backup without a snapshot: half a dump is none. The one
    exception is a file with `failed`, which is left out and reported.
    Closing the iterator undoes what it began: children end with all that they started, staged files are removed.
    `foresee` looks and changes nothing. What could not be backed up now is raised there, too.
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
    """As `io.RawIOBase` has it; a file opened without a buffer is one, and so is `io.BytesIO`."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """How many bytes came: 0 at the end. None: none within a second; the caller sees to other things, and asks again."""
        ...


Opening: TypeAlias = Callable[[], AbstractContextManager[Readable]]
"""Opens a content. Leaving the context raises DrtoolError if the content turned out to be incomplete."""


class Attributes(NamedTuple):
    """What a restore puts back of a file or directory, besides its content."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int | None = None
    """None: when a backup first saw this content."""

    @classmethod
    def own(cls, mode: int) -> "Attributes":
        """This process's, closed to others."""
        return cls(mode, os.geteuid(), os.getegid())

    @classmethod
    def of(cls, found: os.stat_result) -> "Attributes":
        """Those of a file that is there; times are left out, since it is not that file's bytes that are stored."""
        return cls(found.st_mode & 0o7777, found.st_uid, found.st_gid)


@dataclass(frozen=True, kw_only=True)
class VirtualFile:
    """A file in the snapshot that need not be one of this host."""

    path: bytes
    """Absolute, as `virtual_path` makes them."""
    opened: Opening
    attributes: Attributes | None = None
    failed: Callable[[DrtoolError], None] | None = None
    """Called if the content's own program failed; the file is left out and the backup goes on. None: the backup ends."""
    above: Mapping[bytes, Attributes] = field(default_factory=dict)
    """Of directories on the way to it that are more than names, what they are like."""


class Foreseen(NamedTuple):
    """A file that would be stored; its size, where that is known before."""

    path: bytes
    size_bytes: int | None = None


class Foresight(NamedTuple):
    """What a backup would take, found out without taking it."""

    files: tuple[Foreseen, ...]
    facts: tuple[str, ...] = ()
    """For a person: programs and versions, what answered, how large it is."""


@dataclass(frozen=True, kw_only=True)
class Around:
    """What surrounds a capture."""

    state_dir: Path
    """Files that must be staged lie below it: see `drtool.sources.staging`."""
    environ: Mapping[str, str]
    """What programs inherit; without the repository's password."""
    warn: Callable[[str], None]
    problem: Callable[[Problem], None]
    """An item that is missing while the rest is good: the backup is incomplete (3)."""


class Source(Protocol):
    """What can be backed up besides directories and files. Beside it, a job may name directories and files as well."""

    @property
    def kind(self) -> str:
        """As the configuration calls it: `stream`, `sqlite`, `postgresql`, …"""
        ...

    @property
    def paths(self) -> tuple[bytes, ...]:
        """What the snapshot says that it holds; known before anything is captured, and the same from run to run."""
        ...

    @property
    def again(self) -> bool:
        """Whether it can be captured a second time: no for a pipe that somebody else filled."""
        ...

    def foresee(self, around: Around) -> Foresight: ...

    def files(self, around: Around) -> Generator[VirtualFile, None, None]:
        """In any order. Each is read to its end before the next is asked for."""
        ...


def virtual_path(name: str | bytes) -> bytes:
    """`orders/dump.sql` → `/orders/dump.sql`; one slash before it makes no difference. Raises ValueError."""
    raw = os.fsencode(name).removeprefix(b"/")
    parts = raw.split(b"/")
    if any(part in (b"", b".", b"..") for part in parts) or b"\0" in raw:
        raise ValueError("it has an empty part, or `.`, or `..`; write NAME, or FOLDER/NAME")
    if len(raw) > PATH_BYTES_MAX or any(len(part) > PART_BYTES_MAX for part in parts):
        raise ValueError(f"it is longer than file systems take: {PART_BYTES_MAX} bytes a part")
    return b"/" + raw


def from_bytes(path: bytes, text: bytes) -> VirtualFile:
    """A small file whose content is at hand."""
    return VirtualFile(path=path, opened=lambda: io.BytesIO(text))


def from_file(path: bytes, staged: Path, **more: Attributes | Mapping[bytes, Attributes] | None) -> VirtualFile:
    """A file of this host under another name."""

    def opened() -> io.FileIO:
        try:
            return io.FileIO(staged)
        except OSError as error:
            raise DrtoolError(f"{staged} cannot be read: {error.strerror}") from None

    return VirtualFile(path=path, opened=opened, **more)  # type: ignore[arg-type]
