"""The choice of objects for a fault: named ones, or some drawn by a seed.

Invariants
    The same seed and inventory give the same victims, in any order of the inventory. Adding or removing an object does not
    change the draws of the others.
"""

import re
from collections.abc import Iterable

from blake3 import blake3

from drtool.model import ObjectInfo

_RANDOM = re.compile(r"random:(?P<count>[1-9][0-9]{0,5})(?::(?P<prefix>[a-z0-9_./-]+))?", re.ASCII)
PACKS = "packs/"


def choose_victims(selector: str, inventory: Iterable[ObjectInfo], seed: str) -> tuple[ObjectInfo, ...]:
    """Return objects sorted by name: `random:5` is five packs, `random:5:index/` five below `index/`, else one by name.

    Raises ValueError if there are not enough of them.
    """
    match = _RANDOM.fullmatch(selector)
    if match is None:
        if selector.startswith("random"):
            raise ValueError(f"not a number of random objects (write random:5): {selector!r}")
        return (_named(selector, inventory),)
    prefix, wanted = match["prefix"] or PACKS, int(match["count"])
    drawn = sorted(
        (_lot(seed, info.name), info) for info in inventory if info.name.startswith(prefix) and info.size_bytes
    )
    if len(drawn) < wanted:
        raise ValueError(f"{selector} asks for {wanted} objects below {prefix}, but there are {len(drawn)}")
    return tuple(sorted((info for _, info in drawn[:wanted]), key=lambda info: info.name))


def _named(name: str, inventory: Iterable[ObjectInfo]) -> ObjectInfo:
    found = next((info for info in inventory if info.name == name), None)
    if found is None:
        raise ValueError(f"there is no object {name!r}")
    if not found.size_bytes:
        raise ValueError(f"the object {name!r} is empty, so there is nothing to corrupt")
    return found


def _lot(seed: str, name: str) -> bytes:
    return blake3(f"victim/{seed}/{name}".encode()).digest(16)
