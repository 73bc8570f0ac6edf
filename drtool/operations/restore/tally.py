"""The results of a restore, item by item."""

import os

from drtool.events import Emit, ItemChanged, ItemFailed
from drtool.operations.restore.files import attributes_not_captured, not_captured
from drtool.operations.restore.messages import FilePut
from drtool.operations.restore.request import RestoreError, RestoreRequest
from drtool.trees import Entry, FileType


class Tally:
    """The results of all items. Errors name an item by its absolute path in the snapshot, which begins with `above`."""

    def __init__(self, emit: Emit, above: tuple[bytes, ...], request: RestoreRequest) -> None:
        self._emit = emit
        self._above = above
        self._base = os.path.realpath(request.to)
        self._names_items = request.names_items
        self.files = self.bytes = self.written_bytes = self.skipped = self.deleted = self.attributes_not_set = 0
        self.full = False
        """There was no space for an item, so nothing more can be restored."""
        self.errors: list[RestoreError] = []

    def ended(self, names: tuple[bytes, ...], entry: Entry, put: FilePut) -> None:
        """Record the result of one name that is not a directory."""
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
        """Record a directory that has its own attributes now, except for those in `problems`."""
        if missing := not_captured(entry):
            self.failed(names, "; ".join([missing, *problems]))
        else:
            self._attributes(names, entry, problems)

    def imperfect(self, names: tuple[bytes, ...], problems: list[str]) -> None:
        """Record an item that exists, except for the attributes in `problems`."""
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
        """Report an item at the destination that is new or differs from before. An empty `change` means neither."""
        if change and self._names_items:
            self._emit(ItemChanged.of(os.path.join(self._base, *names), change, what))

    def removed(self, path: bytes) -> None:
        """Report a removed name at the destination."""
        self._emit(ItemChanged.of(path, "removed"))

    def path_of(self, names: tuple[bytes, ...]) -> str:
        """Return the absolute path in the snapshot."""
        return os.fsdecode(b"/" + b"/".join((*self._above, *names)))

    def failed(self, names: tuple[bytes, ...], message: str, *, restored: bool = False, captured: bool = True) -> None:
        path = self.path_of(names)
        self.errors.append(RestoreError(path, message, restored, captured))
        self._emit(ItemFailed(path=path, message=message))
