"""This host's record of a repository's manifest, as files in its state directory.

`witness` is one MessagePack document. `outstanding/<session>.<counter>` holds changes not yet known to be in the
manifest, and `made/<generation>-<sequence>-…` the newest that are. Files are written under a temporary name and
renamed. The journal of outstanding changes also survives a power failure.

Invariants
    Several processes may share the directory. The witness is merged under a file lock and never moves back.
    A file that cannot be read counts as absent. Losing it loses rollback detection, never backups.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from drtool.manifest.witness import Made, Outstanding, Witness

T = TypeVar("T")

MADE_LIMIT = 64
"""How many of its own confirmed changes a host keeps, to bring them back after a forced recovery."""


class MemoryState:
    """The record in memory, for a host without a state directory, and for tests."""

    def __init__(self) -> None:
        self._witness = Witness()
        self._outstanding: dict[str, Outstanding] = {}
        self._made: dict[str, Made] = {}

    def witness(self) -> Witness:
        return self._witness

    def remember(self, witness: Witness) -> None:
        self._witness = self._witness.merged(witness)

    def journal(self, entry: Outstanding) -> None:
        self._outstanding[entry.name] = entry

    def settle(self, entry: Outstanding, made: Made | None = None) -> None:
        if made is not None:
            self._made[made.name] = made
            for name in sorted(self._made)[:-MADE_LIMIT]:
                del self._made[name]
        self._outstanding.pop(entry.name, None)

    def outstanding(self) -> tuple[Outstanding, ...]:
        return tuple(self._outstanding.values())

    def made(self) -> tuple[Made, ...]:
        return tuple(self._made[name] for name in sorted(self._made))

    def forget_made(self, entry: Made) -> None:
        self._made.pop(entry.name, None)


class DirectoryState:
    """The record in the state directory of one repository on this host."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._journal = directory / "outstanding"
        self._confirmed = directory / "made"
        for journal in (self._journal, self._confirmed):
            journal.mkdir(mode=0o700, parents=True, exist_ok=True)

    def witness(self) -> Witness:
        return _decoded(self._directory / "witness", Witness) or Witness()

    def remember(self, witness: Witness) -> None:
        with self._locked():
            known = self.witness()
            merged = known.merged(witness)
            if merged != known:  # renaming over a file costs a flush on ext4, so not after a read that learned nothing
                _write(self._directory / "witness", merged, sync=False)

    def journal(self, entry: Outstanding) -> None:
        _write(self._journal / entry.name, entry, sync=True)

    def settle(self, entry: Outstanding, made: Made | None = None) -> None:
        if made is not None:
            _write(self._confirmed / made.name, made, sync=False)
            for path in _entries(self._confirmed)[:-MADE_LIMIT]:
                path.unlink(missing_ok=True)
        (self._journal / entry.name).unlink(missing_ok=True)

    def outstanding(self) -> tuple[Outstanding, ...]:
        return tuple(entry for path in _entries(self._journal) if (entry := _decoded(path, Outstanding)) is not None)

    def made(self) -> tuple[Made, ...]:
        return tuple(entry for path in _entries(self._confirmed) if (entry := _decoded(path, Made)) is not None)

    def forget_made(self, entry: Made) -> None:
        (self._confirmed / entry.name).unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class MemoryCache:
    """Pages by name in memory, for a host without a cache directory, and for tests."""

    def __init__(self) -> None:
        self._pages: dict[bytes, bytes] = {}

    def get(self, name: bytes) -> bytes | None:
        return self._pages.get(name)

    def put(self, name: bytes, data: bytes) -> None:
        self._pages[name] = data


def _entries(journal: Path) -> list[Path]:
    return sorted(path for path in journal.iterdir() if not path.name.startswith("."))


def _decoded(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _write(path: Path, document: msgspec.Struct, *, sync: bool) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(msgspec.msgpack.encode(document))
        file.flush()
        if sync:
            os.fsync(file.fileno())
    temporary.replace(path)
    if sync:
        _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
