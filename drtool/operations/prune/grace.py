"""When forgotten snapshots may go: what this host forgot at once, what others forgot when it has seen it so for the grace.

This host is this state directory: any host may call itself by this one's label.

Invariants
    No clock of another host is read: the grace counts from when this host first saw that a snapshot was forgotten, so that one
    that was forgotten under a wrong date gets all of it. Losing the notes only makes it later.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from drtool.manifest.records import Forgotten
from drtool.model import SnapshotId
from drtool.operations.prune.request import PruneRequest
from drtool.repository import Repository
from drtool.repository.cache import write_atomically
from drtool.repository.forgotten import Own, key_of, own

NOTES = "forgotten-seen"


def first_seen(forgotten: Iterable[Forgotten], seen: Mapping[str, int], now_ns: int) -> dict[str, int]:
    """When this host first saw each of them (ns since 1970 by its own clock); a note from the future counts from now."""
    return {row.snapshot.id.hex(): min(seen.get(row.snapshot.id.hex(), now_ns), now_ns) for row in forgotten}


def due(forgotten: Iterable[Forgotten], request: PruneRequest, seen: Mapping[str, int], mine: Own) -> list[Forgotten]:
    """Return the forgotten snapshots whose objects may go: this host's own at once, others' after the grace."""

    def waited_ns(row: Forgotten) -> int:
        return request.now_ns - seen.get(row.snapshot.id.hex(), request.now_ns)

    return [row for row in forgotten if key_of(row) in mine or waited_ns(row) >= request.forget_grace_ns]


class Grace(Struct, frozen=True):
    """What may go in this run, whatever is forgotten meanwhile by others."""

    request: PruneRequest
    seen: Mapping[str, int]
    mine: Own

    def due(self, forgotten: Iterable[Forgotten]) -> list[Forgotten]:
        return due(forgotten, self.request, self.seen, self.mine)

    def going(self, forgotten: Iterable[Forgotten]) -> frozenset[SnapshotId]:
        return frozenset(row.snapshot.id for row in self.due(forgotten))


def grace_of(repository: Repository, request: PruneRequest) -> Grace:
    """By this host's notes, which a dry run only reads."""
    path = repository.state_dir / NOTES
    seen = first_seen(repository.view.state.forgotten, _read(path), request.now_ns)
    if not request.dry_run:
        write_atomically(path, msgspec.msgpack.encode(seen))
    as_if = {key_of(row) for row in repository.view.state.forgotten if row.snapshot.id in request.as_if_forgotten}
    return Grace(request, seen, own(repository) | as_if)


def _read(path: Path) -> dict[str, int]:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=dict[str, int])
    except (OSError, msgspec.MsgspecError):
        return {}
