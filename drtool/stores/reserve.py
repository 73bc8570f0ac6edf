"""A reserve of free space that packs do not use: the manifest, index segments and `prune`, which frees space, need some.

Invariants
    Only large puts are refused, as `TargetFull`, and only if the medium reports its free space.
    Two concurrent writers may both see the same free space. Then the medium itself refuses one, and they use the reserve.
"""

from drtool.errors import TargetFull
from drtool.stores.passing import PassingStore
from drtool.stores.ports import Buffer

RESERVE_BYTES = 4 << 20
LARGE_PUT_BYTES = 256 * 1024


class ReservingStore(PassingStore):
    """A store that is full a little before its medium is."""

    def put(self, name: str, data: Buffer) -> None:
        size_bytes = memoryview(data).nbytes
        if size_bytes >= LARGE_PUT_BYTES:
            self._check_room(name, size_bytes)
        self.inner.put(name, data)

    def try_room(self, size_bytes: int) -> None:
        self._check_room("a pack", size_bytes)
        self.inner.try_room(size_bytes + RESERVE_BYTES)

    def _check_room(self, name: str, size_bytes: int) -> None:
        free_bytes = self.inner.free_bytes()
        if free_bytes is not None and free_bytes - size_bytes < RESERVE_BYTES:
            raise TargetFull(
                f"no room left for {name}: {free_bytes >> 10} KiB are free, and it would leave less than the"
                f" {RESERVE_BYTES >> 20} MiB that the manifest and `drtool prune` need",
                hint="free some space there, forget and prune snapshots, or add a target",
            )
