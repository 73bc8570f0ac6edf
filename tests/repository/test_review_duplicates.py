"""A chunk that was stored twice, because its first pack was lost, is found where it is, however often segments were folded."""

import pytest
from three_sites import fill, noise, portrait, stored_twice

from drtool.repository.index import MERGE_AT


def lose_data_packs(world, source):
    """Every pack that is there now, at every site, except the trees'."""
    with world.open() as repository:
        data = {pack.pack.hex() for pack in repository.index.packs() if pack.kind == 1}
    lost = [path for site in "abc" for path in world.objects(site) if path.name in data]
    for path in lost:
        path.unlink()
    return {path.name for path in lost}


@pytest.mark.thorough
def test_data_stored_again_stays_restorable_when_its_segments_are_folded(world):
    """The rows of the lost pack come first in the folded segment and must not hide those of the existing pack."""
    source = fill(world.root / "source", {"file": noise(30_000)})
    world.backup(source)
    assert lose_data_packs(world, source)
    assert world.backup(source).added_bytes >= 30_000
    for number in range(2 * MERGE_AT):
        fill(source, {f"{number:02}": noise(3_000, number + 1)})
        assert world.backup(source).added_bytes < 30_000, number
    with world.open() as repository:
        assert len(repository.view.state.segments) < MERGE_AT
    result = world.restore(world.root / "out", path=source)
    assert result.errors == []
    assert portrait(world.root / "out") == portrait(source)


@pytest.mark.parametrize("damaged", [0, 1])
def test_a_chunk_damaged_everywhere_in_one_pack_is_read_from_the_other(world, damaged):
    source = fill(world.root / "source", {"file": noise(30_000)})
    world.backup(source)
    harmed = stored_twice(world, source)[damaged]
    assert harmed
    for site in "abc":
        for path in world.objects(site):
            if path.name in harmed:
                path.write_bytes(bytes(path.stat().st_size))
    for row in world.snapshots():
        assert world.restore(world.root / row.id.hex(), row, path=source).errors == []
        assert portrait(world.root / row.id.hex()) == portrait(source)
