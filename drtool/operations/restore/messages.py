"""The messages between the restore and its workers. `folder` is a directory below the destination, part by part."""

from typing import TYPE_CHECKING, TypeAlias

import msgspec
from msgspec import Struct

from drtool.operations.restore.request import Overwrite
from drtool.repository.reading import BadCopy
from drtool.trees import Entry, EntryWithAclNames

if TYPE_CHECKING:
    FileEntry: TypeAlias = Entry
else:
    FileEntry = EntryWithAclNames  # decoded from entries of either length


class _Message(Struct, frozen=True, array_like=True, tag=True):
    """The base of every message."""


class FilesOfFolder(Struct, frozen=True, array_like=True, gc=False):
    folder: tuple[bytes, ...]
    files: list[FileEntry]


class PutFiles(_Message, frozen=True):
    """Restore these files whole, content and metadata."""

    task: int
    folders: list[FilesOfFolder]


class PutPart(_Message, frozen=True):
    """Write these chunks consecutively from `offset`, into a large file under its temporary name."""

    task: int
    folder: tuple[bytes, ...]
    name: bytes
    entry: Entry
    offset: int
    ids: bytes


Request: TypeAlias = PutFiles | PutPart


class FilePut(Struct, frozen=True, array_like=True, gc=False):
    """The result of one file. `error`: it was not restored. `problems`: some metadata is missing."""

    written_bytes: int = 0
    skipped: bool = False
    error: str = ""
    problems: list[str] = []
    full: bool = False
    """There was no space for it."""
    change: str = ""
    """`new` or `changed`, or empty if the file stays as it is."""
    what: tuple[str, ...] = ()
    """The parts of a changed file that differed."""


class FilesPut(_Message, frozen=True):
    task: int
    files: list[FilePut]
    damaged: list[BadCopy] = []
    """Copies that this worker found damaged since its last reply."""
    labels_not_set: int = 0
    """Labels of these files that the host refused."""
    times_rounded: int = 0


class PartPut(_Message, frozen=True):
    task: int
    written_bytes: int
    error: str = ""
    full: bool = False
    damaged: list[BadCopy] = []


Reply: TypeAlias = FilesPut | PartPut


def request_decoder() -> "msgspec.msgpack.Decoder[Request]":
    return msgspec.msgpack.Decoder(Request)


def reply_decoder() -> "msgspec.msgpack.Decoder[Reply]":
    return msgspec.msgpack.Decoder(Reply)


__all__ = [
    "FilePut",
    "FilesOfFolder",
    "FilesPut",
    "Overwrite",
    "PartPut",
    "PutFiles",
    "PutPart",
    "Reply",
    "Request",
    "reply_decoder",
    "request_decoder",
]
