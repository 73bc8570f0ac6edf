"""What can be had is had: two copies that are damaged in different places; a target that is no longer the one we met."""

import pytest
from three_sites import fill, noise, portrait

from drtool.errors import TargetOffline
from drtool.model import TargetName, site_of

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
    """Between opening the repository and the fork a disk may be unmounted; what is below its mount point is not the target."""
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
