"""Copies that were found damaged, remembered on this host until somebody reads them whole again.

Invariants
    Only a hint for `repair`, which reads what stands here before it acts; losing the file loses no data.
"""

from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec

from drtool.model import TargetName
from drtool.repository.cache import write_atomically

Copy = tuple[TargetName, str]
"""A target and the name of an object on it."""


class Findings:
    """The file in a repository's state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "damage"
        self._read: frozenset[Copy] | None = None

    def all(self) -> frozenset[Copy]:
        if self._read is None:
            self._read = self._from_file()
        return self._read

    def _from_file(self) -> frozenset[Copy]:
        try:
            return frozenset(msgspec.msgpack.decode(self._path.read_bytes(), type=list[Copy]))
        except (OSError, msgspec.MsgspecError):
            return frozenset()

    def update(self, damaged: Iterable[Copy], sound: Collection[Copy]) -> None:
        """Adds what was found damaged, drops what was read and is whole, or is gone."""
        before = self._from_file()
        after = (before - frozenset(sound)) | frozenset(damaged)
        if after != before:
            write_atomically(self._path, msgspec.msgpack.encode(sorted(after)))
        self._read = after
