"""Few large transfers at once on a slow line, more where more carry more: in virtual time."""

from contextlib import ExitStack

import pytest
from stalling import VirtualTime
from three_sites import in_a_child

from drtool.errors import ObjectMissing, TargetBusy
from drtool.stores import Guard, MemoryStore
from drtool.stores.lanes import LANES_MAX, LARGE_BYTES, Lanes, LaneStore

MIB = 1 << 20


def after(rounds, lanes, time, bytes_s):
    """The lanes that are open after some rounds at a line that carries `bytes_s(n)` with n transfers."""
    for _ in range(2 * rounds):
        with ExitStack() as stack:
            count = lanes.allowed
            for _ in range(count):
                stack.enter_context(lanes.lane(MIB))
            time.now += count * MIB / bytes_s(count)
    return lanes.allowed


def lanes_in(time):
    return Lanes(clock=time.clock, sleep=time.sleep)


def test_a_line_that_one_transfer_fills_gets_one_or_two():
    time = VirtualTime()
    lanes = lanes_in(time)
    assert after(1, lanes, time, lambda _n: 16_000) <= 2
    assert after(40, lanes, time, lambda _n: 16_000) <= 2


@pytest.mark.parametrize("useful", [3, 8])
def test_lanes_are_added_while_they_carry_more(useful):
    time = VirtualTime()
    assert abs(after(60, lanes_in(time), time, lambda n: min(n, useful) * 20 * MIB) - useful) <= 1


def test_there_is_a_bound():
    time = VirtualTime()
    assert after(200, lanes_in(time), time, lambda n: 2.0**n) in (LANES_MAX - 1, LANES_MAX)


def test_an_answer_that_asks_for_less_halves_them_and_never_below_one():
    time = VirtualTime()
    lanes = lanes_in(time)
    assert after(20, lanes, time, lambda n: n * MIB) >= 8
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
    time = VirtualTime()
    lanes = lanes_in(time)
    for _ in range(5):
        with pytest.raises(ObjectMissing), lanes.lane(MIB):
            raise ObjectMissing("it is not there")
    assert time.slept == []


def test_processes_share_the_lanes():
    time = VirtualTime()
    lanes = lanes_in(time)

    def child():
        with lanes.lane(MIB):
            time.now += 1.0
        with lanes.lane(MIB):
            time.now += 1.0

    assert lanes.allowed == 1
    assert in_a_child(child) == 0
    assert lanes.allowed == 2
    lanes.close()


def test_small_objects_do_not_wait_for_a_lane():
    time = VirtualTime()
    lanes = lanes_in(time)
    store = LaneStore(MemoryStore(), lanes, lanes)
    with lanes.lane(MIB):
        store.put("packs/small", b"1")
        assert store.get("packs/small", 0, 1) == b"1"
    assert time.slept == []
    store.put("packs/large", bytes(LARGE_BYTES))
    assert store.get("packs/large") == bytes(LARGE_BYTES)


def test_a_directory_has_no_lanes(tmp_path):
    from drtool.stores import LocalStore

    store = Guard().objects(LocalStore.create(tmp_path / "target"))
    assert not isinstance(store, LaneStore)
    store.close()
