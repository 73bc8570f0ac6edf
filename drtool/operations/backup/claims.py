"""The chunks that this run has claimed: a table in shared memory, so that two workers rarely store the same chunk.

Invariants
    A claim means that one worker stores the chunk or the whole run fails. A race, a full table or a collision of
    128-bit prefixes that are all zero only stores a chunk twice. Nothing is ever left out because of them.
"""

import mmap

_SLOT_BYTES = 16
_FREE = bytes(_SLOT_BYTES)
_PROBES_MAX = 64


class Claims:
    """Open addressing over 2^`bits` slots. Create it before the fork."""

    def __init__(self, bits: int = 20) -> None:
        self._mask = (1 << bits) - 1
        self._table = mmap.mmap(-1, _SLOT_BYTES << bits)

    def claim(self, chunk: bytes) -> bool:
        """Claim a chunk, and return whether the caller has to store it because it was not claimed before."""
        key = chunk[:_SLOT_BYTES]
        slot = int.from_bytes(chunk[16:20], "big")
        table = self._table
        for probe in range(_PROBES_MAX):
            at = ((slot + probe) & self._mask) * _SLOT_BYTES
            present = table[at : at + _SLOT_BYTES]
            if present == key:
                return False
            if present == _FREE:
                table[at : at + _SLOT_BYTES] = key
                return True
        return True

    def clear(self) -> None:
        """Forget every claim. Only while no worker is active, and after the chunks are in the index."""
        if hasattr(mmap, "MADV_REMOVE"):
            self._table.madvise(mmap.MADV_REMOVE)  # shared pages read as zeros afterwards
        else:
            self._table[:] = bytes(len(self._table))
