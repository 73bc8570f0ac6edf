"""Trees are read from this host the second time, and damage to the files there never changes the result."""

import os
import resource
import shutil
import stat
import time

import pytest
from three_sites import World, fill, noise, portrait, settle

from drtool.errors import DrtoolError
from drtool.model import PackId
from drtool.operations.listing import ls
from drtool.packing import bundle
from drtool.repository import targets as targets_module
from drtool.repository.kept import SHARDS, KeptBlocks
from drtool.repository.targets import Targets
from drtool.stores.passing import PassingStore

READS: list[tuple[str, int, int | None]] = []


class Far(PassingStore):
    """A directory that acts like a remote target and records the reads of packs in this process."""

    def get(self, name, start=0, length=None):
        if name.startswith("packs/"):
            READS.append((name, start, length))
        return super().get(name, start, length)


@pytest.fixture(scope="module")
def stored(founded):
    """A snapshot with trees of many blocks, to be copied."""
    root = founded.root.parent / f"{founded.root.name}-kept"
    shutil.copytree(founded.root, root)
    world = World(root, keyrings=list(founded.keyrings))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "BUNDLE_BYTES", 16 * 1024)
        world.backup(fill(root / "source", {f"d{n % 40}/{noise(40, n).hex()}": b"" for n in range(4000)}))
    yield world
    shutil.rmtree(root)


@pytest.fixture
def far(stored, place, monkeypatch):
    """The same, as if all its sites were across a network, and nothing kept here yet."""
    shutil.copytree(stored.root, place, dirs_exist_ok=True, symlinks=True)
    shutil.rmtree(place / "cache", ignore_errors=True)
    plain = targets_module.open_store
    init = Targets.__init__.__defaults__
    monkeypatch.setattr(Targets.__init__, "__defaults__", (lambda spec: Far(plain(spec)), *init[1:]))
    monkeypatch.setattr(Targets, "near", lambda _self, _name: False)
    return World(place, keyrings=list(stored.keyrings))


def listed(world):
    """Everything in the snapshot, with how many reads of packs that took."""
    with world.open() as repository:
        (snapshot,) = repository.view.state.snapshots
        READS.clear()
        return ls(repository, snapshot, None, recursive=True).entries, len(READS)


def kept_files(world):
    return sorted(path for path in (world.root / "cache").glob("*/trees/*/*") if path.is_file())


def test_the_second_walk_reads_nothing_at_the_targets(far):
    entries, reads = listed(far)
    blocks = len(kept_files(far))
    assert len(entries) >= 4000
    assert 0 < reads < blocks / 2, (reads, blocks)
    assert listed(far) == (entries, 0)


def test_kept_blocks_are_sealed_and_private(far):
    listed(far)
    with far.open() as repository:
        (pack,) = [pack for pack in repository.index.packs() if pack.kind == 2]
    sealed = next(path for path in far.objects("a") if path.name == pack.pack.hex()).read_bytes()
    for path in kept_files(far):
        start, length = pack.span(int(path.name.rpartition("-")[2]))
        assert path.read_bytes() == sealed[start : start + length]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    directories = {
        parent for path in kept_files(far) for parent in path.parents if parent.is_relative_to(far.root / "cache")
    }
    assert {stat.S_IMODE(directory.stat().st_mode) for directory in directories} == {0o700}


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swapped(path):
    """Another block's bytes, of the same length, under this one's name."""
    path.write_bytes(noise(path.stat().st_size))


def is_a_directory(path):
    path.unlink()
    path.mkdir()


def is_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def is_a_link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize(
    "harm",
    [
        flipped,
        swapped,
        is_a_directory,
        is_a_pipe,
        is_a_link,
        lambda path: os.truncate(path, path.stat().st_size - 1),
        lambda path: os.truncate(path, 0),
        lambda path: path.write_bytes(noise(1 << 20)),
        lambda path: path.unlink(),
    ],
)
@pytest.mark.spread(4)
def test_a_file_that_is_not_the_block_is_dropped_and_read_again(far, harm):
    entries, _ = listed(far)
    for path in kept_files(far)[::5]:
        harm(path)
    again, reads = listed(far)
    assert again == entries
    assert reads > 0
    if harm is not is_a_directory:
        assert listed(far) == (entries, 0)


def test_a_block_of_another_pack_is_not_taken_for_it(far):
    entries, _ = listed(far)
    files = kept_files(far)
    texts = [path.read_bytes() for path in files]
    for path, text in zip(files, texts[1:] + texts[:1], strict=True):
        path.write_bytes(text)
    assert listed(far)[0] == entries


def test_the_cache_may_vanish_in_the_middle(far):
    with far.open() as repository:
        (snapshot,) = repository.view.state.snapshots
        rows = iter(range(10**9))
        plain = repository.trees

        def vanishing(chunk):
            if next(rows) % 7 == 3:
                shutil.rmtree(far.root / "cache")
            return plain(chunk)

        repository.__dict__["trees"] = vanishing
        entries = ls(repository, snapshot, None, recursive=True).entries
    assert entries == listed(far)[0]


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(far):
    entries, reads = listed(far)
    shutil.rmtree(far.root / "cache")
    (far.root / "cache").write_bytes(b"")
    again, reads_without = listed(far)
    assert again == entries
    assert reads_without <= 2 * reads  # neighbours are held in memory then
    assert (far.root / "cache").read_bytes() == b""


def test_a_directory_of_this_host_needs_no_copy(stored):
    with stored.open() as repository:
        (snapshot,) = repository.view.state.snapshots
        assert ls(repository, snapshot, None, recursive=True).entries
    assert kept_files(stored) == []


def test_a_query_of_a_site_is_not_answered_from_this_host(far):
    listed(far)
    for site in "abc":
        for path in far.objects(site):
            path.unlink()
    assert listed(far)[1] == 0
    with far.open() as repository:
        (snapshot,) = repository.view.state.snapshots
        with pytest.raises(DrtoolError, match="no good copy"):
            repository.chunks(snapshot.root)
        assert repository.trees(snapshot.root)
        repository.read_only_from(["a"])
        with pytest.raises(DrtoolError, match="no good copy"):
            repository.trees(snapshot.root)


def test_a_second_backup_reads_no_tree_of_the_first(far):
    source = far.root / "other"
    fill(source, {f"d{n % 9}/{n}": noise(10, n) for n in range(300)})
    settle(source)
    far.backup(source)
    fill(source, {"d3/new": b"new"})
    READS.clear()
    report = far.backup(source)
    assert READS == []
    assert (report.files.new, report.files.changed) == (1, 0)
    assert far.restore(far.root / "out", path=source).errors == []
    assert portrait(far.root / "out") == portrait(source)


def key(number):
    return PackId(number.to_bytes(2, "little") * 16), number % 5


def test_no_more_is_kept_than_promised_and_the_least_recently_used_goes_first(tmp_path):
    limit_bytes = SHARDS * 80 * 1024
    blocks = KeptBlocks(tmp_path / "trees", limit_bytes)
    used = key(0)
    assert blocks.put(used, noise(4000))
    for number in range(1, 1000):
        blocks.put(key(number), noise(4000, number))
        assert blocks.get(used, 4000) == noise(4000)
        time.sleep(0.0005)
    files = [path for path in (tmp_path / "trees").rglob("*") if path.is_file()]
    held_bytes = sum(path.stat().st_blocks * 512 for path in files)
    assert limit_bytes / 2 < held_bytes <= limit_bytes
    assert blocks.get(key(999), 4000) == noise(4000, 999)
    assert blocks.get(key(1), 4000) is None
    assert not blocks.put(key(1000), noise(30 * 1024))  # as much as a third of its shard


def test_a_full_disk_keeps_nothing_and_leaves_nothing_behind(tmp_path):
    blocks = KeptBlocks(tmp_path / "trees")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        assert not blocks.put(key(1), noise(4000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert blocks.get(key(1), 4000) is None
    assert [path for path in (tmp_path / "trees").rglob("*") if path.is_file()] == []
    assert blocks.put(key(1), noise(4000))


def test_concurrent_processes_keep_the_bound_and_remains_of_a_killed_one_are_removed(tmp_path):
    limit_bytes = SHARDS * 80 * 1024
    several = [KeptBlocks(tmp_path / "trees", limit_bytes) for _ in range(4)]
    for number in range(1200):
        several[number % 4].put(key(number), noise(4000, number))
    shard = tmp_path / "trees" / "0"
    old = shard / ".tmp-old"
    old.write_bytes(bytes(4000))
    os.utime(old, (0, 0))
    for number in range(1200, 2400):
        several[number % 4].put(key(number), noise(4000, number))
    held_bytes = sum(path.stat().st_blocks * 512 for path in (tmp_path / "trees").rglob("*") if path.is_file())
    assert held_bytes <= limit_bytes * 1.5  # each process looks again after an eighth
    assert not old.exists()
