"""Blocks fetched ahead: neighbours together, several at once, bounded. Failed ones are requested in the ordinary way."""

import fcntl
import os
import resource
import socket
import time
from threading import Event, Lock

import pytest
from three_sites import World, fill, noise, portrait

from drtool.errors import TargetOffline
from drtool.model import PackId, TargetName
from drtool.packing import Location, SegmentPack
from drtool.repository import ahead as ahead_module
from drtool.repository import spans as spans_module
from drtool.repository import targets as targets_module
from drtool.repository.ahead import AHEAD_BYTES, REQUESTS_MAX, ReadAhead
from drtool.repository.pace import Pace
from drtool.repository.spans import GRID_BYTES, SPAN_BYTES, on_grid, spans_of
from drtool.repository.targets import Targets
from drtool.repository.workers import Channel
from drtool.stores.faults import Faults, FaultyStore
from drtool.stores.passing import PassingStore

BLOCK = 1 << 20
SLOW, FAST = TargetName("slow/x"), TargetName("fast/x")


def pack_of(number, blocks=16, targets=(SLOW, FAST)):
    return SegmentPack(PackId(bytes([number]) * 32), 0, 1, targets, ((BLOCK, 0, BLOCK),) * blocks, b"")


def places(pack, *blocks):
    return [Location(pack, block, 0, 10) for block in blocks]


class Servers:
    """Returns bytes that contain their offset in the pack, after a set delay. Counts requests under way."""

    def __init__(self, **delays):
        self.delays, self.lock, self.calls = delays, Lock(), []
        self.now = self.most = self.bytes_now = self.bytes_most = 0
        self.gate = Event()

    def near(self, _target):
        return False

    def store(self, target):
        return _Server(self, target)


class _Server:
    def __init__(self, servers, target):
        self.servers, self.target = servers, target

    def get(self, name, start, length):
        servers, site = self.servers, self.target.partition("/")[0]
        with servers.lock:
            servers.calls.append((site, start, length))
            servers.now += 1
            servers.most = max(servers.most, servers.now)
        delay = servers.delays[site]
        if delay == "hangs":
            servers.gate.wait(20)
        elif delay == "fails":
            servers.now -= 1
            raise TargetOffline("gone")
        elif delay == "breaks":
            servers.now -= 1
            raise ZeroDivisionError
        else:
            time.sleep(delay)
        with servers.lock:
            servers.now -= 1
        data = bytearray(length)
        for at in range(48, start + length - 8, BLOCK):
            if at >= start:
                data[at - start : at - start + 8] = at.to_bytes(8, "big")
        return bytes(data)


def reader(servers):
    return ReadAhead(servers, lambda pack: pack.targets, Pace())


def settled(ahead, timeout_s=5.0):
    """Waits until everything that was asked has been answered."""
    deadline = time.monotonic() + timeout_s
    while ahead.held_bytes and time.monotonic() < deadline:
        time.sleep(0.01)
        ahead.expect([])


def test_neighbours_are_one_request():
    spans = list(spans_of(places(pack_of(1), *range(16)), lambda _key: False))
    assert [(span.start, span.size_bytes) for span in spans] == [(48, SPAN_BYTES), (48 + SPAN_BYTES, SPAN_BYTES)]
    spans = list(spans_of(places(pack_of(1), 0, 0, 5, 6, 2), lambda _key: False))
    assert [sorted(span.blocks) for span in spans] == [[0], [2], [5, 6]]
    assert list(spans_of(places(pack_of(1), 3), lambda _key: True)) == []


def test_everything_comes_and_no_more_than_promised_is_held():
    servers = Servers(slow=0.02, fast=0.02)
    ahead = reader(servers)
    packs = [pack_of(number) for number in range(8)]
    expected = [key for pack in packs for key in ahead.expect(places(pack, *range(16)))]
    assert len(expected) == 8 * 16
    for pack in packs:
        for block in range(16):
            assert ahead.held_bytes <= AHEAD_BYTES
            data = ahead.take(pack, block)
            assert len(data) == BLOCK
            assert int.from_bytes(data[:8], "big") == 48 + block * BLOCK
    assert len(servers.calls) == 16
    assert 1 < servers.most <= REQUESTS_MAX
    assert ahead.take(packs[0], 0) is None
    ahead.close()


def test_the_faster_one_is_asked_more_often():
    servers = Servers(slow=0.3, fast=0.01)
    ahead = reader(servers)
    for number in range(20):
        pack = pack_of(number, blocks=1)
        ahead.expect(places(pack, 0))
        assert ahead.take(pack, 0)
    assert sum(site == "slow" for site, *_ in servers.calls) <= 3
    ahead.close()


def test_one_that_hangs_is_asked_for_elsewhere_as_well(monkeypatch):
    monkeypatch.setattr(ahead_module, "HEDGE_FROM_S", 0.1)
    servers = Servers(slow="hangs", fast=0.01)
    ahead = reader(servers)
    for number in range(10):
        pack = pack_of(number, blocks=1)
        ahead.expect(places(pack, 0))
        assert ahead.take(pack, 0)
    assert 1 <= ahead.hedges <= 4
    servers.gate.set()
    ahead.close()


def test_failed_and_dropped_blocks_are_not_held():
    servers = Servers(slow="fails", fast="fails")
    ahead = reader(servers)
    pack = pack_of(1)
    keys = ahead.expect(places(pack, *range(16)))
    assert ahead.take(pack, 0) is None
    ahead.drop(keys)
    settled(ahead)
    assert (ahead.held_bytes, ahead._under_way, list(ahead._waiting), ahead._expected) == (0, [], [], {})
    ahead.close()


def test_a_block_dropped_while_under_way_counts_until_it_is_answered():
    servers = Servers(slow="hangs", fast="hangs")
    pace = Pace()
    ahead = ReadAhead(servers, lambda pack: pack.targets, pace)
    for number in range(20):
        ahead.drop(ahead.expect(places(pack_of(number, blocks=8), *range(8))))
        assert ahead.held_bytes <= AHEAD_BYTES
    assert servers.most <= REQUESTS_MAX
    assert ahead.requests <= REQUESTS_MAX
    asked_bytes = sum(size for _, _, size in servers.calls)
    assert asked_bytes - 2 * GRID_BYTES * len(servers.calls) <= ahead.held_bytes <= asked_bytes
    servers.gate.set()
    settled(ahead)
    assert ahead.held_bytes == 0
    assert [known.under_way for known in pace._known.values()] == [0] * len(pace._known)
    ahead.close()


def test_the_loser_of_a_hedge_counts_until_it_is_answered(monkeypatch):
    monkeypatch.setattr(ahead_module, "HEDGE_FROM_S", 0.05)
    servers = Servers(slow="hangs", fast=0.01)
    ahead = reader(servers)
    pack = pack_of(1, blocks=8)
    ahead.expect(places(pack, *range(8)))
    assert all(ahead.take(pack, block) for block in range(8))
    assert ahead.hedges == 1
    assert ahead.held_bytes == 8 * BLOCK
    servers.gate.set()
    settled(ahead)
    assert ahead.held_bytes == 0
    ahead.close()


def test_one_that_fails_goes_last_and_is_tried_again_now_and_then():
    servers = Servers(slow="fails", fast=0.001)
    ahead = reader(servers)
    for number in range(60):
        pack = pack_of(number, blocks=1)
        ahead.expect(places(pack, 0))
        assert ahead.take(pack, 0), number
    asked = [site for site, *_ in servers.calls]
    assert 2 <= asked.count("slow") <= 4
    assert asked.count("fast") == 60
    ahead.close()


@pytest.mark.parametrize("blocks", [1, 8])
def test_a_hanging_target_does_not_stop_blocks_of_others(monkeypatch, blocks):
    monkeypatch.setattr(ahead_module, "HEDGE_FROM_S", 0.05)
    servers = Servers(slow="hangs", fast=0.001)
    ahead = reader(servers)
    packs = [pack_of(number, blocks) for number in range(40)]
    for now, later in zip(packs, packs[4:] + packs[:4], strict=True):
        ahead.expect(places(now, *range(blocks)))
        keys = ahead.expect(places(later, *range(blocks)))
        assert all(ahead.take(now, block) for block in range(blocks))
        assert ahead.held_bytes <= AHEAD_BYTES
        ahead.drop(keys)
    assert ahead.hedges <= 8
    assert sum(site == "slow" for site, *_ in servers.calls) <= 8
    servers.gate.set()
    ahead.close()


def test_a_bug_of_a_store_is_met_where_the_block_is_needed():
    servers = Servers(slow="breaks", fast=0.001)
    ahead = reader(servers)
    pack = pack_of(1, blocks=1)
    ahead.expect(places(pack, 0))
    assert ahead.take(pack, 0) is None
    assert [site for site, *_ in servers.calls] == ["slow"]
    ahead.close()


class Far(PassingStore):
    """A directory that acts like a remote target and counts the reads of packs."""

    def get(self, name, start=0, length=None):
        if name.startswith("packs/"):
            with open(os.environ["COUNTED_AT"], "a") as file:
                file.write(f"{name[-6:]} {start} {length}\n")
        return super().get(name, start, length)


@pytest.fixture
def far(world, monkeypatch, tmp_path):
    """Make all sites of the world act like servers. Workers count into a file."""
    plain = targets_module.open_store
    monkeypatch.setenv("COUNTED_AT", str(tmp_path / "counted"))
    init = Targets.__init__.__defaults__
    monkeypatch.setattr(Targets.__init__, "__defaults__", (lambda spec: Far(plain(spec)), *init[1:]))
    monkeypatch.setattr(Targets, "near", lambda _self, _name: False)
    return world, tmp_path / "counted"


def test_a_restore_across_a_network_asks_for_neighbours_together(far):
    world, counted = far
    source = fill(world.root / "source", {"large": noise(40_000_000, 1), "small": noise(300_000, 2)})
    world.backup(source)
    counted.unlink(missing_ok=True)
    assert world.restore(world.root / "out", path=source).errors == []
    assert portrait(world.root / "out") == portrait(source)
    lengths = [int(word) for word in counted.read_text().split()[2::3]]
    assert len(lengths) < 20
    assert max(lengths) > 4 << 20


def test_a_damaged_block_in_the_midst_is_read_from_another_site(far):
    world, _ = far
    source = fill(world.root / "source", {"large": noise(40_000_000, 3)})
    world.backup(source)
    for path in world.objects("a") + world.objects("b"):
        data = bytearray(path.read_bytes())
        for at in range(100_000, len(data), 3_000_000):
            data[at] ^= 1 if path.parts[-4].endswith("a") else 0
        path.write_bytes(data)
    assert world.restore(world.root / "out", path=source).errors == []
    assert portrait(world.root / "out") == portrait(source)


PACKS_OF = {"a": Faults(offline=True), "b": Faults(delay_s=0.2), "c": Faults()}
"""Faults in the packs of each site. The rest of each site is intact."""


class Uneven(Far):
    def __init__(self, inner, site):
        super().__init__(inner)
        self.packs, self.site = FaultyStore(inner, PACKS_OF[site]), site

    def get(self, name, start=0, length=None):
        if not name.startswith("packs/"):
            return self.inner.get(name, start, length)
        with open(os.environ["COUNTED_AT"], "a") as file:
            file.write(f"{self.site}\n")
        return self.packs.get(name, start, length)


@pytest.mark.thorough
def test_a_dead_a_slow_and_a_good_site_restore_everything_from_the_good_one(place, monkeypatch):
    world = World(place).found(copies=3)
    source = fill(
        place / "source", {f"d{n % 7}/{n}": noise(30_000, n) for n in range(900)} | {"l": noise(30_000_000, 1)}
    )
    world.backup(source)
    plain = targets_module.open_store
    monkeypatch.setenv("COUNTED_AT", str(place / "counted"))
    init = Targets.__init__.__defaults__
    uneven = (lambda spec: Uneven(plain(spec), spec.name.partition("/")[0]), *init[1:])
    monkeypatch.setattr(Targets.__init__, "__defaults__", uneven)
    monkeypatch.setattr(Targets, "near", lambda _self, _name: False)
    monkeypatch.setattr(spans_module, "SPAN_BYTES", 1 << 20)  # makes many requests necessary
    began_at = time.monotonic()
    assert world.restore(place / "out", path=source).errors == []
    assert time.monotonic() - began_at < 30
    assert portrait(place / "out") == portrait(source)
    asked = (place / "counted").read_text().split()
    assert asked.count("c") > 2 * (asked.count("a") + asked.count("b")), {site: asked.count(site) for site in "abc"}


def test_many_small_files_are_fetched_in_long_stretches(far):
    world, counted = far
    source = fill(world.root / "source", {f"d{n % 9}/{n}": noise(20_000, n) for n in range(1500)})
    world.backup(source)
    counted.unlink(missing_ok=True)
    assert world.restore(world.root / "out", path=source).errors == []
    assert portrait(world.root / "out") == portrait(source)
    lengths = [int(word) for word in counted.read_text().split()[2::3]]
    assert len([length for length in lengths if length > 1_000_000]) * 2 > len(lengths)
    assert len(lengths) <= 16


def test_whether_more_waits_is_seen_on_a_descriptor_of_any_number():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    near, far_end = socket.socketpair()
    try:
        with near, far_end, socket.socket(fileno=fcntl.fcntl(near, fcntl.F_DUPFD_CLOEXEC, 2000)) as high:
            channel = Channel(high, None)
            assert not channel.has_more()
            far_end.send(b"x")
            assert channel.has_more()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_target_sees_no_end_of_a_block():
    """Requests begin and end on the grid or with the pack. No byte is left out, and few are read in vain."""
    pack = SegmentPack(PackId(bytes(32)), 48 + 3 * 700_001 + 100, 1, (), ((700_001, 0, 1),) * 3, b"")
    for block in range(3):
        start, length = pack.span(block)
        first, last = on_grid(pack, start, start + length)
        assert first <= start < start + length <= last <= pack.size_bytes
        assert first % GRID_BYTES == 0
        assert last % GRID_BYTES == 0 or last == pack.size_bytes
        assert last - first < length + 2 * GRID_BYTES
