"""Few large transfers at once on a slow line, more where more carry more: in virtual time."""

import os
import threading
import time
from contextlib import ExitStack

import pytest
from stalling import VirtualTime
from three_sites import in_a_child

from drtool.errors import ObjectMissing, StoreError, TargetBusy
from drtool.stores import Guard, MemoryStore
from drtool.stores.forked_lock import Bell
from drtool.stores.lanes import LANES_MAX, LARGE_BYTES, LOOK_AGAIN_S, Direction, Lanes, LaneStore
from drtool.stores.window import FIRST_BYTES, LEAST_BYTES, Window

MIB = 1 << 20


def after(rounds, lanes, clock, bytes_s):
    """The lanes that are open after some rounds at a line that carries `bytes_s(n)` with n transfers."""
    for _ in range(2 * rounds):
        with ExitStack() as stack:
            count = lanes.allowed
            for _ in range(count):
                stack.enter_context(lanes.lane(MIB))
            clock.now += count * MIB / bytes_s(count)
    return lanes.allowed


class CountedBell(Bell):
    """Counts how often it is waited for."""

    waits = 0

    def wait(self, timeout_s):
        self.waits += 1
        super().wait(timeout_s)


def lanes_in(clock):
    lanes = Lanes(clock=clock.clock, bell=CountedBell())
    lanes.waits = lambda: lanes._bell.waits
    return lanes


def test_a_line_that_one_transfer_fills_gets_one_or_two():
    clock = VirtualTime()
    lanes = lanes_in(clock)
    assert after(1, lanes, clock, lambda _n: 16_000) <= 2
    assert after(40, lanes, clock, lambda _n: 16_000) <= 2


@pytest.mark.parametrize("useful", [3, 8])
def test_lanes_are_added_while_they_carry_more(useful):
    clock = VirtualTime()
    assert abs(after(60, lanes_in(clock), clock, lambda n: min(n, useful) * 20 * MIB) - useful) <= 1


def test_there_is_a_bound():
    clock = VirtualTime()
    assert after(200, lanes_in(clock), clock, lambda n: 2.0**n) in (LANES_MAX - 1, LANES_MAX)


def test_an_answer_that_asks_for_less_halves_them_and_never_below_one():
    clock = VirtualTime()
    lanes = lanes_in(clock)
    assert after(20, lanes, clock, lambda n: n * MIB) >= 8
    before = lanes.allowed
    for expected in (before // 2, before // 4):
        with pytest.raises(TargetBusy), lanes.lane(MIB):
            raise TargetBusy("slow down")
        assert lanes.allowed == expected
    for _ in range(8):
        with pytest.raises(TargetBusy), lanes.lane(MIB):
            raise TargetBusy("slow down")
    assert lanes.allowed == 1


def test_a_transfer_that_fails_gives_its_lane_back():
    clock = VirtualTime()
    lanes = lanes_in(clock)
    for _ in range(5):
        with pytest.raises(ObjectMissing), lanes.lane(MIB):
            raise ObjectMissing("it is not there")
    assert lanes.waits() == 0


def test_processes_share_the_lanes():
    clock = VirtualTime()
    lanes = lanes_in(clock)

    def child():
        with lanes.lane(MIB):
            clock.now += 1.0
        with lanes.lane(MIB):
            clock.now += 1.0

    assert lanes.allowed == 1
    assert in_a_child(child) == 0
    assert lanes.allowed == 2
    lanes.close()


def test_a_lane_that_is_given_back_wakes_a_thread_and_a_process_that_wait_for_it():
    """Long before either would look by itself."""
    lanes = Lanes()
    began = threading.Event()

    def one_more():
        began.set()
        with lanes.lane(MIB):
            pass

    waiting = threading.Thread(target=one_more)
    with lanes.lane(MIB):
        waiting.start()
        assert began.wait(10)
    waiting.join(0.9 * LOOK_AGAIN_S)
    assert not waiting.is_alive()

    ready, done = os.pipe()
    held = lanes.lane(MIB), lanes.lane(MIB)
    for lane in held[: lanes.allowed]:
        lane.__enter__()
    child = os.fork()
    if child == 0:
        with lanes.lane(MIB):
            os.write(done, b"1")
        os._exit(0)
    while not lanes._shared[-1]:
        time.sleep(0.001)
    left_at = time.monotonic()
    for lane in held[: lanes.allowed]:
        lane.__exit__(None, None, None)
    assert os.read(ready, 1) == b"1"
    assert time.monotonic() - left_at < 0.9 * LOOK_AGAIN_S
    os.waitpid(child, 0)
    for end in (ready, done):
        os.close(end)
    lanes.close()


def test_small_objects_do_not_wait_for_a_lane():
    clock = VirtualTime()
    lanes = lanes_in(clock)
    direction = Direction(lanes, Window())
    store = LaneStore(MemoryStore(), direction, direction)
    with lanes.lane(MIB):
        store.put("packs/small", b"1")
        assert store.get("packs/small", 0, 1) == b"1"
    assert lanes.waits() == 0
    store.put("packs/large", bytes(LARGE_BYTES))
    assert store.get("packs/large") == bytes(LARGE_BYTES)


def test_many_small_objects_on_a_slow_line_go_a_few_at_a_time():
    """64 objects of 60 kB at 16 kB/s. All at once, each would take four minutes."""
    clock, size_bytes, slowest_s = VirtualTime(), 60_000, 0.0
    window = Window(clock=clock.clock)
    left = 64
    while left:
        with ExitStack() as stack:
            count = max(1, min(left, window.allowed_bytes // size_bytes))
            began_s = clock.now
            for _ in range(count):
                stack.enter_context(window.share(size_bytes))
            clock.now += count * size_bytes / 16_000
        slowest_s = max(slowest_s, clock.now - began_s)
        left -= count
    assert slowest_s < 20
    window.close()


def test_small_objects_on_a_fast_line_do_not_wait_for_one_another_for_long():
    """A thousand at 100 ms of latency: the window grows with each round trip."""
    clock, left, rounds = VirtualTime(), 1000, 0
    window = Window(clock=clock.clock)
    while left > 0:
        with ExitStack() as stack:
            count = max(1, window.allowed_bytes // 60_000)
            for _ in range(min(left, count)):
                stack.enter_context(window.share(60_000))
            clock.now += 0.1
        left, rounds = left - count, rounds + 1
    assert rounds <= 9
    window.close()


def test_a_share_that_does_not_fit_waits_until_another_one_is_given_back():
    window, order = Window(bell=(bell := CountedBell())), []

    def second():
        with window.share(LEAST_BYTES):
            order.append("second")

    with window.share(FIRST_BYTES):
        thread = threading.Thread(target=second)
        thread.start()
        while not bell.waits:
            time.sleep(0.001)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    with window.share(100 * FIRST_BYTES):
        pass
    window.close()


def test_a_server_that_is_busy_narrows_the_window_and_one_transfer_always_goes():
    window = Window()
    for _ in range(10):
        with pytest.raises(TargetBusy), window.share(1000):
            raise TargetBusy("slow down")
    assert window.allowed_bytes == LEAST_BYTES
    with window.share(10 * LEAST_BYTES):
        pass
    window.close()


def test_small_transfers_to_a_target_that_was_left_behind_do_not_begin():
    window = Window(is_over=lambda: True)
    with pytest.raises(StoreError, match="much slower"), window.share(1):
        pass
    window.close()


def test_a_directory_has_no_lanes(tmp_path):
    from drtool.stores import LocalStore

    store = Guard().objects(LocalStore.create(tmp_path / "target"))
    assert not isinstance(store, LaneStore)
    store.close()
