"""What became of each item of a restore."""

import os

from drtool.events import Emit, ItemFailed
from drtool.operations.restore.files import attributes_not_captured
from drtool.operations.restore.messages import FilePut
from drtool.operations.restore.request import RestoreError
from drtool.trees import Entry, FileType


class Tally:
    """What became of each item. Errors name it by its absolute path in the snapshot, of which `above` is the beginning."""

    def __init__(self, emit: Emit, above: tuple[bytes, ...]) -> None:
        self._emit = emit
        self._above = above
        self.files = self.bytes = self.written_bytes = self.skipped = self.deleted = 0
        self.full = False
        """There was no room for something: nothing more can be restored."""
        self.errors: list[RestoreError] = []

    def ended(self, names: tuple[bytes, ...], entry: Entry, put: FilePut) -> None:
        """One name that is no directory."""
        self.written_bytes += put.written_bytes
        if put.full:
            self.full = True
        elif put.error:
            self.failed((*names, entry.name), put.error)
        elif put.skipped:
            self.skipped += 1
        else:
            self.files += 1
            self.bytes += entry.size_bytes if entry.type == FileType.FILE else 0
            self.imperfect((*names, entry.name), [*attributes_not_captured(entry), *put.problems])

    def imperfect(self, names: tuple[bytes, ...], problems: list[str]) -> None:
        if problems:
            self.failed(names, "; ".join(problems))

    def failed(self, names: tuple[bytes, ...], message: str) -> None:
        path = os.fsdecode(b"/" + b"/".join((*self._above, *names)))
        self.errors.append(RestoreError(path, message))
        self._emit(ItemFailed(path=path, message=message))
