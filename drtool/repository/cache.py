"""The cache on this host: unsealed index segments and manifest pages (and, in kept.py, sealed trees). Deleting it loses
nothing.

Invariants
    Every file is checked by hash when it is read. A wrong one is rebuilt, never used.
"""

import mmap
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from drtool.model import SegmentId

TEMPORARY_PREFIX = ".tmp-"
_HASH_BYTES = 32


def write_atomically(path: Path, *parts: bytes) -> None:
    """Replace a private file in one step, without fsync. For data that can be rebuilt."""
    _make_private(path.parent)
    descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _make_private(directory: Path) -> None:
    """Make a private directory with private parents. Path.mkdir gives parents the default permissions."""
    if not directory.is_dir():
        _make_private(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)


class Cache:
    """The cache of one repository, in a directory that may vanish at any time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def trees(self) -> Path:
        """Return the directory of sealed tree blocks (kept.py)."""
        return self._directory / "trees"

    def segment(self, segment: SegmentId, rebuild: Callable[[], bytes]) -> bytes | mmap.mmap:
        """Return the cache form of a segment, mapped. `rebuild` provides it if the file is absent or wrong.

        The file is the form followed by the form's own BLAKE3 (32 bytes).
        """
        path = self._directory / "segments" / segment.hex()
        mapped = _map_checked(path)
        if mapped is not None:
            return mapped
        form = rebuild()
        try:
            write_atomically(path, form, blake3(form).digest())
        except OSError:
            return form  # a full or read-only cache costs time, never a backup
        return _map_checked(path) or form

    def forget_segment(self, segment: SegmentId) -> None:
        with suppress(OSError):
            (self._directory / "segments" / segment.hex()).unlink(missing_ok=True)

    def forget_segments_except(self, live: set[SegmentId]) -> None:
        names = {segment.hex() for segment in live}
        with suppress(OSError):
            for path in (self._directory / "segments").iterdir():
                if path.name not in names and not path.name.startswith(TEMPORARY_PREFIX):
                    path.unlink(missing_ok=True)

    @property
    def pages(self) -> "PageCache":
        return PageCache(self._directory / "manifest")


class PageCache:
    """Sealed, content-addressed manifest objects, named by their hash."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, name: bytes) -> bytes | None:
        try:
            data = (self._directory / name.hex()).read_bytes()
        except OSError:
            return None
        return data if blake3(data).digest() == name else None

    def put(self, name: bytes, data: bytes) -> None:
        with suppress(OSError):  # a full or read-only cache costs time, never a backup
            write_atomically(self._directory / name.hex(), data)


def _map_checked(path: Path) -> mmap.mmap | None:
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # absent, unreadable or empty
        return None
    view = memoryview(mapped)
    intact = len(view) > _HASH_BYTES and blake3(view[:-_HASH_BYTES]).digest() == view[-_HASH_BYTES:]
    view.release()
    if intact:
        return mapped
    mapped.close()
    return None
