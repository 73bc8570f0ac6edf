"""The effects of overlays on a store, with an unchanged medium below."""

import time

import pytest
from drill_faults import BYTES, OTHER, PACK
from hypothesis import given
from hypothesis import strategies as st

from drtool.errors import TargetFull, TargetOffline, TargetReadOnly
from drtool.stores import MemoryStore
from drtool.stores.overlay import FLIP_BYTES_MAX, OverlaidStore, Overlay, flips


class Chosen:
    """The active overlays, as set by the test."""

    def __init__(self):
        self.overlays, self.over = [], []

    def now(self):
        return list(self.overlays)

    def replaced(self, overlay, name):
        self.over.append((overlay.id, name))
        self.overlays = [each for each in self.overlays if each.id != overlay.id]


@pytest.fixture
def chosen():
    return Chosen()


@pytest.fixture
def memory():
    store = MemoryStore("cas")
    store.put(PACK, BYTES)
    store.put(OTHER, BYTES[::-1])
    return store


@pytest.fixture
def store(memory, chosen):
    return OverlaidStore(memory, chosen)


def overlay(kind, **more):
    return Overlay(id="f1", run="r1", step="s1", kind=kind, **more)


READS = {
    "get": lambda store: store.get(PACK),
    "range": lambda store: store.get(PACK, 3, 5),
    "stat": lambda store: store.stat(PACK),
    "list": lambda store: list(store.list()),
    "free": lambda store: store.free_bytes(),
    "tagged": lambda store: store.read_tagged(PACK),
}
WRITES = {
    "put": lambda store: store.put("packs/new", b"new"),
    "put_if_absent": lambda store: store.put_if_absent("packs/new", b"new"),
    "swap": lambda store: store.compare_and_swap("packs/new", b"new", None),
    "delete": lambda store: store.delete(PACK),
}


@pytest.mark.parametrize("call", [*READS.values(), *WRITES.values()], ids=[*READS, *WRITES])
def test_offline_refuses_everything_and_changes_nothing(call, store, memory, chosen):
    chosen.overlays = [overlay("offline")]
    with pytest.raises(TargetOffline, match="run r1, step s1") as raised:
        call(store)
    assert "drtool fault clear --run r1" in raised.value.hint
    assert (memory.get(PACK), [row.name for row in memory.list()]) == (BYTES, [PACK, OTHER])
    chosen.overlays = []
    call(store)


@pytest.mark.parametrize("call", WRITES.values(), ids=WRITES)
def test_read_only_refuses_writes_alone(call, store, memory, chosen):
    chosen.overlays = [overlay("read-only")]
    with pytest.raises(TargetReadOnly, match="run r1"):
        call(store)
    assert [row.name for row in memory.list()] == [PACK, OTHER]
    for read in READS.values():
        read(store)


def test_a_full_target_still_deletes_and_says_that_there_is_no_room(store, memory, chosen):
    chosen.overlays = [overlay("full")]
    for name in ("put", "put_if_absent", "swap"):
        with pytest.raises(TargetFull):
            WRITES[name](store)
    assert store.free_bytes() == 0
    store.delete(PACK)
    assert [row.name for row in memory.list()] == [OTHER]


def test_a_listing_breaks_off_when_its_target_goes_away(store, memory, chosen):
    for number in range(1100):
        memory.put(f"packs/x{number:04}", b"x")
    rows = store.list()
    assert next(rows).name == PACK
    chosen.overlays = [overlay("offline")]
    with pytest.raises(TargetOffline):
        list(rows)


def test_slow_delays_each_call_and_its_bytes(memory, chosen):
    waits = []
    store = OverlaidStore(memory, chosen, sleep=lambda s: (waits.append(s), time.sleep(s)))
    chosen.overlays = [overlay("slow", latency_s=0.05, bytes_per_second=len(BYTES) * 10)]
    began = time.monotonic()
    store.stat(PACK)
    assert time.monotonic() - began >= 0.05
    began = time.monotonic()
    assert store.get(PACK) == BYTES
    assert time.monotonic() - began >= 0.15
    waits.clear()
    store.put(PACK, BYTES)
    assert sum(waits) >= 0.149


def test_a_slow_call_goes_on_when_the_fault_is_over(memory, chosen):
    turns = []

    def sleep(wait_s):
        turns.append(wait_s)
        chosen.overlays = []

    chosen.overlays = [overlay("slow", latency_s=3600)]
    assert OverlaidStore(memory, chosen, sleep).get(PACK) == BYTES
    assert len(turns) == 1
    assert turns[0] <= 0.2


@pytest.mark.parametrize("count", [1, 3, 100])
def test_corrupt_flips_the_given_number_of_bytes_of_the_named_objects_only(count, store, memory, chosen):
    chosen.overlays = [overlay("corrupt", objects=(PACK,), seed="7", flip_bytes=count)]
    seen = store.get(PACK)
    assert len(seen) == len(BYTES) == store.stat(PACK)
    assert sum(a != b for a, b in zip(seen, BYTES, strict=True)) == count
    assert store.get(PACK) == seen
    assert store.read_tagged(PACK).data == seen
    assert store.get(OTHER) == BYTES[::-1]
    assert memory.get(PACK) == BYTES
    assert list(store.list()) == list(memory.list())


@given(
    seed=st.text(max_size=5),
    count=st.integers(1, 40),
    size=st.integers(1, 300),
    spans=st.lists(st.tuples(st.integers(0, 320), st.none() | st.integers(0, 320)), max_size=20),
)
def test_every_range_is_part_of_the_same_wrong_whole(seed, count, size, spans):
    memory, chosen = MemoryStore(), Chosen()
    memory.put(PACK, bytes(size))
    chosen.overlays = [overlay("corrupt", objects=(PACK,), seed=seed, flip_bytes=count)]
    store = OverlaidStore(memory, chosen)
    whole = store.get(PACK)
    assert sum(map(bool, whole)) == min(count, size)
    for start, length in spans:
        assert store.get(PACK, start, length) == whole[start : None if length is None else start + length]


def test_another_seed_or_name_flips_other_bytes():
    one = overlay("corrupt", objects=(PACK,), seed="1", flip_bytes=8)
    other = overlay("corrupt", objects=(PACK,), seed="2", flip_bytes=8)
    assert flips(one, PACK, 10_000) == flips(one, PACK, 10_000)
    assert flips(one, PACK, 10_000) != flips(other, PACK, 10_000)
    assert flips(one, PACK, 10_000) != flips(one, OTHER, 10_000)
    assert flips(one, PACK, 0) == {}
    assert len(flips(overlay("corrupt", flip_bytes=10**9), PACK, 10**6)) == FLIP_BYTES_MAX


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.put(PACK, b"new"),
        lambda store: store.compare_and_swap(PACK, b"new", store.read_tagged(PACK).tag),
        lambda store: (store.delete(PACK), store.put_if_absent(PACK, b"new")),
    ],
    ids=["put", "swap", "put_if_absent"],
)
def test_a_new_object_is_not_corrupted(write, store, chosen):
    chosen.overlays = [overlay("corrupt", objects=(PACK,), flip_bytes=2)]
    store.put(OTHER, b"other")
    assert chosen.over == []
    write(store)
    assert chosen.over == [("f1", PACK)]
    assert store.get(PACK) == b"new"


def test_a_failed_write_does_not_end_a_fault(store, chosen):
    chosen.overlays = [overlay("corrupt", objects=(PACK,))]
    assert not store.put_if_absent(PACK, b"new")
    assert store.compare_and_swap(PACK, b"new", "another tag") is None
    assert chosen.over == []
    assert store.get(PACK) != BYTES
