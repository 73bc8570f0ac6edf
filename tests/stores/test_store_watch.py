"""Hanging calls: no caller waits for ever, no process stays for them, and their resources are left alone."""

import os
import subprocess
import sys
import threading
import time

import pytest
from hanging_mount import hung_mount
from three_sites import place

from drtool.errors import ObjectMissing, TargetHung, TargetOffline
from drtool.stores import CallLimits, Errand, Faults, FaultyStore, Guard, LocalStore, MemoryStore, WatchedStore
from drtool.stores.watch import ROWS_AT_ONCE

__all__ = ["place"]

BRIEFLY = CallLimits(call_s=0.05, slowest_bytes_s=1e9)


@pytest.fixture
def hanging():
    store = FaultyStore(MemoryStore("cas"))
    yield store
    store.faults = Faults()


def watched_threads():
    return [thread for thread in threading.enumerate() if thread.name == "drtool-watched"]


def test_every_hanging_call_is_abandoned(hanging):
    hanging.put("x", b"1")
    store = WatchedStore(hanging, BRIEFLY)
    hanging.faults = Faults(hang=True)
    for call in (
        lambda: store.put("x", b"1"), lambda: store.get("x"), lambda: store.stat("x"), lambda: list(store.list()),
        lambda: store.delete("x"), store.free_bytes, lambda: store.put_if_absent("x", b"1"), lambda: store.read_tagged("x"),
        lambda: store.compare_and_swap("x", b"1", None),
    ):  # fmt: skip
        with pytest.raises(TargetHung, match=r"did not answer within 0\.") as caught:
            call()
        assert caught.value.hint


def test_answers_and_errors_come_through_and_no_thread_stays(hanging):
    others = set(watched_threads())  # abandoned by other tests; they end with their calls
    store = WatchedStore(hanging, BRIEFLY)
    names = [f"x/{number:05}" for number in range(2 * ROWS_AT_ONCE + 5)]
    for name in names:
        hanging.put(name, b"1")
    assert [row.name for row in store.list("x/")] == names
    store.put("y", b"12345")
    assert store.get("y", 1, 2) == b"23"
    with pytest.raises(ObjectMissing):
        store.get("absent")
    ends_at = time.monotonic() + 5.0
    while set(watched_threads()) - others and time.monotonic() < ends_at:
        time.sleep(0.01)
    assert set(watched_threads()) - others == set()


def test_a_large_put_may_take_longer_by_its_size():
    limits = CallLimits(call_s=0.05, slowest_bytes_s=1e5)
    slow = FaultyStore(MemoryStore(), Faults(delay_s=0.2))
    WatchedStore(slow, limits).put("x", bytes(6_000_000))  # a minute
    ended = threading.Event()
    endless = FaultyStore(MemoryStore(), Faults(delay_s=60.0), sleep=ended.wait)
    with pytest.raises(TargetHung):
        WatchedStore(endless, limits).put("y", b"1")
    ended.set()


def test_on_a_file_system_of_this_host_no_call_costs_a_thread(place, hanging, monkeypatch):
    store = Guard().objects(LocalStore.create(place / "site"))
    monkeypatch.setattr(threading.Thread, "start", lambda thread: pytest.fail("a thread"))
    store.put("x", bytes(1 << 20))
    assert len(store.get("x")) == 1 << 20
    assert [row.name for row in store.list()] == ["x"]
    store.close()
    monkeypatch.undo()
    hanging.put("x", b"1")
    hanging.faults = Faults(hang=True)
    store = Guard(call_limits=BRIEFLY).objects(hanging)  # other media may hang
    with pytest.raises(TargetHung):
        store.get("x", 0, 1)


def test_a_hanging_store_is_not_closed(hanging):
    closed = []
    hanging.close = lambda: closed.append(True)
    store = WatchedStore(hanging, BRIEFLY)
    hanging.faults = Faults(hang=True)
    with pytest.raises(TargetHung):
        store.stat("x")
    store.close()
    assert closed == []


def test_an_interruption_lets_a_write_end_first():
    done = threading.Event()

    def work():
        time.sleep(0.2)
        done.set()

    errand = Errand(work)
    plain = errand._thread.join
    raised = []

    def join(timeout_s):
        if not raised:
            raised.append(True)
            raise KeyboardInterrupt
        plain(timeout_s)

    errand._thread.join = join
    with pytest.raises(KeyboardInterrupt):
        errand.result(9, "it")
    assert done.is_set()


def test_a_hanging_mount_is_abandoned_and_the_process_ends(tmp_path):
    with hung_mount(tmp_path):
        program = (
            "import sys; from pathlib import Path\n"
            "from drtool.errors import TargetHung\n"
            "from drtool.stores import Errand, LocalStore\n"
            "try: Errand(lambda: LocalStore.open(Path(sys.argv[1]))).result(0.3, 'it')\n"
            "except TargetHung: sys.exit(7)\n"
        )
        done = subprocess.run([sys.executable, "-c", program, os.fspath(tmp_path)], timeout=20)
        assert done.returncode == 7


def test_a_mount_that_comes_back_as_an_error_is_offline(tmp_path):
    with hung_mount(tmp_path):
        errand = Errand(lambda: LocalStore.open(tmp_path))
        with pytest.raises(TargetHung):
            errand.result(0.2, "it")
    with pytest.raises(TargetOffline):
        errand.result(5, "it")
