"""`drtool verify` as text and JSON."""

import os
import shutil

import pytest
from command_shell import shell_in

from drtool.cli.commands import verify


@pytest.fixture
def shell(tmp_path):
    made = shell_in(tmp_path)
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "file").write_bytes(os.urandom(50_000))
    (tree / "sub/other").write_bytes(b"x" * 3000)
    (tree / "sub/link").symlink_to("other")
    places = [word for name in "abc" for word in ("--target", f"{name}={tmp_path}/{name}")]
    assert made("init", *places, "--copies", "3").code == 0
    assert made("backup", "tree").code == 0
    return made


def harm(shell, site):
    """Remove one pack and flip a bit in another."""
    first, second = sorted(path for path in (shell.directory / site / "packs").rglob("*") if path.is_file())[:2]
    first.unlink()
    data = bytearray(second.read_bytes())
    data[200] ^= 1
    second.write_bytes(data)
    return {f"packs/{path.parent.name}/{path.name}" for path in (first, second)}


def test_findings_are_repaired_and_reported(shell):
    names = harm(shell, "b")
    assert shell("verify", "--level", "full").code == 4
    done = shell("verify", "--level", "full", "--repair", "--json")
    assert done.code == 0
    assert {row["object"] for row in done.document["repaired"]} == names
    assert done.document["unrepairable"] == []
    assert shell("verify", "--level", "full").code == 0


def test_an_unrepairable_finding_keeps_exit_4(shell):
    for site in "abc":
        harm(shell, site)
    done = shell("verify", "--level", "full", "--repair", "--json")
    assert done.code == 4
    assert done.document["unrepairable"]


def test_rounds_are_reported(shell):
    done = shell("verify", "--sample", "2")
    assert done.code == 0
    assert "round 1" in done.out
    assert "the rest was never read" in done.out
    assert "at 95 % confidence" in done.out
    whole = shell("verify", "--budget", "5m", "--json")
    assert (whole.code, whole.document["level"]) == (0, "sample")
    assert all(row["finished"] for row in whole.document["rounds"])


def test_a_trial_restore_is_compared_and_removed(shell, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    shell.environ["TMPDIR"] = str(scratch)
    done = shell("verify", "--level", "restore", "--json")
    assert done.code == 0
    (row,) = done.document["restored"]
    assert (row["files"], row["bytes"]) == (3, 53_000)
    assert done.document["differing"] == []
    assert list(scratch.iterdir()) == []
    for site in "abc":
        shutil.rmtree(shell.directory / site / "packs")
    done = shell("verify", "--level", "restore", "--json")
    assert done.code == 4
    assert done.document["differing"]
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sample", "0"], "--sample 0"),
        (["--sample", "101%"], "--sample 101%"),
        (["--budget", "much"], "--budget much"),
        (["--budget", "0"], "--budget 0"),
        (["--level", "full", "--sample", "5%"], "not full"),
        (["--repair", "--manifest-from", "a"], "quorum"),
    ],
)
@pytest.mark.spread(4)
def test_invalid_options_exit_with_2(shell, words, said):
    done = shell("verify", *words, "--json")
    assert done.code == 2
    assert said in done.error["message"]


@pytest.mark.parametrize(
    ("word", "amount"),
    [
        ("20GiB", (20 << 30, None)),
        ("1000", (1000, None)),
        ("10m", (None, 600.0)),
        ("1.5h", (None, 5400.0)),
        ("9s", (None, 9.0)),
    ],
)
def test_a_budget_is_bytes_or_time(word, amount):
    assert verify._bytes_or_time(word) == amount


@pytest.mark.parametrize("lost", [1, 2])
def test_packs_that_only_an_unreadable_index_lists_are_reported_as_unchecked(tmp_path, lost):
    shell = shell_in(tmp_path)
    assert shell("init", "--target", f"a={tmp_path}/a").code == 0
    for number in range(2):
        (tmp_path / f"file{number}").write_bytes(os.urandom(5_000))
        assert shell("backup", f"file{number}").code == 0
    segments = list((tmp_path / "a" / "index").iterdir())
    for path in segments[:lost]:
        path.write_bytes(bytes(path.stat().st_size))
    fresh = {"DRTOOL_CACHE_DIR": str(tmp_path / "fresh")}
    done = shell("verify", "--level", "full", **fresh)
    assert done.code == 4
    what = "packs that only these list were not checked" if lost == 1 else "no pack was checked"
    assert f"{lost} of 2 index segments cannot be read, so {what}: drtool repair" in done.out
    document = shell("verify", "--json", **fresh).document
    assert (document["checked"]["segments"], document["checked"]["segments_read"]) == (2, 2 - lost)
