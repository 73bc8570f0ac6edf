"""Readable data is read: from two copies damaged in different places, and never from a target that was replaced."""

import pytest
from three_sites import fill, noise, portrait

from drtool.errors import DrtoolError, StoreError, TargetOffline
from drtool.model import TargetName, pack_object, site_of
from drtool.packing.padding import size_class
from drtool.repository.spans import GRID_BYTES
from drtool.stores.local import LocalStore

MIB = 1024 * 1024


@pytest.mark.parametrize("places", [(0.2, 0.8), (0.8, 0.2)])
def test_two_copies_damaged_in_different_blocks_give_the_whole_pack(world, places):
    """A block that is bad in one copy says nothing about the other blocks of that copy."""
    source = fill(world.root / "source", {f"{i}": noise(MIB, i) for i in range(6)})
    world.backup(source)
    holders = [site for site in "abc" if any(path.stat().st_size > MIB for path in world.objects(site))]
    assert len(holders) == 2
    for site, place in zip(holders, places, strict=True):
        path = max(world.objects(site), key=lambda path: path.stat().st_size)
        data = bytearray(path.read_bytes())
        data[int(len(data) * place)] ^= 1
        path.write_bytes(data)
    result = world.restore(world.root / "out", path=source)
    assert result.errors == []
    assert portrait(world.root / "out") == portrait(source)


@pytest.mark.parametrize("how", ["empty", "another"])
def test_a_worker_writes_nowhere_but_to_the_target_that_was_opened(world, how):
    """Between opening the repository and the fork a disk may be unmounted. The files below its mount point are not the target."""
    with world.open() as repository:
        root = world.directory("a")
        root.rename(world.root / "unmounted")
        root.mkdir()
        if how == "another":
            (root / "drtool.json").write_bytes((world.directory("b") / "drtool.json").read_bytes())
        fresh = repository.targets.reopen()
        try:
            name = TargetName("a/main")
            assert not fresh.writable(name)
            with pytest.raises(TargetOffline):
                fresh.store(name)
            assert {site_of(online) for online in fresh.online()} == {"b", "c"}
        finally:
            fresh.close()


def test_a_bad_sector_beside_a_block_costs_that_block_nothing(world, monkeypatch):
    """Blocks are read with their surroundings, and alone where the disk cannot read the surroundings."""
    source = fill(world.root / "source", {f"{i}": noise(MIB, i) for i in range(4)})
    world.backup(source)
    with world.open() as repository:
        packs = [pack for reader in repository.index.readers() for pack in reader.packs if len(pack.blocks) > 3]
        pack = packs[0]
        start, _ = pack.span(1)
        get = LocalStore.get

        def failing(self, name, at=0, length=None):
            if name == pack_object(pack.pack) and at < start <= at + (length or 1 << 60) and at != start:
                raise StoreError("Input/output error")
            return get(self, name, at, length)

        monkeypatch.setattr(LocalStore, "get", failing)
        assert len(repository.objects.block(pack, 1)) == pack.blocks[1][2]
        with pytest.raises(DrtoolError, match="no good copy"):
            repository.objects.stretch(pack, 1, range(2))


def test_requests_to_a_target_reveal_no_chunk(world, monkeypatch):
    """A restore requests parts that begin and end on a grid, for any lengths of chunks."""
    source = fill(world.root / "source", {f"{i}": noise(3 * MIB + 4711 * i, i) for i in range(4)})
    world.backup(source)
    sizes = {path.stat().st_size for site in "abc" for path in world.objects(site)}
    assert sizes == set(map(size_class, sizes)), "packs have sizes of a few classes"
    asked = []
    get = LocalStore.get

    def noting(self, name, at=0, length=None):
        if name.startswith("packs/"):
            asked.append((at, length))
        return get(self, name, at, length)

    monkeypatch.setattr(LocalStore, "get", noting)
    with world.open() as repository:
        for reader in repository.index.readers():
            for pack in reader.packs:
                for block in range(len(pack.blocks)):
                    repository.objects.block(pack, block)
    assert asked
    for at, length in asked:
        assert at % GRID_BYTES == 0
        assert length % GRID_BYTES == 0 or at + length in sizes
