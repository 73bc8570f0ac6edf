"""Where a file is cut: FastCDC 2020 with normalised masks (level 2), over a gear table that a repository's key may vary.

Invariants
    The cuts depend on the bytes and the seed alone, and far from an edit they stay where they were.
    A text is cut the same however it is handed over: whole, or piece by piece with `final=False`.
    The cuts are specified by docs/format.md and golden vectors (tests/golden), not by a library: one that cuts otherwise is
    refused when it is first used.

Source: Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems", IEEE TPDS 2020.
"""

from functools import cache
from typing import Final, NamedTuple

import pyfastcdc
from blake3 import blake3

from drtool.errors import DrtoolError, FormatError
from drtool.model import Buffer

NORMALISATION_LEVEL: Final = 2
AVERAGE_BYTES_MIN = 4 * 1024
AVERAGE_BYTES_MAX = 1024 * 1024
_CHECK_TEXT_BYTES = 128 * 1024
_CHECK_AVERAGE_BYTES = 4 * 1024
_CHECK_CUTS = {0: "57e11ec5926367c8", 2**63 - 25: "aff3d541f96f11af"}
"""By seed."""


class CutBounds(NamedTuple):
    """Sizes of a chunk in bytes. The average is chosen at `init` and recorded; minimum and maximum follow from it."""

    average_bytes: int = 512 * 1024
    seed: int = 0
    """Every word of the gear table is XORed with it: 0 where cuts are public, else derived from the master key."""

    @property
    def minimum_bytes(self) -> int:
        return self.average_bytes // 4

    @property
    def maximum_bytes(self) -> int:
        return self.average_bytes * 4


class Cutter:
    """Cuts texts; one per thread."""

    def __init__(self, bounds: CutBounds) -> None:
        if "pyfastcdc.cy" not in pyfastcdc.FastCDC.__module__:
            raise DrtoolError(
                "pyfastcdc was installed without its compiled part and would cut 200 times slower",
                hint="install it from a wheel: pip install --force-reinstall --only-binary=:all: pyfastcdc",
            )
        average = bounds.average_bytes
        if not AVERAGE_BYTES_MIN <= average <= AVERAGE_BYTES_MAX or average.bit_count() != 1:
            raise FormatError(
                f"chunks of {average} bytes on average are not possible: a power of two"
                f" from {AVERAGE_BYTES_MIN} to {AVERAGE_BYTES_MAX} is"
            )
        _check_library()
        self.bounds = bounds
        self._fastcdc = _fastcdc(bounds)

    def lengths(self, text: Buffer, *, final: bool) -> list[int]:
        """The chunks' lengths, in order. Unless `final`, what the last cut depends on more bytes for is left out."""
        if final and len(text) <= self.bounds.minimum_bytes:
            return [len(text)] if text else []
        lengths = [chunk.length for chunk in self._fastcdc.cut_buf(text)]
        # A cut that the bytes make has at least one byte behind it, so the last chunk always ends because the buffer does.
        # More bytes would move that end, unless the chunk has the maximum length.
        if not final and lengths and lengths[-1] < self.bounds.maximum_bytes:
            lengths.pop()
        return lengths

    def zeros_bytes(self) -> int:
        """Return the length of each chunk of a long run of zeros."""
        return self.lengths(bytes(2 * self.bounds.maximum_bytes), final=False)[0]


def _fastcdc(bounds: CutBounds) -> pyfastcdc.FastCDC:
    return pyfastcdc.FastCDC(
        bounds.average_bytes,
        min_size=bounds.minimum_bytes,
        max_size=bounds.maximum_bytes,
        normalized_chunking=NORMALISATION_LEVEL,
        seed=bounds.seed,
    )


@cache
def _check_library() -> None:
    """DrtoolError unless the installed library cuts a fixed text as every repository's chunks were cut; takes 0.6 ms."""
    text = blake3(b"drtool/1/cuts").digest(length=_CHECK_TEXT_BYTES)
    if any(_cuts(text, seed) != expected for seed, expected in _CHECK_CUTS.items()):
        raise DrtoolError(
            "the installed pyfastcdc cuts files otherwise than the repository format says: nothing would deduplicate",
            hint="install a version that the release notes name",
        )


def _cuts(text: bytes, seed: int) -> str:
    lengths = [chunk.length for chunk in _fastcdc(CutBounds(_CHECK_AVERAGE_BYTES, seed)).cut_buf(text)]
    return blake3(b"".join(length.to_bytes(4, "big") for length in lengths)).hexdigest(length=8)
