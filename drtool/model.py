"""The names and ids that all packages share, as types that the type checker distinguishes.

Ids are raw bytes inside the program, and hexadecimal wherever a person or another program sees them.
"""

from enum import IntEnum
from typing import Literal, NewType, TypeAlias

import msgspec

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes that are read without copying them. An `mmap` is passed as a memoryview of it."""

SiteName = NewType("SiteName", str)
"""A failure domain: `paris`."""

TargetName = NewType("TargetName", str)
"""`site/name`: `paris/nas`."""

ChunkId = NewType("ChunkId", bytes)
"""BLAKE3 keyed per kind, 32 bytes."""

PackId = NewType("PackId", bytes)
"""BLAKE3 of the pack's bytes, 32 bytes. In hexadecimal, it is the object's name."""

SegmentId = NewType("SegmentId", bytes)
"""BLAKE3 of a sealed index segment's bytes, 32 bytes."""

SnapshotId = NewType("SnapshotId", bytes)
"""16 random bytes."""

SessionId = NewType("SessionId", bytes)
"""16 random bytes: one writer at work on one source."""

RepositoryId = NewType("RepositoryId", bytes)
"""16 random bytes, drawn at `init`."""


FaultKind: TypeAlias = Literal["offline", "slow", "read-only", "full", "corrupt"]
"""The faults that a drill can inject at a target."""


class ChunkKind(IntEnum):
    """The kind of a chunk. Each kind has its own id key, so a tree page never collides with a file of equal bytes."""

    DATA = 1
    TREE = 2
    LIST = 3


class ObjectInfo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row of a target's listing."""

    name: str
    size_bytes: int


def site_of(target: TargetName) -> SiteName:
    """Return the site of a target: `paris` for `paris/nas`."""
    return SiteName(target.partition("/")[0])


def pack_object(pack: PackId) -> str:
    """Return the object name of a pack: `packs/ab/ab…`."""
    name = pack.hex()
    return f"packs/{name[:2]}/{name}"


def segment_object(segment: SegmentId) -> str:
    """Return the object name of an index segment: `index/ab…`."""
    return f"index/{segment.hex()}"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return `1 pack` or `12,345 packs`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
