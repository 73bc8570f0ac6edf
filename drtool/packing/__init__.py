"""The step from data to objects: chunks are cut, bundled into sealed blocks, put into packs, and indexed in segments."""

from drtool.packing.bundle import Bundle, lazy_buffer
from drtool.packing.cutting import CutBounds, Cutter
from drtool.packing.pack import (
    BlockRecord,
    PackBuilder,
    PackContents,
    PackKind,
    open_block,
    read_footer,
)
from drtool.packing.segment import Location, SegmentPack, SegmentReader, encode_segment, unseal_segment
from drtool.packing.zeros import ZeroIds

__all__ = [
    "BlockRecord",
    "Bundle",
    "CutBounds",
    "Cutter",
    "Location",
    "PackBuilder",
    "PackContents",
    "PackKind",
    "SegmentPack",
    "SegmentReader",
    "ZeroIds",
    "encode_segment",
    "lazy_buffer",
    "open_block",
    "read_footer",
    "unseal_segment",
]
