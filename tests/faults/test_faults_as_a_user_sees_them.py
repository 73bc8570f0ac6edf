"""Exit codes and messages of the command line during and after a full or read-only disk, and configured limits."""

import os
import random
import time

import pytest
from command_shell import shell_in
from turning_disks import RealDisk

FILES, FILE_BYTES = 12, 1 << 20


@pytest.fixture
def shell(place):
    """Sites a and c with two copies, and an arbiter. c is a disk of its own."""
    disk = RealDisk(place / "c")
    disk.mount()
    made = shell_in(place)
    targets = [word for site in "ac" for word in ("--target", f"{site}={place / site}")]
    assert made("init", *targets, "--copies", "2").code == 0
    tree = place / "tree"
    tree.mkdir()
    for number in range(FILES):
        (tree / f"{number}").write_bytes(random.Random(number).randbytes(FILE_BYTES))
    with (place / "drtool.yaml").open("a") as config:
        config.write("sources: {home: {paths: [tree]}}\n")
    yield made, disk
    disk.unmount()


def restores(shell):
    out = shell.directory / "out"
    assert shell("restore", "latest", "--to", os.fspath(out)).code == 0
    for number in range(FILES):
        (copy,) = out.rglob(f"{number}")
        assert copy.read_bytes() == (shell.directory / "tree" / f"{number}").read_bytes()


@pytest.mark.parametrize(
    ("turn", "words"), [("full", "no room left"), ("read_only", "is read-only; remount it for writing")]
)
def test_a_disk_that_refuses_writes_is_named_with_a_remedy_and_repaired(shell, turn, words):
    run, disk = shell
    disk.turn(turn)
    backup = run("backup")
    assert backup.code == 5
    assert "DEGRADED" in backup.out
    assert "target c/main" in backup.err
    assert words in backup.err
    restores(run)
    repair = run("repair")
    assert (repair.code, "c/main" in repair.out) == (5, True)
    assert run("prune").code == 0
    disk.mend()
    assert run("repair").code == 0
    assert run("verify", "--level", "full").code == 0
    assert run("backup").code == 0


@pytest.mark.thorough
def test_the_only_disk_completely_full_still_restores_and_gives_the_reason(shell, place):
    """No decision is possible there, so the exit code is 6. Everything works once there is space."""
    _, disk = shell
    (place / "alone").mkdir()
    alone = shell_in(place / "alone")
    assert alone("init", "--target", f"c={place / 'c' / 'alone'}").code == 0
    with (place / "alone" / "drtool.yaml").open("a") as config:
        config.write("sources: {home: {paths: [../tree]}}\n")
    assert alone("backup").code == 0
    disk.full()
    for words in (("backup",), ("prune",)):
        ran = alone(*words)
        assert ran.code == 6, (words, ran.err)
        assert "has no room left" in ran.err
        assert "free some space there" in ran.err
        assert "recover" not in ran.err
    assert alone("snapshots").code == 0
    assert alone("restore", "latest", "--to", os.fspath(place / "back")).code == 0
    disk.mend()
    assert alone("backup").code == 0
    assert alone("prune").code == 0
    assert alone("verify", "--level", "full").code == 0


@pytest.mark.thorough
def test_an_upload_limit_of_the_configuration_is_kept(shell):
    run, _ = shell
    for number in range(3, FILES):
        (run.directory / "tree" / f"{number}").unlink()
    with (run.directory / "drtool.yaml").open("a") as config:
        config.write("limits: {upload: 1MiB/s, workers: 1}\n")
    began = time.monotonic()
    assert run("backup").code == 0
    assert time.monotonic() - began > 2.0  # three of 1 MiB; the debt of the last object is not waited for
