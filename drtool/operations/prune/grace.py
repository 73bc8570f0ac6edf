"""When the data of forgotten snapshots may go: at once for this host's own, and after the grace for those of other
hosts.

A host is identified by its state directory, since any host may use this one's label.

Invariants
    The grace counts from the time at which this host first saw that a snapshot was forgotten, and no other host's clock
    is read. So a snapshot forgotten under a wrong date gets the whole grace. Losing the notes only makes it longer.
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
    """Return when this host first saw each of them (ns since 1970, own clock). A time in the future counts as now."""
    return {row.snapshot.id.hex(): min(seen.get(row.snapshot.id.hex(), now_ns), now_ns) for row in forgotten}


def due(forgotten: Iterable[Forgotten], request: PruneRequest, seen: Mapping[str, int], mine: Own) -> list[Forgotten]:
    """Return the forgotten snapshots whose objects may go: this host's own at once, others' after the grace."""

    def waited_ns(row: Forgotten) -> int:
        return request.now_ns - seen.get(row.snapshot.id.hex(), request.now_ns)

    return [row for row in forgotten if key_of(row) in mine or waited_ns(row) >= request.forget_grace_ns]


class Grace(Struct, frozen=True):
    """What may go in this run, regardless of what others forget meanwhile."""

    request: PruneRequest
    seen: Mapping[str, int]
    mine: Own

    def due(self, forgotten: Iterable[Forgotten]) -> list[Forgotten]:
        return due(forgotten, self.request, self.seen, self.mine)

    def going(self, forgotten: Iterable[Forgotten]) -> frozenset[SnapshotId]:
        return frozenset(row.snapshot.id for row in self.due(forgotten))


def grace_of(repository: Repository, request: PruneRequest) -> Grace:
    """Return the grace, from this host's notes. A dry run only reads them."""
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
