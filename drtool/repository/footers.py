"""The footers of packs that no index segment names, read whole from any target.

Invariants
    A pack is accepted only if its content matches its name and every part of it opens under its own header. So one pack
    never passes for another, and a forged one, which has a name of its own, passes for none.
    Memory: one pack per worker.
"""

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from msgspec import Struct

from drtool.crypto import Keyring, SealKind, object_name
from drtool.errors import DrtoolError, FormatError, KeyMissing, SealBroken
from drtool.model import PackId, TargetName, pack_object
from drtool.packing import PackContents, SegmentPack
from drtool.packing.pack import read_footer
from drtool.repository.inventory import Inventory
from drtool.repository.targets import Targets

PACK_READ_BYTES = 64 * 1024 * 1024
"""More than any pack has. A site that sends without end fails the check instead of filling the memory."""
_NAME_BYTES = 32


class Read(Struct, frozen=True):
    """One pack, and its contents if some target has it whole. `sure`: otherwise, whether every copy is damaged."""

    pack: PackId
    size_bytes: int
    targets: tuple[TargetName, ...]
    contents: PackContents | None
    sure: bool = True

    def row(self) -> SegmentPack | None:
        """Return its row in an index segment's table."""
        if self.contents is None:
            return None
        return SegmentPack.of(self.pack, self.size_bytes, self.targets, self.contents)


def unnamed(inventory: Inventory, named: Collection[PackId]) -> dict[PackId, dict[TargetName, int]]:
    """Return the listed packs that are not among the named, with the size that each target lists."""
    found: dict[PackId, dict[TargetName, int]] = {}
    for target, objects in inventory.objects.items():
        for name, size_bytes in objects.items():
            pack = _pack_in(name)
            if pack is not None and pack not in named:
                found.setdefault(pack, {})[target] = size_bytes
    return found


def _pack_in(name: str) -> PackId | None:
    try:
        pack = PackId(bytes.fromhex(name.rpartition("/")[2]))
    except ValueError:
        return None
    return pack if len(pack) == _NAME_BYTES and pack_object(pack) == name else None


def read_packs(
    targets: Targets, keyring: Keyring, packs: Mapping[PackId, Mapping[TargetName, int]], workers: int
) -> Iterator[Read]:
    """Yield each of these packs, in the order of their names."""
    threads = ThreadPoolExecutor(workers, "read")
    try:
        yield from threads.map(lambda pack: _read(targets, keyring, pack, packs[pack]), sorted(packs))
    finally:
        threads.shutdown(cancel_futures=True)


def _read(targets: Targets, keyring: Keyring, pack: PackId, listed: Mapping[TargetName, int]) -> Read:
    sure = True
    for target in sorted(listed):
        try:
            data = targets.patiently(target, partial(_whole, targets, target, pack))
            contents = _contents_of(keyring, pack, data)
        except KeyMissing:
            sure = False
        except (SealBroken, FormatError):
            continue
        except DrtoolError:  # it does not answer, or the pack has moved since the listing
            sure = False
        else:
            there = tuple(name for name in sorted(listed) if listed[name] == len(data))
            return Read(pack, len(data), there, contents)
    return Read(pack, max(listed.values(), default=0), tuple(sorted(listed)), None, sure)


def _whole(targets: Targets, target: TargetName, pack: PackId) -> bytes:
    return targets.store(target).get(pack_object(pack), 0, PACK_READ_BYTES)


def _contents_of(keyring: Keyring, pack: PackId, data: bytes) -> PackContents:
    """Return the contents. `SealBroken` or `FormatError` unless a writer of this repository sealed all of it."""
    if object_name(data) != pack:
        raise SealBroken("its content does not match its name")
    contents = read_footer(keyring, data)
    opener = keyring.opener(SealKind.PACK, contents.header)
    view = memoryview(data)
    for number, (start, block) in enumerate(zip(contents.offsets(), contents.blocks, strict=True)):
        opener.part(number, view[start : start + block.length])
    return contents
