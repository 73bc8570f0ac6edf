"""Where a file is cut: FastCDC 2020 with normalised masks (level 2), gear table of seed 0.

Invariants
    The cuts depend on the bytes alone, and far from an edit they stay where they were.
    A text is cut the same however it is handed over: whole, or piece by piece with `final=False`.
    The cuts are specified by golden vectors (tests/packing), not by a library: a library that cuts otherwise is refused.

Source: Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems", IEEE TPDS 2020.
"""

from typing import Final, NamedTuple

import pyfastcdc

from drtool.errors import DrtoolError
from drtool.model import Buffer

NORMALISATION_LEVEL: Final = 2
GEAR_SEED = 0


class CutBounds(NamedTuple):
    """Sizes of a chunk in bytes. The average is chosen at `init` and recorded; minimum and maximum follow from it."""

    average_bytes: int = 512 * 1024

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
        self.bounds = bounds
        self._fastcdc = pyfastcdc.FastCDC(
            bounds.average_bytes,
            min_size=bounds.minimum_bytes,
            max_size=bounds.maximum_bytes,
            normalized_chunking=NORMALISATION_LEVEL,
            seed=GEAR_SEED,
        )

    def lengths(self, text: Buffer, *, final: bool) -> list[int]:
        """The chunks' lengths, in order. Unless `final`, what the last cut depends on more bytes for is left out."""
        if final and len(text) <= self.bounds.minimum_bytes:
            return [len(text)] if text else []
        lengths = [chunk.length for chunk in self._fastcdc.cut_buf(text)]
        # the end of the buffer cuts too, wherever it falls; only a chunk of the maximum length is sure to end there
        if not final and lengths and lengths[-1] < self.bounds.maximum_bytes:
            lengths.pop()
        return lengths
