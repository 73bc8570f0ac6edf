"""The promises of every medium to a single caller."""

import os
from mmap import mmap
from typing import Any

import pytest
from conftest import Medium, local, sftp

from drtool.errors import ObjectMissing, StoreError
from drtool.model import ObjectInfo
from drtool.stores import Register, Store, Tagged, VoterStore

ODD_NAMES = [
    "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", ".tmp-1", "a/.tmp-1", ".hidden", "A", "packs/aB", "a b",
    "ä", "a\n", "a\0", "a\\b", "a:b", "x" * 600, "a/" + "x" * 200, "-a",
]  # fmt: skip


def names(store: Store, prefix: str = "", start_after: str = "") -> list[str]:
    return [row.name for row in store.list(prefix, start_after)]


def test_every_medium_is_a_store_and_a_register(store: VoterStore) -> None:
    assert isinstance(store, Store)
    assert isinstance(store, Register)


@pytest.mark.parametrize("size_bytes", [0, 1, 4095, 4096, 4097, 300_000, 1 << 20, (1 << 20) + 17])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_put_data_is_read_back(store: VoterStore, size_bytes: int, kind: Any) -> None:
    data = bytes(range(256)) * (size_bytes // 256) + bytes(range(size_bytes % 256))
    store.put("packs/ab/abcd", kind(data))
    assert store.get("packs/ab/abcd") == data
    assert store.stat("packs/ab/abcd") == size_bytes


@pytest.mark.parametrize("size_bytes", [4096, 262_144, 262_145, 300_001, 1 << 20, (1 << 20) + 4095])
@pytest.mark.parametrize("start", [0, 1, 4096])
def test_a_slice_of_a_mapped_buffer_comes_back(store: VoterStore, size_bytes: int, start: int) -> None:
    """Page-aligned buffers may be written in another way. The stored bytes are the same."""
    buffer = mmap(-1, 2 << 20)
    buffer[:] = b"0123456789abcde\n" * (len(buffer) // 16)
    with memoryview(buffer) as whole, whole[start : start + size_bytes] as view:
        store.put("x", view)
        assert store.get("x") == view
    buffer.close()


def test_a_put_replaces_the_whole_object(store: VoterStore) -> None:
    store.put("x", b"long" * 1000)
    store.put("x", b"short")
    assert store.get("x") == b"short"
    assert store.stat("x") == 5


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (0, None, b"0123456789"), (3, None, b"3456789"), (3, 4, b"3456"), (8, 10, b"89"), (0, 0, b""),
        (10, 5, b""), (11, None, b""), (99, 1, b""), (9, 1, b"9"),
    ],
)  # fmt: skip
def test_a_span_is_short_only_at_the_end(store: VoterStore, start: int, length: int | None, expected: bytes) -> None:
    store.put("x", b"0123456789")
    assert store.get("x", start, length) == expected


def test_an_absent_object_is_missing_and_not_an_error_of_the_medium(store: VoterStore) -> None:
    store.put("packs/ab/abcd", b"")
    for name in ("nothing", "packs/ab/none", "packs/cd/none", "packs/ab/abcd/below", "packs", "packs/ab"):
        with pytest.raises(ObjectMissing):
            store.get(name)
        with pytest.raises(ObjectMissing):
            store.get(name, 1, 2)
        with pytest.raises(ObjectMissing):
            store.stat(name)
        assert store.read_tagged(name) is None


def test_a_delete_is_idempotent(store: VoterStore) -> None:
    store.put("a/b", b"1")
    store.delete("a/b")
    store.delete("a/b")
    store.delete("never/was/there")
    assert names(store) == []
    store.put("a/b", b"2")
    assert store.get("a/b") == b"2"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_refused(store: VoterStore, name: str) -> None:
    calls = [
        lambda: store.put(name, b"x"),
        lambda: store.get(name),
        lambda: store.stat(name),
        lambda: store.delete(name),
        lambda: store.put_if_absent(name, b"x"),
        lambda: store.read_tagged(name),
    ]
    for call in calls:
        with pytest.raises(StoreError) as failure:
            call()
        assert not isinstance(failure.value, ObjectMissing)
    assert names(store) == []


def test_a_listing_is_sorted_by_the_bytes_of_the_whole_name(medium: Medium, store: VoterStore) -> None:
    # '-' and '.' sort before '/', digits and '_' after it: a directory walk gets this wrong unless it takes care
    expected = sorted(["a-b", "a.b", "a/b", "a/b-c", "a0", "a_", "a/b.d/e", "a/b/c", "b"], key=str.encode)
    wanted = [name for name in expected if name != "a/b"]
    for name in reversed(wanted):
        store.put(name, b"x" * len(name))
    if medium.sorts:
        assert list(store.list()) == [ObjectInfo(name, len(name)) for name in wanted]
        return
    with pytest.raises(StoreError, match="does not sort"):
        list(store.list())


def test_a_listing_begins_with_the_prefix_and_after_the_start(medium: Medium, store: VoterStore) -> None:
    every = sorted(f"packs/{i:02x}/{i:02x}{j}" for i in range(0, 256, 16) for j in range(4))
    for name in every:
        store.put(name, b"")
    store.put("index/00", b"")
    beside = "packs-not/00" if medium.sorts else "packs_not/00"
    store.put(beside, b"")
    assert names(store, "packs/") == every
    for prefix in ("packs/1", "packs/10/", "packs/10/10", "packs/10/100", "packs/11", "q", ""):
        for after in ("", "packs", "packs/", "packs/10", "packs/10/101", "packs/100", "packs/f0/f03", "zz"):
            whole = [*every, "index/00", beside]
            assert names(store, prefix, after) == sorted(n for n in whole if n.startswith(prefix) and n > after)


def test_a_listing_can_be_continued(store: VoterStore) -> None:
    every = [f"x/{i:03}" for i in range(50)]
    for name in every:
        store.put(name, b"1")
    seen, after = [], ""
    while page := [row.name for row, _ in zip(store.list("x/", after), range(7), strict=False)]:
        seen += page
        after = page[-1]
    assert seen == every


def test_a_listing_of_nothing_is_empty(store: VoterStore) -> None:
    assert names(store) == []
    assert names(store, "packs/") == []


def test_put_if_absent_never_replaces(store: VoterStore) -> None:
    assert store.put_if_absent("manifest/acc/v-1", b"first")
    assert not store.put_if_absent("manifest/acc/v-1", b"second")
    assert not store.put_if_absent("manifest/acc/v-1", b"first")
    assert store.get("manifest/acc/v-1") == b"first"
    store.delete("manifest/acc/v-1")
    assert store.put_if_absent("manifest/acc/v-1", b"third")


def test_a_tag_stands_for_the_bytes(store: VoterStore) -> None:
    assert store.read_tagged("x") is None
    store.put("x", b"1")
    first = store.read_tagged("x")
    store.put("x", b"2")
    second = store.read_tagged("x")
    assert first is not None
    assert second is not None
    assert (first.data, second.data) == (b"1", b"2")
    assert first.tag != second.tag


def test_a_swap_needs_the_tag_that_is_there(store: VoterStore) -> None:
    if store.mode == "chain":
        with pytest.raises(StoreError):
            store.compare_and_swap("x", b"1", None)
        return
    assert store.compare_and_swap("x", b"1", "nonsense") is None
    first = store.compare_and_swap("x", b"1", None)
    assert store.compare_and_swap("x", b"2", None) is None
    assert store.read_tagged("x") == Tagged(data=b"1", tag=first)
    second = store.compare_and_swap("x", b"2", first)
    assert store.compare_and_swap("x", b"3", first) is None
    assert store.read_tagged("x") == Tagged(data=b"2", tag=second)
    assert second not in {None, first}


def test_a_swap_that_is_delivered_twice_takes_effect_once(store: VoterStore) -> None:
    """A client library may repeat a swap after a lost answer, and a network may deliver a late copy."""
    if store.mode == "chain":
        pytest.skip("this register is a chain")
    assert store.compare_and_swap("x", b"1", None) is not None
    assert store.compare_and_swap("x", b"1", None) is None
    tag = store.read_tagged("x").tag
    assert store.compare_and_swap("x", b"2", tag) is not None
    assert store.compare_and_swap("x", b"2", tag) is None
    store.delete("x")
    assert store.compare_and_swap("x", b"2", tag) is None, "a deleted object has no tag"
    assert store.read_tagged("x") is None


def test_free_bytes_is_a_number_or_unknown(store: VoterStore) -> None:
    free = store.free_bytes()
    assert free is None or free > 0


@pytest.mark.parametrize("medium", [local, sftp], ids=lambda medium: medium.__name__, indirect=True)
def test_leftovers_of_killed_writers_are_swept_and_nothing_else(medium: Medium) -> None:
    """A young temporary file may still have a writer. Other files are not leftovers."""
    assert medium.root is not None
    store = medium.open()
    store.put("packs/ab/abcd", b"pack")
    left = [medium.root / ".tmp-0a", medium.root / "packs/ab/.tmp-0b"]
    young = medium.root / "packs/ab/.tmp-0c"
    other = medium.root / "packs/ab/.hidden"
    for path in (*left, young, other):
        path.write_bytes(b"half")
    for path in (*left, other):
        os.utime(path, (1, 1))
    assert store.sweep(["", "packs/ab", "packs/zz"], 3600) == 2
    assert [path.exists() for path in (*left, young, other)] == [False, False, True, True]
    assert store.get("packs/ab/abcd") == b"pack"
    assert store.sweep(["", "packs/ab"], 3600) == 0
