"""Holes: they are neither read nor written, take no time, and are holes again."""

import os

import pytest
from three_sites import fill, noise

from drtool.operations.backup import feeding
from drtool.operations.restore import RestoreRequest, destination_of
from drtool.operations.verify import differences
from drtool.trees import find_entry, read_content

MIB = 2**20
HUGE = 16 * 2**30


def sparse(path, parts, size_bytes):
    """A file with data at the given places, and holes everywhere else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for offset, data in parts.items():
            file.seek(offset)
            file.write(data)
        file.truncate(size_bytes)
    return path


def content_of(world, path):
    with world.open() as repository:
        repository.load_index()
        row = max(repository.view.state.snapshots, key=lambda row: row.sequence)
        return list(read_content(find_entry(row.root, os.fsencode(path), repository.trees), repository.trees))


LAYOUTS = {
    "hole only": ({}, 70 * MIB),
    "at the end": ({0: noise(3 * MIB + 17)}, 64 * MIB),
    "at the beginning": ({50 * MIB + 4096: noise(100_000)}, 50 * MIB + 4096 + 100_000),
    "between": ({0: noise(5_000), 30 * MIB: noise(5 * MIB, 1), 90 * MIB: b"x"}, 100 * MIB),
    "ends in zeros": ({0: noise(MIB) + bytes(3 * MIB), 40 * MIB: bytes(MIB) + noise(MIB, 2)}, 42 * MIB),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.spread(4)
def test_a_file_has_the_chunks_that_reading_its_holes_gives(world, monkeypatch, layout):
    path = sparse(world.root / "source/file", *LAYOUTS[layout])
    assert world.backup(path).errors == []
    skipped = content_of(world, path)
    os.utime(path, (1, 1))
    monkeypatch.setattr(feeding, "HOLE_BYTES", 1 << 62)
    assert world.backup(path).files.changed == 1
    assert content_of(world, path) == skipped
    assert world.restore(world.root / "out", path=path.parent).errors == []
    assert (world.root / "out/file").stat().st_blocks <= path.stat().st_blocks
    with path.open("rb") as one, (world.root / "out/file").open("rb") as other:
        while piece := one.read(4 * MIB):
            assert piece == other.read(4 * MIB)
        assert not other.read(1)


@pytest.fixture
def huge(world):
    path = sparse(world.root / "source/huge", {0: noise(9_000), HUGE // 2: noise(8_192, 1)}, HUGE)
    report = world.backup(path)
    assert (report.errors, report.processed_bytes) == ([], HUGE)
    return path


def look(world, path, to):
    with world.open() as repository:
        repository.load_index()
        (row,) = repository.view.state.snapshots
        request = RestoreRequest(snapshot=row, to=os.fsencode(to), path=os.fsencode(path.parent), overwrite="always")
        with destination_of(repository, request) as root:
            return [found.reason for found in differences(repository, row, root, request.path)]


def test_a_huge_hole_takes_no_time_and_is_a_hole_again(world, huge):
    result = world.restore(world.root / "out", path=huge.parent)
    assert (result.errors, result.bytes) == ([], HUGE)
    assert result.written_bytes < MIB
    found = (world.root / "out/huge").stat()
    assert (found.st_size, found.st_blocks) == (HUGE, huge.stat().st_blocks)
    assert look(world, huge, world.root / "out") == []
    again = world.restore(world.root / "out", path=huge.parent, overwrite="always")
    assert (again.errors, again.written_bytes) == ([], 0)


@pytest.mark.parametrize("offset", [0, HUGE // 4, HUGE - 1])
@pytest.mark.spread(3)
def test_data_in_a_former_hole_is_found_and_replaced(world, huge, offset):
    out = world.root / "out"
    world.restore(out, path=huge.parent)
    before = (out / "huge").stat()
    with (out / "huge").open("r+b") as file:
        file.seek(offset)
        file.write(b"spoilt"[: HUGE - offset])
    os.utime(out / "huge", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert look(world, huge, out) == ["its content differs"]
    assert world.restore(out, path=huge.parent, overwrite="always").errors == []
    assert look(world, huge, out) == []


@pytest.mark.parametrize("size_bytes", [3 * MIB, 40 * MIB])
def test_an_image_that_is_written_to_while_it_is_read_keeps_its_holes(world, monkeypatch, size_bytes):
    path = sparse(world.root / "source/image", {0: noise(MIB)}, size_bytes)
    taking = feeding.Feeder.take

    def take_after_a_write(self, found):
        if found.node.path == os.fsencode(path.parent):
            with path.open("r+b") as file:
                file.write(b"changed")
        return taking(self, found)

    monkeypatch.setattr(feeding.Feeder, "take", take_after_a_write)
    assert world.backup(path).errors == []
    assert world.restore(world.root / "out", path=path.parent).errors == []
    out = world.root / "out/image"
    assert out.read_bytes() == path.read_bytes()
    assert out.stat().st_blocks <= path.stat().st_blocks


def test_hard_links_of_a_sparse_file_keep_its_holes(world):
    path = sparse(world.root / "source/one", {30 * MIB: noise(MIB)}, 60 * MIB)
    os.link(path, path.parent / "two")
    world.backup(path.parent)
    assert world.restore(world.root / "out", path=path.parent).errors == []
    found = (world.root / "out/one").stat()
    assert (found.st_nlink, found.st_blocks) == (2, path.stat().st_blocks)


def test_a_read_error_behind_a_hole_leaves_the_others_intact(world, monkeypatch):
    path = sparse(world.root / "source/bad", {60 * MIB: noise(MIB)}, 80 * MIB)
    fill(path.parent, {"good": noise(5 * MIB, 3)})
    reading = feeding._Prefix.readinto

    def fail_behind(self, buffer):
        if self.offset > 50 * MIB:
            raise OSError(5, "Input/output error")
        return reading(self, buffer)

    monkeypatch.setattr(feeding._Prefix, "readinto", fail_behind)
    assert [row.path for row in world.backup(path.parent).errors] == [str(path)]
    assert [row.path for row in world.restore(world.root / "out", path=path.parent).errors] == [str(path)]
    assert os.listdir(world.root / "out") == ["good"]
