"""The messages between the backup and its workers."""

import os
from typing import TypeAlias

import msgspec
from msgspec import Struct

from drtool.model import TargetName
from drtool.repository.writing import PackWritten
from drtool.trees import storable_time


class _Message(Struct, frozen=True, array_like=True, tag=True):
    """The base of every message."""


class FileToRead(Struct, frozen=True, array_like=True, gc=False):
    """A file as the scan saw it. `inode` is 0 if inode numbers do not last."""

    name: bytes
    follow: bool
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class DirectoryFiles(Struct, frozen=True, array_like=True, gc=False):
    path: bytes
    inode: int
    files: list[FileToRead]


class ReadFiles(_Message, frozen=True):
    """Read these files whole, and store new chunks."""

    task: int
    directories: list[DirectoryFiles]


class StoreSlot(_Message, frozen=True):
    """Store the chunks of these lengths, which lie one after the other in a shared slot."""

    task: int
    slot: int
    lengths: list[int]


class Flush(_Message, frozen=True):
    """Write the open pack and wait until it is durable."""


class Learn(_Message, frozen=True):
    """A segment in the cache with the chunks stored so far."""

    segment: bytes


Request: TypeAlias = ReadFiles | StoreSlot | Flush | Learn


class NewStat(Struct, frozen=True, array_like=True, gc=False):
    """The stat of a file when it was read, if it differs from the scan's."""

    mode: int
    uid: int
    gid: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int
    links: int

    @classmethod
    def of(cls, found: os.stat_result, size_bytes: int) -> "NewStat":
        """Return the stat. `size_bytes` is what was read, since a growing file is stored as a prefix."""
        return cls(
            found.st_mode & 0o7777,
            found.st_uid,
            found.st_gid,
            size_bytes,
            storable_time(found.st_mtime_ns),
            storable_time(found.st_ctime_ns),
            found.st_ino,
            found.st_dev,
            found.st_nlink,
        )


class FileRead(Struct, frozen=True, array_like=True, gc=False):
    """The result of a read. `too_large`: it has grown so much that it must come in slots, so nothing was read."""

    ids: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    flags: int = 0
    new_stat: NewStat | None = None
    error: str = ""
    gone: bool = False
    too_large: bool = False
    uncaptured: tuple[str, ...] = ()
    """Attributes that could not be read, in words. The content is there."""
    holes: tuple[tuple[int, int], ...] = ()
    """The holes of a file with a new stat in `new_stat`."""
    torn: bool = False
    """It changed during each read, so the content may mix several of its states."""


class FilesRead(_Message, frozen=True):
    task: int
    files: list[FileRead]
    added_bytes: int


class SlotStored(_Message, frozen=True):
    task: int
    slot: int
    ids: bytes
    added_bytes: int


class PackStored(_Message, frozen=True):
    """A durable pack. Not a reply but sent at once, since a worker may be busy for long on a slow connection."""

    pack: PackWritten


class Flushed(_Message, frozen=True):
    """The targets that failed since the worker was forked. `away`: those that may come back."""

    failures: dict[TargetName, str]
    away: list[TargetName] = []
    more: bool = False
    """Whether packs are still in flight. A flush ends when no worker has any."""


class Learned(_Message, frozen=True):
    pass


class WorkerFailed(_Message, frozen=True):
    """The worker cannot continue: the whole backup fails, and durable data stays."""

    message: str
    hint: str | None


Reply: TypeAlias = FilesRead | SlotStored | PackStored | Flushed | Learned | WorkerFailed


def request_decoder() -> "msgspec.msgpack.Decoder[Request]":
    return msgspec.msgpack.Decoder(Request)


def reply_decoder() -> "msgspec.msgpack.Decoder[Reply]":
    return msgspec.msgpack.Decoder(Reply)
