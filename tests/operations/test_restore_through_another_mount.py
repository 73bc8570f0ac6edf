"""A restore through a second mount of the same directory is in place, and spares the repository's own directories."""

import os
import shutil
import subprocess

import pytest
from three_sites import World, fill

from drtool.operations.restore import RestoreRequest, destination_of


@pytest.fixture
def mounted(tmp_path):
    """Mount a directory a second time."""
    points = []

    def bind(directory):
        if os.geteuid() != 0:
            pytest.skip("only root mounts")
        point = tmp_path / "point"
        point.mkdir()
        tried = subprocess.run(["mount", "--bind", directory, point], capture_output=True, text=True, check=False)
        if tried.returncode:
            pytest.skip(f"nothing can be mounted here: {tried.stderr.strip()}")
        points.append(point)
        return point

    yield bind
    for point in points:
        subprocess.run(["umount", point], check=True)


def test_it_goes_through_the_links_that_were_there(world, mounted):
    top = fill(world.root / "top", {"usr/lib/modules/a.ko": b"module", "usr/lib/libc": b"libc"})
    (top / "lib").symlink_to("usr/lib")
    world.backup(top / "lib/modules")
    (top / "usr/lib/modules/a.ko").write_bytes(b"broken")
    point = mounted(top)
    with world.open() as repository:
        request = RestoreRequest(snapshot=world.snapshots()[-1], to=bytes(point), path=os.fsencode(top))
        with destination_of(repository, request) as root:
            assert root.is_in_place
    result = world.restore(point, path=top, overwrite="always")
    assert result.errors == []
    assert os.readlink(top / "lib") == "usr/lib"
    assert (top / "usr/lib/modules/a.ko").read_bytes() == b"module"


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("backed_up", [True, False], ids=["backed up", "not backed up"])
def test_a_repository_that_lies_there_is_not_deleted(founded, mounted, tmp_path, dry_run, backed_up):
    data = tmp_path / "data"
    shutil.copytree(founded.root, data / "repository", symlinks=True)
    world = World(data / "repository", keyrings=founded.keyrings)
    fill(data, {"file": b"1"})
    if backed_up:
        world.backup(data)
    else:
        world.backup(data, excludes=(f"{data}/repository",))
    fill(data, {"extra": b"2"})
    before = sorted(path for path in (data / "repository").rglob("*") if "packs" in path.parts)
    assert before
    point = mounted(data)
    result = world.restore(point, path=data, overwrite="never", delete=True, dry_run=dry_run)
    after = sorted(path for path in (data / "repository").rglob("*") if "packs" in path.parts)
    assert set(before) <= set(after)
    assert (data / "extra").exists() == dry_run
    assert result.deleted == 1
    assert world.snapshots() != []


def test_the_same_place_under_a_link_is_in_place_and_another_is_not(world, tmp_path):
    source = fill(world.root / "source", {"x": b"1"})
    world.backup(source)
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "other").mkdir()
    for to, in_place in ((tmp_path / "link", True), (source, True), (tmp_path / "other", False)):
        with world.open() as repository:
            request = RestoreRequest(snapshot=world.snapshots()[-1], to=bytes(to), path=os.fsencode(source))
            with destination_of(repository, request) as root:
                assert root.is_in_place == in_place
