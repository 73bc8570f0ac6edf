"""Writing the content of a file, and leaving its holes as they are."""

import os
from collections.abc import Iterator

from drtool.trees import Entry


def write_data(fd: int, entry: Entry, offset: int, data: bytes | memoryview) -> int:
    """Write `data`, which belongs at `offset`, except zeros where the entry has holes; returns how much was written.

    Within a new file of `create_file` that leaves the holes as they were.
    """
    if not entry.holes:
        return _write_all(fd, offset, memoryview(data))
    return sum(
        _write_all(fd, offset + start, memoryview(data)[start:end]) for start, end in _solid(entry, offset, data)
    )


def _solid(entry: Entry, offset: int, data: bytes | memoryview) -> Iterator[tuple[int, int]]:
    """The parts of `data` that must be written, as (start, end) within it."""
    at = 0
    for hole, length in entry.holes:
        start = min(max(hole - offset, at), len(data))
        end = min(max(hole + length - offset, start), len(data))
        # A file that changed while it was backed up may have data where the map of its holes, taken first, has none.
        if end > start and bytes(data[start:end]) == bytes(end - start):
            if start > at:
                yield at, start
            at = end
    if at < len(data):
        yield at, len(data)


def _write_all(fd: int, offset: int, data: memoryview) -> int:
    done = os.pwrite(fd, data, offset)
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)
    return done
