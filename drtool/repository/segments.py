"""Sealing and storing one index segment."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from drtool.crypto import object_name
from drtool.manifest.records import SegmentRef
from drtool.model import SegmentId, segment_object
from drtool.packing import SegmentPack
from drtool.packing.segment import encode_segment
from drtool.repository.writing import Writer

if TYPE_CHECKING:
    from drtool.repository.repository import Repository


def store_segment(
    repository: "Repository", writer: Writer, packs: Sequence[SegmentPack], rows: Iterable[bytes]
) -> SegmentRef | None:
    """Return a durable segment of these packs. `rows` are sorted. None, with nothing stored, if there are no rows."""
    sealed, row_count = encode_segment(repository.keyring, packs, rows)
    if not row_count:
        return None
    segment = SegmentId(object_name(sealed))
    holders = writer.put(segment_object(segment), sealed, repository.metadata_demand(segment))
    return SegmentRef(segment, len(sealed), row_count, len(packs), tuple(holders))
