"""`drtool survive` as text and JSON, and the warnings of `status` about it."""

import os

import pytest
from command_shell import shell_in


@pytest.fixture
def shell(tmp_path):
    made = shell_in(tmp_path)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(os.urandom(5000))
    places = [word for name in "abc" for word in ("--target", f"{name}={tmp_path}/{name}")]
    assert made("init", *places, "--copies", "3").code == 0
    assert made("backup", "tree").code == 0
    return made


def test_each_site_and_pair_is_shown_and_a_named_loss_alone(shell):
    done = shell("survive")
    assert done.code == 0
    assert "a + b" in done.out
    assert done.out.count("1 of 1") == 6
    named = shell("survive", "--lose", "a", "--lose", "b/main", "--json")
    assert named.code == 0
    assert (named.document["lost"], named.document["scenarios"]) == (["a", "b/main"], [])
    assert named.document["quorum"] == {"needed": 2, "reachable": 1}
    assert "read-only (1 of 2 voters)" in shell("survive", "--lose", "a", "--lose", "b").out
    assert "catalogue lost" in shell("survive", "--lose", "a", "--lose", "b", "--lose", "c").out


def test_a_loss_that_copies_should_cover_gives_exit_7_and_status_reports_it(shell):
    for site in "ab":
        for path in (shell.directory / site / "packs").rglob("*"):
            if path.is_file():
                path.unlink()
    done = shell("survive")
    assert done.code == 7
    assert "0 of 1" in done.out
    assert "drtool repair" in done.out
    status = shell("status", "--json")
    assert any("the loss of c alone would cost" in problem for problem in status.document["problems"])
    assert shell("repair").code == 0
    assert shell("survive").code == 0
    assert not any("would cost" in problem for problem in shell("status", "--json").document["problems"])


def test_a_site_that_was_given_up_is_not_tried_as_a_loss(shell):
    (shell.directory / "a").rename(shell.directory / "broken")
    offline = shell("verify")
    assert "nothing missing, nothing damaged at the targets that answer" in offline.out
    assert "if that is not enough, bring back a/main" in offline.out
    assert shell("site", "replace", "a", f"d={shell.directory}/d").code == 0
    assert shell("repair").code == 0
    done = shell("survive", "--json")
    assert done.code == 0
    assert sorted({site for row in done.document["scenarios"] for site in row["lost"]}) == ["b", "c", "d"]


def test_data_already_lost_is_not_blamed_on_a_further_loss(shell):
    for site in "abc":
        for path in (shell.directory / site / "packs").rglob("*"):
            if path.is_file():
                path.unlink()
    done = shell("survive")
    assert done.code == 4
    assert "no copy of 2 packs" in done.out
    assert "drtool repair" not in done.out


def test_a_misspelt_site_exits_with_2(shell):
    done = shell("survive", "--lose", "aa", "--json")
    assert done.code == 2
    assert "nearest" in done.error["message"]
