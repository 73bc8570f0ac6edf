"""The decorators: each has its one effect, and passes everything else on."""

from contextlib import nullcontext
from typing import Literal

import pytest

from drtool.errors import ObjectMissing, StoreError, TargetFull, TargetHung, TargetOffline, TargetReadOnly
from drtool.stores import Errand, Faults, FaultyStore, MemoryStore, ReadOnlyStore, Register, Store, VoterStore


class OnlyPlain:
    """A store without a register, as for a medium that cannot vote."""

    def __init__(self) -> None:
        memory = MemoryStore()
        self.put, self.get, self.stat, self.list = memory.put, memory.get, memory.stat, memory.list
        self.delete, self.free_bytes, self.close = memory.delete, memory.free_bytes, memory.close


def everything(store: VoterStore) -> list[object]:
    """Return the answers of one call of each kind."""
    found = store.read_tagged("x")
    assert found is not None
    return [
        store.put("y", b"2"),
        store.get("x", 1, 2),
        store.stat("x"),
        list(store.list("", "a")),
        store.put_if_absent("x", b"no"),
        store.compare_and_swap("x", b"swapped", found.tag),
        store.read_tagged("x"),
        store.delete("y"),
        store.free_bytes(),
        store.mode,
    ]


def test_without_faults_everything_passes() -> None:
    plain, faulty = MemoryStore("cas"), FaultyStore(MemoryStore("cas"))
    plain.put("x", b"12345")
    faulty.put("x", b"12345")
    assert everything(faulty) == everything(plain)
    assert isinstance(faulty, Store)
    assert isinstance(faulty, Register)


def test_offline_is_every_call_and_ends() -> None:
    store = FaultyStore(MemoryStore(), Faults(offline=True))
    for call in (
        lambda: store.put("x", b"1"), lambda: store.get("x"), lambda: store.stat("x"), lambda: list(store.list()),
        lambda: store.delete("x"), store.free_bytes, lambda: store.put_if_absent("x", b"1"), lambda: store.read_tagged("x"),
    ):  # fmt: skip
        with pytest.raises(TargetOffline):
            call()
    store.faults = Faults()
    store.put("x", b"1")
    assert store.get("x") == b"1"


def test_going_offline_interrupts_a_listing() -> None:
    store = FaultyStore(MemoryStore())
    for i in range(5):
        store.put(f"x/{i}", b"")
    rows = store.list()
    next(rows)
    store.faults = Faults(offline=True)
    with pytest.raises(TargetOffline):
        next(rows)


def test_read_only_refuses_writes_alone() -> None:
    store = FaultyStore(MemoryStore("cas"))
    store.put("x", b"1")
    store.faults = Faults(read_only=True)
    for call in (
        lambda: store.put("x", b"2"), lambda: store.delete("x"), lambda: store.put_if_absent("y", b"2"),
        lambda: store.compare_and_swap("x", b"2", None),
    ):  # fmt: skip
        with pytest.raises(TargetReadOnly):
            call()
    assert store.get("x") == b"1"


def test_full_after_so_many_bytes_and_deletes_still_pass() -> None:
    store = FaultyStore(MemoryStore(), Faults(full_after_bytes=10))
    store.put("x", b"123456")
    assert store.free_bytes() == 4
    with pytest.raises(TargetFull):
        store.put("y", b"12345")
    store.put("z", memoryview(b"1234"))
    with pytest.raises(TargetFull):
        store.put_if_absent("v", b"1")
    store.delete("x")
    assert [row.name for row in store.list()] == ["z"]


def test_chosen_calls_fail_and_do_nothing() -> None:
    store = FaultyStore(MemoryStore(), Faults(fail_calls=frozenset({2})))
    store.put("x", b"1")
    with pytest.raises(StoreError, match="call 2"):
        store.put("x", b"2")
    assert store.get("x") == b"1"


def test_a_delay_is_waited_for_every_call() -> None:
    waited: list[float] = []
    store = FaultyStore(MemoryStore(), Faults(delay_s=0.5), sleep=waited.append)
    store.put("x", b"1")
    store.get("x")
    assert waited == [0.5, 0.5]


def test_damaged_objects_come_back_different_in_one_byte_and_stay_whole_below() -> None:
    inner = MemoryStore()
    store = FaultyStore(inner, Faults(damaged=frozenset({"x", "empty", "absent"})))
    store.put("x", bytes(10))
    store.put("y", bytes(10))
    store.put("empty", b"")
    whole = store.get("x")
    assert sum(a != b for a, b in zip(whole, bytes(10), strict=True)) == 1
    assert store.get("x", 4, 3) == whole[4:7]
    found = store.read_tagged("x")
    assert found is not None
    assert found.data == whole
    assert inner.get("x") == store.get("y") == bytes(10)
    assert store.get("empty") == b""
    with pytest.raises(ObjectMissing):
        store.get("absent")


def test_sizes_lie_in_stat_and_list_and_never_below_zero() -> None:
    store = FaultyStore(MemoryStore(), Faults(size_error_bytes=-3))
    store.put("x", b"12345")
    store.put("y", b"1")
    assert store.stat("x") == 2
    assert [row.size_bytes for row in store.list()] == [2, 0]


def test_a_read_only_store_reads_and_never_writes() -> None:
    inner = MemoryStore("cas")
    inner.put("x", b"1")
    store = ReadOnlyStore(inner)
    found = store.read_tagged("x")
    assert found is not None
    for call in (
        lambda: store.put("x", b"2"), lambda: store.delete("x"), lambda: store.put_if_absent("y", b"2"),
        lambda: store.compare_and_swap("x", b"2", found.tag),
    ):  # fmt: skip
        with pytest.raises(TargetReadOnly):
            call()
    assert (store.get("x"), store.stat("x"), [row.name for row in store.list()]) == (b"1", 1, ["x"])
    assert [row.name for row in inner.list()] == ["x"]


def test_a_decorated_store_that_is_no_register_says_so() -> None:
    store = FaultyStore(OnlyPlain())
    store.put("x", b"1")
    with pytest.raises(StoreError, match="register"):
        store.put_if_absent("y", b"1")
    with pytest.raises(StoreError, match="register"):
        store.read_tagged("x")


def test_hanging_calls_continue_when_the_faults_are_replaced() -> None:
    store = FaultyStore(MemoryStore(), Faults(hang=True))
    errand = Errand(lambda: store.put("x", b"1"))
    with pytest.raises(TargetHung):
        errand.result(0.1, "it")
    store.faults = Faults()
    errand.result(5, "it")
    assert store.get("x") == b"1"


def test_a_flaky_line_fails_at_the_given_rate_and_the_same_for_the_same_seed() -> None:
    def breaks(seed: int) -> list[bool]:
        store = FaultyStore(MemoryStore(), Faults(flaky=0.2, seed=seed))
        found = []
        for _ in range(500):
            try:
                store.free_bytes()
            except TargetOffline:
                found.append(True)
            else:
                found.append(False)
        return found

    assert breaks(1) == breaks(1) != breaks(2)
    assert 60 < sum(breaks(3)) < 140


@pytest.mark.parametrize("kind", ["failing", "silent"])
def test_a_partial_write_leaves_half_and_fails_or_is_silent(kind: Literal["failing", "silent"]) -> None:
    store = FaultyStore(MemoryStore(), Faults(partial_writes=kind))
    told = pytest.raises(StoreError, match="half-way") if kind == "failing" else nullcontext()
    with told:
        store.put("x", memoryview(b"123456"))
    assert store.get("x") == b"123"


def test_old_objects_come_back_as_they_were_before() -> None:
    store = FaultyStore(MemoryStore("cas"), Faults(stale=frozenset({"old/"})))
    for name in ("old/x", "new/x"):
        store.put(name, b"first")
        store.put(name, b"second")
    assert (store.get("old/x"), store.get("old/x", 1, 2), store.get("new/x")) == (b"first", b"ir", b"second")
    found = store.read_tagged("old/x")
    assert found is not None
    assert found.data == b"first"
    store.put_if_absent("old/y", b"one")
    tag = MemoryStore("cas").compare_and_swap("old/y", b"one", None)
    assert store.compare_and_swap("old/y", b"two", tag)
    assert store.get("old/y") == b"one"
    assert store.get("old/x", 0, 0) == b""


def test_listings_omit_and_invent_in_order() -> None:
    store = FaultyStore(MemoryStore())
    for number in range(6):
        store.put(f"x/{number}", b"1")
    store.faults = Faults(omitted=frozenset({"x/1", "x/4"}), invented=frozenset({"x/35", "y/1", "a/1"}))
    assert [row.name for row in store.list()] == ["a/1", "x/0", "x/2", "x/3", "x/35", "x/5", "y/1"]
    assert [row.name for row in store.list("x/", "x/3")] == ["x/35", "x/5"]
    with pytest.raises(ObjectMissing):
        store.get("x/35")


def test_a_share_of_the_objects_is_always_the_same_share() -> None:
    store = FaultyStore(MemoryStore())
    for number in range(400):
        store.put(f"x/{number}", b"12345")

    def hit(seed: int) -> set[str]:
        store.faults = Faults(damaged=frozenset({"x/"}), share=0.25, seed=seed)
        return {f"x/{number}" for number in range(400) if store.get(f"x/{number}") != b"12345"}

    assert hit(1) == hit(1) != hit(2)
    assert 60 < len(hit(3)) < 140
    store.faults = Faults(size_error_bytes=-1, share=0.25, seed=1)
    assert {row.name for row in store.list() if row.size_bytes == 4} == hit(1)


def test_a_full_store_still_deletes() -> None:
    store = FaultyStore(MemoryStore(), Faults(full_after_bytes=0))
    with pytest.raises(TargetFull) as caught:
        store.put("x", b"1")
    assert caught.value.hint
    store.delete("x")
