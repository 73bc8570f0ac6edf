"""The last free space of a target is reserved for the manifest and prune, not for packs."""

import pytest

from drtool.errors import TargetFull
from drtool.stores import Faults, FaultyStore, MemoryStore
from drtool.stores.reserve import LARGE_PUT_BYTES, RESERVE_BYTES, ReservingStore


def reserving(room_bytes):
    return ReservingStore(FaultyStore(MemoryStore(), Faults(full_after_bytes=room_bytes)))


def test_a_pack_that_would_take_the_last_room_is_refused_and_small_objects_pass():
    store = reserving(RESERVE_BYTES + LARGE_PUT_BYTES - 1)
    with pytest.raises(TargetFull, match="manifest and `drtool prune` need") as caught:
        store.put("packs/x", bytes(LARGE_PUT_BYTES))
    assert "forget and prune" in caught.value.hint
    store.put("index/x", bytes(LARGE_PUT_BYTES - 1))
    assert store.put_if_absent("manifest/x", bytes(LARGE_PUT_BYTES))
    store = reserving(RESERVE_BYTES + LARGE_PUT_BYTES)
    store.put("packs/x", bytes(LARGE_PUT_BYTES))


def test_a_medium_with_unknown_room_accepts_everything():
    store = ReservingStore(MemoryStore())
    store.put("packs/x", bytes(LARGE_PUT_BYTES))
    assert store.stat("packs/x") == LARGE_PUT_BYTES
