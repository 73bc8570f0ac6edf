"""What became of each item of a restore."""

import os

from drtool.events import Emit, ItemChanged, ItemFailed
from drtool.operations.restore.files import attributes_not_captured, not_captured
from drtool.operations.restore.messages import FilePut
from drtool.operations.restore.request import RestoreError, RestoreRequest
from drtool.trees import Entry, FileType


class Tally:
    """What became of each item. Errors name it by its absolute path in the snapshot, of which `above` is the beginning."""

    def __init__(self, emit: Emit, above: tuple[bytes, ...], request: RestoreRequest) -> None:
        self._emit = emit
        self._above = above
        self._base = os.path.realpath(request.to)
        self._names_items = request.names_items
        self.files = self.bytes = self.written_bytes = self.skipped = self.deleted = self.attributes_not_set = 0
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
            self.changed((*names, entry.name), put.change, put.what)
            self._attributes((*names, entry.name), entry, put.problems)

    def directory_ended(self, names: tuple[bytes, ...], entry: Entry, problems: list[str]) -> None:
        """A directory has its own attributes now, but for what `problems` name."""
        if missing := not_captured(entry):
            self.failed(names, "; ".join([missing, *problems]))
        else:
            self._attributes(names, entry, problems)

    def imperfect(self, names: tuple[bytes, ...], problems: list[str]) -> None:
        """The item is there, but for the attributes that `problems` name."""
        if problems:
            self.attributes_not_set += len(problems)
            self.failed(names, "; ".join(problems), restored=True)

    def _attributes(self, names: tuple[bytes, ...], entry: Entry, problems: list[str]) -> None:
        self.imperfect(names, problems)
        if entry.uncaptured:
            missing = attributes_not_captured(entry)
            self.attributes_not_set += len(missing)
            self.failed(names, "; ".join(missing), restored=True, captured=False)

    def changed(self, names: tuple[bytes, ...], change: str, what: tuple[str, ...] = ()) -> None:
        """An item at the destination is new, or differs from what was there; nothing changed if `change` is empty."""
        if change and self._names_items:
            self._emit(ItemChanged.of(os.path.join(self._base, *names), change, what))

    def removed(self, path: bytes) -> None:
        """A name at the destination is no more."""
        self._emit(ItemChanged.of(path, "removed"))

    def failed(self, names: tuple[bytes, ...], message: str, *, restored: bool = False, captured: bool = True) -> None:
        path = os.fsdecode(b"/" + b"/".join((*self._above, *names)))
        self.errors.append(RestoreError(path, message, restored, captured))
        self._emit(ItemFailed(path=path, message=message))
