"""The progress of a backup: how much is read, stored, and left.

Invariants
    The totals are those of the parent snapshot or, without one, of a count of the files by a process of its own.
    Totals that turn out too small are withdrawn, so no backup stays at 100 %.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import msgspec

from drtool.errors import DrtoolError
from drtool.events import Emit, Progress
from drtool.manifest.records import Snapshot
from drtool.operations.backup.request import SourceJob
from drtool.repository.put_meter import PutMeter
from drtool.repository.workers import Channel, WorkerPool
from drtool.sources.filesystem import Rules
from drtool.sources.filesystem.sizing import sizes

INTERVAL_S = 0.1
SLOW_S = 3.0
"""A target that answers no write for so long is named."""


class Amounts(NamedTuple):
    """The figures of one moment."""

    files: int
    read_bytes: int
    added_bytes: int
    item: str = ""


class _Count(msgspec.Struct, frozen=True, array_like=True):
    """The request to count, and the answer."""

    files: int = 0
    size_bytes: int = 0


class FileCount:
    """A process that counts the files of a source while the backup runs. Make it while no thread runs: it forks."""

    def __init__(self, rules: Rules) -> None:
        def serve(channel: Channel[_Count, _Count]) -> None:
            if channel.receive() is not None and (count := _count(rules, channel.has_more)) is not None:
                channel.send(count)

        decoder: msgspec.msgpack.Decoder[_Count] = msgspec.msgpack.Decoder(_Count)
        self._pool: WorkerPool[_Count, _Count] | None = WorkerPool(1, serve, decoder, decoder)
        self._result: _Count | None = None
        for _ in self._pool.submit(_Count()):
            raise AssertionError("the first request of an idle worker waits for nothing")

    def result(self) -> _Count | None:
        """Return the count, or None as long as it takes."""
        if self._pool is not None and self._result is None:
            try:
                self._result = next(self._pool.ready(), None)
            except DrtoolError:  # the process was killed: the backup has no totals, and is complete without them
                self.close()
            if self._result is not None:
                self.close()
        return self._result

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def _count(rules: Rules, is_closed: Callable[[], bool]) -> _Count | None:
    """Count the files. Return None if the backup ended first."""
    files = size_bytes = 0
    for more_files, more_bytes in sizes(rules):
        if is_closed():
            return None
        files, size_bytes = files + more_files, size_bytes + more_bytes
    return _Count(files, size_bytes)


class BackupProgress:
    """Emits the progress of one source, at most every `INTERVAL_S`."""

    def __init__(self, job: SourceJob, meter: PutMeter, emit: Emit) -> None:
        self._source = job.name or ", ".join(map(os.fsdecode, (*job.paths, *job.paths_as_they_are)))
        self._meter, self._emit = meter, emit
        self._totals: _Count | None = None
        self._counting: FileCount | None = None
        self._is_estimate = False
        self._shown_at_s = 0.0

    def expect(self, parent: Snapshot | None, rules: Rules | None) -> None:
        """Take the totals from the parent snapshot, or start to count. `rules` is None if counting is no use."""
        if parent is not None:
            self._totals, self._is_estimate = _Count(parent.counts.files, parent.counts.bytes), True
        elif rules is not None:
            self._counting = FileCount(rules)

    def show(self, amounts: Amounts) -> None:
        totals = self._known_totals(amounts)
        self._emit(
            Progress(
                source=self._source,
                item=amounts.item,
                files=amounts.files,
                total_files=totals.files if totals else None,
                processed_bytes=amounts.read_bytes,
                total_bytes=totals.size_bytes if totals else None,
                added_bytes=amounts.added_bytes,
                stored_bytes=self._meter.stored_bytes(),
                total_is_estimate=totals is not None and self._is_estimate,
                waiting_s=self._meter.waiting_s(SLOW_S),
            )
        )

    def is_due(self) -> bool:
        """Return whether the figures are old, and count them as shown."""
        now_s = time.monotonic()
        if now_s - self._shown_at_s < INTERVAL_S:
            return False
        self._shown_at_s = now_s
        return True

    def close(self) -> None:
        if self._counting is not None:
            with suppress(DrtoolError):
                self._counting.close()

    def _known_totals(self, amounts: Amounts) -> _Count | None:
        totals = self._totals or (self._counting.result() if self._counting is not None else None)
        if totals is None or amounts.files > totals.files or amounts.read_bytes > totals.size_bytes:
            return None
        return totals
