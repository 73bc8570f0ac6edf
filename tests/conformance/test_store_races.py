"""The promises of every medium to concurrent callers."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
import racing
from conftest import Medium
from thoroughness import sample

from drtool.errors import ObjectMissing

RACERS = 8
ROUNDS = sample(50)


@pytest.mark.sampled
def test_of_racing_threads_exactly_one_creates_each_name(medium: Medium) -> None:
    start = threading.Barrier(RACERS)
    stores = [medium.open() for _ in range(RACERS)]
    with ThreadPoolExecutor(RACERS) as pool:
        won = list(pool.map(racing.race_to_create, stores, range(RACERS), [start] * RACERS))
    check_winners(medium, won)


@pytest.mark.sampled
def test_of_racing_processes_exactly_one_creates_each_name(medium: Medium, tmp_path: Path) -> None:
    if medium.root is None:
        pytest.skip("this medium lives in one process")
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(RACERS)
    (tmp_path / "won").mkdir()
    racers = [
        context.Process(target=racing.race_in_directory, args=(medium.root, racer, start, tmp_path / "won"))
        for racer in range(RACERS)
    ]
    for process in racers:
        process.start()
    for process in racers:
        process.join(120)
        assert process.exitcode == 0
    check_winners(medium, [[int(i) for i in (tmp_path / "won" / str(r)).read_text().split()] for r in range(RACERS)])


def check_winners(medium: Medium, won: list[list[int]]) -> None:
    """Check that each name was won once, and contains all bytes of its winner."""
    assert sorted(i for mine in won for i in mine) == list(range(racing.NAMES))
    store = medium.open()
    for racer, mine in enumerate(won):
        for i in mine:
            assert store.get(f"race/v-{i:012}") == racing.record_of(racer, i)
    assert len(list(store.list())) == racing.NAMES
    if medium.root is not None:
        assert list(medium.root.rglob(".tmp-*")) == []


@pytest.mark.sampled
def test_of_racing_swaps_none_is_lost(medium: Medium) -> None:
    if medium.mode != "cas":
        pytest.skip("this register is a chain")
    store = medium.open()
    store.put("counter", b"0")
    with ThreadPoolExecutor(RACERS) as pool:
        attempts = sum(pool.map(racing.race_to_swap, [store] * RACERS, [ROUNDS] * RACERS))
    assert store.get("counter") == b"%d" % (RACERS * ROUNDS)
    assert attempts >= RACERS * ROUNDS


@pytest.mark.parametrize("size_bytes", [20_000, 1 << 20])
@pytest.mark.sampled
def test_readers_see_whole_objects_while_they_are_replaced(medium: Medium, size_bytes: int) -> None:
    writer, reader, done = medium.open(), medium.open(), Event()
    versions = [bytes([i]) * (size_bytes + i) for i in range(1, sample(60) + 1)]
    writer.put("x", versions[0])

    def read() -> int:
        seen = 0
        while not done.is_set():
            data = reader.get("x")
            assert data == bytes([data[0]]) * len(data)
            assert len(data) == size_bytes + data[0]
            seen += 1
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for version in versions:
            writer.put("x", version)
        done.set()
        assert sum(future.result(60) for future in readers) > 0


@pytest.mark.sampled
def test_readers_see_whole_records_as_they_appear(medium: Medium) -> None:
    writer, reader, record = medium.open(), medium.open(), b"record;" * 3000

    def read_when_it_is_there(i: int) -> bytes:
        while True:
            try:
                return reader.get(f"v-{i:012}")
            except ObjectMissing:
                continue

    with ThreadPoolExecutor(2) as pool:
        for i in range(sample(100)):
            read = pool.submit(read_when_it_is_there, i)
            assert writer.put_if_absent(f"v-{i:012}", record)
            assert read.result(60) == record


def test_a_listing_shows_permanent_objects_once_while_others_come_and_go(medium: Medium) -> None:
    store, done = medium.open(), Event()
    stable = [f"x/{i:02}/stable" for i in range(40)]
    for name in stable:
        store.put(name, b"1")

    def churn() -> None:
        turn = 0
        while not done.is_set():
            name = f"x/{turn % 40:02}/passing-{turn % 7}"
            store.put(name, b"22")
            store.delete(name)
            turn += 1

    with ThreadPoolExecutor(1) as pool:
        churning = pool.submit(churn)
        for _ in range(20):
            rows = [(row.name, row.size_bytes) for row in store.list("x/")]
            assert rows == sorted(set(rows))
            assert [name for name, _ in rows if name.endswith("stable")] == stable
            assert {size for name, size in rows if not name.endswith("stable")} <= {2}
        done.set()
        churning.result(60)
