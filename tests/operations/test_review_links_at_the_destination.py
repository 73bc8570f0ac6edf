"""Files that are hard links at the destination and none in the snapshot."""

import os
import stat

import pytest
from three_sites import fill


@pytest.fixture
def source(world):
    root = fill(world.root / "source", {"a": b"same text", "b": b"same text"})
    os.chmod(root / "a", 0o600)
    os.chmod(root / "b", 0o644)
    for name in "ab":
        os.utime(root / name, ns=(10**18, 10**18))
    world.backup(root)
    return root


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("overwrite", ["always", "if-changed"])
def test_two_files_that_are_one_at_the_destination_become_two_again(world, source, overwrite):
    out = fill(world.root / "out", {"a": b"same text"})
    os.utime(out / "a", ns=(10**18, 10**18))
    os.link(out / "a", out / "b")
    foreseen = world.restore(out, path=source, overwrite=overwrite, dry_run=True)
    result = world.restore(out, path=source, overwrite=overwrite)
    assert result.errors == []
    assert (foreseen.files, foreseen.bytes) == (result.files, result.bytes)
    assert (mode(out / "a"), mode(out / "b")) == (0o600, 0o644)
    assert (out / "a").stat().st_ino != (out / "b").stat().st_ino


def test_a_name_outside_of_the_restore_keeps_its_metadata(world, source):
    out = fill(world.root / "out", {"a": b"same text"})
    os.chmod(out / "a", 0o640)
    outside = world.root / "outside"
    os.link(out / "a", outside)
    assert world.restore(out, path=source, overwrite="always").errors == []
    assert mode(out / "a") == 0o600
    assert mode(outside) == 0o640
    assert outside.stat().st_nlink == 1
