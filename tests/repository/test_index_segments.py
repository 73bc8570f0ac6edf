"""Index segments: cached, rebuilt when wrong, merged without losing a chunk."""

import shutil

import pytest
from three_sites import fill, noise, portrait

from drtool.errors import Rejected
from drtool.manifest.records import SegmentRef
from drtool.model import SegmentId
from drtool.repository.index import MERGE_AT, size_class, to_merge
from drtool.repository.session import SEGMENTS_CHANGED, WriterSession


def cached(world):
    return [path for path in (world.root / "cache").rglob("segments/*") if path.is_file()]


def restored(out, source):
    """Return the path of a restored source below the destination."""
    return out.joinpath(*source.parts[1:])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "harm", [lambda path: path.unlink(), flip, cut, empty], ids=["deleted", "flipped", "cut", "empty"]
)
@pytest.mark.spread(4)
def test_a_cached_segment_that_is_wrong_is_rebuilt(world, harm):
    source = fill(world.root / "source", {f"{i}": noise(20_000, i) for i in range(5)})
    world.backup(source)
    world.restore(world.root / "out")
    assert cached(world)
    for path in cached(world):
        harm(path)
    assert world.backup(source).added_bytes < 2_000
    assert world.restore(world.root / "again").errors == []
    assert portrait(restored(world.root / "again", source)) == portrait(source)


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(world):
    source = fill(world.root / "source", {"file": noise(50_000)})
    world.backup(source)
    shutil.rmtree(world.root / "cache", ignore_errors=True)
    (world.root / "cache").write_bytes(b"a file where the directory should be")
    assert world.backup(source).added_bytes < 2_000
    assert world.restore(world.root / "out").errors == []


def test_many_small_backups_are_merged_and_every_chunk_stays_findable(world):
    source = world.root / "source"
    with world.open() as repository:
        for number in range(2 * MERGE_AT + 2):
            fill(source, {f"{number:02}": noise(3_000, number)})
            world.run_backup(repository, source)
            assert len(repository.view.state.segments) < MERGE_AT
    assert world.restore(world.root / "out").errors == []
    assert portrait(restored(world.root / "out", source)) == portrait(source)
    oldest = world.snapshots()[0]
    assert world.restore(world.root / "first", oldest).files == 1
    result = world.verify()
    assert (result.missing, result.damaged, result.unreferenced.packs) == ([], [], 0)


def test_two_runs_that_fold_the_same_segments_both_commit(world, monkeypatch):
    source = world.root / "source"
    for number in range(MERGE_AT - 1):
        world.backup(fill(source, {f"{number}": noise(3_000, number)}))
    assert len(world.view().state.segments) == MERGE_AT - 1
    rejections = []
    add = WriterSession._add

    def overtaken(session, snapshot, segments, replaces):
        if replaces and not rejections:
            rejections.append("")
            world.backup(fill(world.root / "other", {"file": noise(4_000, 99)}))
        try:
            return add(session, snapshot, segments, replaces)
        except Rejected as error:
            rejections.append(error.reason)
            raise

    monkeypatch.setattr(WriterSession, "_add", overtaken)
    world.backup(fill(source, {"last": noise(3_000, 50)}))
    assert rejections == ["", SEGMENTS_CHANGED]
    assert len(world.snapshots()) == MERGE_AT + 1
    newest = world.snapshots()[-1]
    assert world.restore(world.root / "out", newest).errors == []
    assert portrait(restored(world.root / "out", source)) == portrait(source)


def ref(number, rows):
    return SegmentRef(SegmentId(number.to_bytes(32, "big")), rows * 48, rows, 1)


def test_a_merge_that_fills_the_next_class_merges_that_as_well():
    small = [ref(number, 4000) for number in range(MERGE_AT - 1)]
    larger = [ref(100 + number, 5000) for number in range(MERGE_AT - 1)]
    assert to_merge(small[:-1], 10, 10**9) == []
    assert to_merge(small, 10, 10**9) == small
    assert set(to_merge(small + larger, 4000, 10**9)) == {*small, *larger}


def test_a_merge_never_exceeds_the_limit_of_a_segment():
    small = [ref(number, 4000) for number in range(MERGE_AT)]
    assert to_merge(small, 4000, 20_000) == []


def test_classes_grow_by_the_merging_factor():
    assert [size_class(rows) for rows in (0, 4095, 4096, 32767, 32768)] == [0, 0, 1, 1, 2]


def test_a_segment_lost_at_one_site_is_read_from_another(world):
    source = fill(world.root / "source", {"file": noise(30_000)})
    world.backup(source)
    for path in cached(world):
        path.unlink()
    for path in world.objects("a", "index"):
        path.unlink()
    flip(world.objects("b", "index")[0])
    assert world.restore(world.root / "out").errors == []


def test_a_segment_lost_everywhere_is_said_and_its_chunks_are_stored_again(world):
    source = fill(world.root / "source", {"file": noise(30_000)})
    world.backup(source)
    for path in [*cached(world), *(path for site in "abc" for path in world.objects(site, "index"))]:
        path.unlink()
    report = world.backup(source)
    assert report.added_bytes >= 30_000
    assert world.restore(world.root / "out").errors == []
    assert any("index segment" in problem for problem in world.status().problems)
