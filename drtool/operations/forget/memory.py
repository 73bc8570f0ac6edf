"""The change up to which this host has judged each group of snapshots. It distinguishes new snapshots from old ones.

A file in the state directory. Without it nothing counts as new, so the next run gives no alarm, which does no harm.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from drtool.repository import Repository
from drtool.repository.cache import write_atomically

GROUPS_MAX = 4096


class Memory:
    """The record of judged groups. `scope` separates runs that consider only a part of each group."""

    def __init__(self, repository: Repository, scope: str) -> None:
        self._path: Path = repository.spec.state_dir / "repositories" / repository.id.hex() / "forget"
        self._scope = scope

    def known(self, group: str) -> int | None:
        """Return the last change that was judged for a group, or None if none is known."""
        return self._read().get(self._key(group))

    def remember(self, groups: Iterable[str], sequence: int) -> None:
        known = self._read() | {self._key(group): sequence for group in groups}
        newest = sorted(known.items(), key=lambda item: item[1])[-GROUPS_MAX:]
        with suppress(OSError):  # a full disk: the next run gives no alarm, and this one is complete
            write_atomically(self._path, msgspec.json.encode(dict(newest)))

    def _key(self, group: str) -> str:
        return f"{group} {self._scope}".encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").rstrip()

    def _read(self) -> dict[str, int]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, int])
        except (OSError, msgspec.MsgspecError):
            return {}
