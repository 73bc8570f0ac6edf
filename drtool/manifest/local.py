"""What this host remembers of a repository's manifest, as files in its state directory.

`witness` is one MessagePack document; `outstanding/<session>.<counter>` is one per change that is not yet known to be
in the manifest. Written to a temporary name and renamed; the journal also survives a power failure.

Invariants
    Several processes may share the directory: the witness is merged under a file lock and never moves back.
    A file that cannot be read counts as absent: losing it loses rollback detection, never backups.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from drtool.manifest.witness import Outstanding, Witness

T = TypeVar("T")


class MemoryState:
    """For a host without a state directory, and for tests."""

    def __init__(self) -> None:
        self._witness = Witness()
        self._outstanding: dict[str, Outstanding] = {}

    def witness(self) -> Witness:
        return self._witness

    def remember(self, witness: Witness) -> None:
        self._witness = self._witness.merged(witness)

    def journal(self, entry: Outstanding) -> None:
        self._outstanding[entry.name] = entry

    def settle(self, entry: Outstanding) -> None:
        self._outstanding.pop(entry.name, None)

    def outstanding(self) -> tuple[Outstanding, ...]:
        return tuple(self._outstanding.values())


class DirectoryState:
    """The state directory of one repository on this host."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._journal = directory / "outstanding"
        self._journal.mkdir(mode=0o700, parents=True, exist_ok=True)

    def witness(self) -> Witness:
        return _decoded(self._directory / "witness", Witness) or Witness()

    def remember(self, witness: Witness) -> None:
        with self._locked():
            known = self.witness()
            merged = known.merged(witness)
            if merged != known:  # renaming over a file costs a flush on ext4: not for a read that learned nothing
                _write(self._directory / "witness", merged, sync=False)

    def journal(self, entry: Outstanding) -> None:
        _write(self._journal / entry.name, entry, sync=True)

    def settle(self, entry: Outstanding) -> None:
        (self._journal / entry.name).unlink(missing_ok=True)

    def outstanding(self) -> tuple[Outstanding, ...]:
        names = sorted(path for path in self._journal.iterdir() if not path.name.startswith("."))
        return tuple(entry for path in names if (entry := _decoded(path, Outstanding)) is not None)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class MemoryCache:
    """Pages by name, for a host without a cache directory, and for tests."""

    def __init__(self) -> None:
        self._pages: dict[bytes, bytes] = {}

    def get(self, name: bytes) -> bytes | None:
        return self._pages.get(name)

    def put(self, name: bytes, data: bytes) -> None:
        self._pages[name] = data


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
