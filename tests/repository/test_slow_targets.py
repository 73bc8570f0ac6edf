"""A target that is much slower than the others is left behind, where the object is safe without it."""

import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest

from drtool.errors import StoreError
from drtool.model import TargetName
from drtool.repository import writing
from drtool.repository.targets import Targets
from drtool.repository.writing import Demand, Writer
from drtool.stores import Guard, MemoryStore
from drtool.stores.lanes import LARGE_BYTES, Lanes
from drtool.stores.window import SLOW

CLOUD, DESK, ATTIC = map(TargetName, ("cloud/main", "desk/main", "attic/main"))
PACK = bytes(LARGE_BYTES)


class Slow(MemoryStore):
    """Takes an object when it is released."""

    def __init__(self):
        super().__init__()
        self.released, self.asked = threading.Event(), 0

    def put(self, name, data):
        self.asked += 1
        assert self.released.wait(30)
        super().put(name, data)


@pytest.fixture
def slow():
    store = Slow()
    yield store
    store.released.set()


@pytest.fixture
def writer_of(monkeypatch):
    monkeypatch.setattr(writing, "SLOW_S", 0.05)
    with ExitStack() as stack:

        def make(stores, **options):
            targets = Targets({})
            for name, store in stores.items():
                targets._guards[name] = Guard()
                targets._stores[name] = store
                targets.specs[name] = store
            targets.near = lambda name: name != CLOUD
            writer = Writer(targets, **options)
            stack.callback(writer.close)
            return writer

        yield make


def demand(*names, sites):
    return Demand(preference=names, wanted_sites=sites, promised_sites=sites, minimum_sites=1)


@pytest.mark.parametrize("sites", [2, 3])
def test_the_others_take_its_share(slow, writer_of, sites):
    writer = writer_of({CLOUD: slow, DESK: MemoryStore(), ATTIC: MemoryStore()}, leaves_slow=True)
    placing = writer.begin("packs/1", PACK, demand(CLOUD, DESK, ATTIC, sites=sites))
    assert sorted(placing.settle()) == [ATTIC, DESK]
    assert placing.data_in_use, "its transfer continues"
    assert writer.targets.failures == {CLOUD: SLOW}
    assert sorted(writer.put("packs/2", PACK, demand(CLOUD, DESK, ATTIC, sites=sites))) == [ATTIC, DESK]
    assert slow.asked == 1


@pytest.mark.parametrize(
    ("others", "sites", "options"),
    [((DESK,), 2, {"leaves_slow": True}), ((DESK, ATTIC), 3, {}), ((), 1, {"leaves_slow": True})],
)
def test_it_is_waited_for_where_nothing_else_makes_the_object_safe(slow, writer_of, others, sites, options):
    """The last case has no other site at all. The second is a command that brings copies."""
    writer = writer_of({CLOUD: slow, **{name: MemoryStore() for name in others}}, **options)
    threading.Timer(0.3, slow.released.set).start()
    assert sorted(writer.put("packs/1", PACK, demand(CLOUD, *others, sites=sites))) == sorted((CLOUD, *others))
    assert writer.targets.failures == {}


def test_transfers_that_wait_for_its_line_end(slow):
    guard = Guard()
    lanes = Lanes(is_over=lambda: guard.is_left)
    failed = []

    def transfer():
        with pytest.raises(StoreError, match="much slower"), lanes.lane(1):
            pass
        failed.append(True)

    with lanes.lane(1):
        waiting = threading.Thread(target=transfer)
        waiting.start()
        guard.leave()
        waiting.join(5)
    assert failed == [True]
    lanes.close()


def test_one_that_answers_later_gets_its_copy_and_no_third_one_is_made(slow, writer_of):
    attic = MemoryStore()
    writer = writer_of({CLOUD: slow, DESK: MemoryStore(), ATTIC: attic})
    threading.Timer(0.2, slow.released.set).start()
    assert sorted(writer.put("packs/1", PACK, demand(CLOUD, DESK, ATTIC, sites=2))) == [CLOUD, DESK]
    assert list(attic.list()) == []


def test_a_process_ends_while_a_transfer_to_a_slow_target_goes_on():
    """A thread of a pool would be waited for."""
    script = """
import threading
from drtool.repository.put_threads import PutThreads
began = threading.Event()
threads = PutThreads(1, "put", lambda: None)
threads.submit(lambda: (began.set(), threading.Event().wait()))
began.wait()
threads.shutdown(wait=False)
"""
    subprocess.run([sys.executable, "-c", script], timeout=20, check=True)
