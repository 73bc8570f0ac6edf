"""Several packs under way where a target is across a network: as many as it takes, no more than promised, all handed on."""

import time
from contextlib import closing
from threading import Lock

import pytest
from three_sites import noise

from drtool.crypto import Keyring
from drtool.errors import StoreError, TargetFull
from drtool.model import ChunkId, RepositoryId, TargetName
from drtool.packing import PackKind
from drtool.packing.bundle import LARGE_CHUNK_BYTES
from drtool.repository import writing
from drtool.repository.writing import AHEAD_MAX, Demand, PackSink, Writer

TARGETS = (TargetName("a/main"), TargetName("b/main"))


class Line:
    """Stands in for the targets: each put takes a while, and those under way at `a` are counted."""

    def __init__(self, put_s, *, near=False, refuses=frozenset()) -> None:
        self.put_s, self.is_near, self.refuses = put_s, near, refuses
        self.failures, self.lock = {}, Lock()
        self.now = self.most = self.puts = 0

    def near(self, _target):
        return self.is_near

    def online(self):
        return list(TARGETS)

    def writable(self, target):
        return target not in self.failures

    def fail_by(self, target, error):
        self.failures[target] = error.message

    def failed_before(self, target):
        return StoreError(self.failures[target], target=target)

    def wait_to_write(self, _targets, _attempt):
        return []

    def answered(self, _target):
        """Nothing waits here."""

    def store(self, target):
        self.target = target
        return self

    def put(self, name, data):
        with self.lock:
            self.puts += 1
            number = self.puts
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.put_s)
        with self.lock:
            self.now -= 1
        if number in self.refuses:
            raise TargetFull("no room left")


@pytest.fixture(autouse=True)
def small_packs(monkeypatch):
    monkeypatch.setattr("drtool.packing.pack.PACK_BYTES", 64 * 1024)


def run(line, packs=12, sites=1):
    """Store so many packs of one large chunk, and return those that were handed on."""
    keyring, written = Keyring.draw(RepositoryId(bytes(16))), []
    with closing(Writer(line)) as writer:
        demand = Demand(TARGETS[:sites], sites, sites, sites)
        sink = PackSink(keyring, writer, PackKind.DATA, lambda _pack: demand, written.append)
        try:
            for number in range(packs):
                sink.add(ChunkId(number.to_bytes(32, "big")), noise(LARGE_CHUNK_BYTES, number))
            sink.flush()
        finally:
            line.handed_on = len(written)
    return written


def test_a_slow_line_gets_several_packs_at_once_and_each_is_handed_on_in_order():
    line = Line(0.25)  # longer than a busy machine takes to fill a pack
    written = run(line)
    assert line.most == AHEAD_MAX
    assert [row.targets for row in written] == [TARGETS[:1]] * 12
    assert len({row.pack for row in written}) == 12


def test_a_directory_gets_one_after_the_other():
    line = Line(0.02, near=True)
    assert len(run(line)) == 12
    assert line.most == 1


def test_packs_under_way_when_one_failed_are_handed_on():
    line = Line(0.05, refuses={6})
    with pytest.raises(StoreError, match="0 of the 1 sites"):
        run(line)
    assert 6 <= line.puts < 6 + AHEAD_MAX
    assert line.handed_on == line.puts - 1


def test_buffers_are_used_again():
    made = []

    class Counted(writing.PackBuilder):
        def __init__(self, *arguments, **more) -> None:
            made.append(1)
            super().__init__(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "PackBuilder", Counted)
        run(Line(0.02), packs=20)
    assert len(made) <= AHEAD_MAX + 1
