"""Content-defined chunking: FastCDC 2020 with normalised masks (level 2), and a gear table optionally varied by a key.

Invariants
    The cuts depend only on the bytes and the seed, and far from an edit they do not change.
    A text is cut in the same way whether it arrives whole, or piece by piece with `final=False`.
    The cuts are specified by docs/format.md and golden vectors (tests/golden), not by a library. A library with
    different cuts is refused when it is first used.

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
    """Sizes of a chunk in bytes. The average is chosen at `init` and recorded. Minimum and maximum follow from it."""

    average_bytes: int = 512 * 1024
    seed: int = 0
    """Every word of the gear table is XORed with it. 0 if cuts are public, else derived from the master key."""

    @property
    def minimum_bytes(self) -> int:
        return self.average_bytes // 4

    @property
    def maximum_bytes(self) -> int:
        return self.average_bytes * 4


class Cutter:
    """A chunker, for one thread."""

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
                f" from {AVERAGE_BYTES_MIN} to {AVERAGE_BYTES_MAX} is needed"
            )
        _check_library()
        self.bounds = bounds
        self._fastcdc = _fastcdc(bounds)

    def lengths(self, text: Buffer, *, final: bool) -> list[int]:
        """Return the chunks' lengths, in order. Unless `final`, a last cut that more bytes could move is left out."""
        if final and len(text) <= self.bounds.minimum_bytes:
            return [len(text)] if text else []
        lengths = [chunk.length for chunk in self._fastcdc.cut_buf(text)]
        # A content-defined cut has at least one byte after it, so the last chunk always ends with the buffer.
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
    """Raise DrtoolError unless the installed library cuts a fixed text as the format requires. Takes 0.6 ms."""
    text = blake3(b"drtool/1/cuts").digest(length=_CHECK_TEXT_BYTES)
    if any(_cuts(text, seed) != expected for seed, expected in _CHECK_CUTS.items()):
        raise DrtoolError(
            "the installed pyfastcdc chunks files differently from the repository format, so nothing would deduplicate",
            hint="install a version named in the release notes",
        )


def _cuts(text: bytes, seed: int) -> str:
    lengths = [chunk.length for chunk in _fastcdc(CutBounds(_CHECK_AVERAGE_BYTES, seed)).cut_buf(text)]
    return blake3(b"".join(length.to_bytes(4, "big") for length in lengths)).hexdigest(length=8)
