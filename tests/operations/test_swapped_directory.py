"""A directory that is swapped during the backup: other content is never stored under its name."""

import os

import pytest
from three_sites import fill, noise

from drtool.operations.backup import feeding
from drtool.operations.backup.worker import SMALL_FILE_BYTES, BackupWorker


@pytest.fixture
def tree(world):
    fill(world.root / "elsewhere", {"file": b"secret", "big": noise(SMALL_FILE_BYTES + 1, 3)})
    return fill(world.root / "source", {"d/file": b"harmless", "d/big": noise(SMALL_FILE_BYTES + 1, 4), "e": b"x"})


@pytest.mark.parametrize("name", ["file", "big"])
def test_a_directory_swapped_for_a_symlink_is_not_followed(world, tree, monkeypatch, name):
    (tree / "d" / ("big" if name == "file" else "file")).unlink()

    def swap():
        if not (tree / "d").is_symlink():
            os.rename(tree / "d", world.root / "aside")
            os.symlink(world.root / "elsewhere", tree / "d")

    reading = BackupWorker._directory

    def read_after_the_swap(self, directory):
        swap()
        return reading(self, directory)

    taking = feeding.Feeder._large

    def take_after_the_swap(self, node, index, *, follow):
        swap()
        return taking(self, node, index, follow=follow)

    monkeypatch.setattr(BackupWorker, "_directory", read_after_the_swap)
    monkeypatch.setattr(feeding.Feeder, "_large", take_after_the_swap)
    report = world.backup(tree)
    assert [row.path for row in report.errors] == [str(tree / "d" / name)]
    result = world.restore(world.root / "out", path=tree)
    assert [row.path for row in result.errors] == [str(tree / "d" / name)]
    assert not os.listdir(world.root / "out/d")
