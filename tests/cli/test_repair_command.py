"""`drtool repair` as an operator sees it."""

import os
import shutil

import pytest
from command_shell import Shell, shell_in


def founded(tmp_path, copies: int) -> Shell:
    made = shell_in(tmp_path)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(os.urandom(5000))
    places = [word for name in "abc" for word in ("--target", f"{name}={tmp_path}/{name}")]
    assert made("init", *places, "--copies", str(copies)).code == 0
    assert made("backup", "tree").code == 0
    return made


@pytest.fixture
def shell(tmp_path) -> Shell:
    return founded(tmp_path, copies=2)


def test_a_lost_site_is_previewed_and_filled(shell):
    for kind in ("packs", "index"):
        shutil.rmtree(shell.directory / "b" / kind)
    assert shell("verify").code == 4
    would = shell("repair", "--dry-run", "--json")
    assert would.code == 0
    assert would.document["copied"]["objects"] > 0
    assert shell("verify").code == 4
    did = shell("repair", "--json")
    assert (did.code, did.document["copied"]) == (0, would.document["copied"])
    assert shell("verify", "--level", "full").code == 0
    assert "copied 0 objects" in shell("repair").out


def test_what_is_lost_everywhere_is_four_and_named(shell):
    names = set()
    for site in "abc":
        for path in (shell.directory / site / "packs").rglob("*"):
            if path.is_file():
                names.add(path.name)
                path.unlink()
    done = shell("repair", "--json")
    assert done.code == 4
    assert {row["object"].rpartition("/")[2] for row in done.document["unrepairable"]} == names


def test_copies_are_completed_on_the_sites_that_answer_and_the_others_are_named(tmp_path):
    # Three copies: with two, what lies on a and b alone could not be read meanwhile.
    shell = founded(tmp_path, copies=3)
    shutil.rmtree(shell.directory / "b" / "packs")
    (shell.directory / "a").rename(shell.directory / "away")
    done = shell("repair", "--json")
    assert done.code == 5, "what a should hold as well has one copy less than promised"
    assert done.document["copied"]["objects"] > 0
    assert [row["target"] for row in done.document["away"]] == ["a/main"]
    (shell.directory / "away").rename(shell.directory / "a")
    assert shell("verify", "--level", "full").code == 0
