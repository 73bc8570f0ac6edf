"""`stats`: the size of the snapshots, of the data stored for them, and of all copies.

Invariants
    Sizes at targets come from listings taken now. A target that cannot be listed is named, and its copies are not
    guessed.
"""

from collections.abc import Sequence

from msgspec import Struct

from drtool.manifest.records import Snapshot
from drtool.model import ChunkId
from drtool.packing import PackKind
from drtool.repository import Repository
from drtool.repository.inventory import take_inventory
from drtool.trees import FileType, read_content, walk


class StatsResult(Struct, frozen=True, kw_only=True):
    """Sizes in bytes. Of chosen snapshots only the first four fields are set.

    `restored_bytes`: all these snapshots, each restored on its own. `unique_bytes`: the distinct chunks of that, before
    compression. `packed_bytes`: one copy of the packs of file contents. `tree_bytes`: one copy of the packs of names
    and attributes. `stored_bytes`: everything at all targets that could be listed.
    """

    snapshots: int
    files: int
    restored_bytes: int
    unique_bytes: int
    packs: int | None = None
    packed_bytes: int | None = None
    tree_bytes: int | None = None
    stored_bytes: int | None = None
    deduplication: float | None = None
    """How often each byte occurs in the snapshots: restored by unique."""
    compression: float | None = None
    """Unique by packed."""
    unlisted: list[str] = []


def stats(repository: Repository) -> StatsResult:
    """Return the figures of everything, from the index and the targets' listings. No snapshot is read."""
    rows = list(repository.view.state.snapshots)
    packs = {pack.pack: pack for pack in repository.index.packs()}.values()
    data = [pack for pack in packs if pack.kind == PackKind.DATA]
    unique_bytes = sum(pack.text_bytes for pack in data)
    packed_bytes = sum(pack.size_bytes for pack in data)
    restored_bytes = sum(row.counts.bytes for row in rows)
    inventory = take_inventory(repository.targets)
    return StatsResult(
        snapshots=len(rows),
        files=sum(row.counts.files for row in rows),
        restored_bytes=restored_bytes,
        unique_bytes=unique_bytes,
        packs=len(packs),
        packed_bytes=packed_bytes,
        tree_bytes=sum(pack.size_bytes for pack in packs if pack.kind == PackKind.TREES),
        stored_bytes=sum(sum(objects.values()) for objects in inventory.objects.values()),
        deduplication=_ratio(restored_bytes, unique_bytes),
        compression=_ratio(unique_bytes, packed_bytes),
        unlisted=sorted(inventory.unlisted),
    )


def stats_of(repository: Repository, snapshots: Sequence[Snapshot]) -> StatsResult:
    """Return the figures of these snapshots by walking them. Shared chunks count once. Needs about 100 bytes a chunk."""
    seen: set[ChunkId] = set()
    unique_bytes = 0
    for snapshot in snapshots:
        for _, entry in walk(snapshot.root, b"/", repository.trees):
            if entry.type == FileType.FILE:
                for chunk in read_content(entry, repository.trees):
                    if chunk not in seen:
                        seen.add(chunk)
                        location = repository.index.locate(chunk)
                        unique_bytes += location.length if location is not None else 0
    restored_bytes = sum(row.counts.bytes for row in snapshots)
    return StatsResult(
        snapshots=len(snapshots),
        files=sum(row.counts.files for row in snapshots),
        restored_bytes=restored_bytes,
        unique_bytes=unique_bytes,
        deduplication=_ratio(restored_bytes, unique_bytes),
    )


def _ratio(of: int, by: int) -> float | None:
    return round(of / by, 3) if by else None
