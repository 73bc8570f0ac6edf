"""`drtool repair`: text, documents and exit codes."""

import os
import re
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


def test_a_lost_site_is_shown_by_a_dry_run_and_refilled(shell):
    for kind in ("packs", "index"):
        shutil.rmtree(shell.directory / "b" / kind)
    assert shell("verify").code == 4
    would = shell("repair", "--dry-run", "--json")
    assert would.code == 0
    assert would.document["copied"]["objects"] > 0
    copied = [row for row in would.document["changes"] if (row["change"], row["what"]) == ("copied", ["b/main"])]
    assert len(copied) == would.document["copied"]["objects"]
    assert f"copied   {copied[0]['path']} +b/main" in shell("repair", "--dry-run").out.splitlines()
    assert shell("verify").code == 4
    did = shell("repair", "--json")
    assert (did.code, did.document["copied"]) == (0, would.document["copied"])
    assert shell("verify", "--level", "full").code == 0
    again = shell("repair").out
    assert again.startswith("nothing to repair, ")
    assert not re.search(r"\b0 (objects|B)", again)


def test_data_lost_at_every_site_is_named_and_gives_exit_4(shell):
    names = set()
    for site in "abc":
        for path in (shell.directory / site / "packs").rglob("*"):
            if path.is_file():
                names.add(path.name)
                path.unlink()
    done = shell("repair", "--json")
    assert done.code == 4
    assert {row["object"].rpartition("/")[2] for row in done.document["unrepairable"]} == names
    lost = [
        row["path"] for row in shell("repair", "--dry-run", "--json").document["changes"] if row["change"] == "lost"
    ]
    assert {path.rpartition("/")[2] for path in lost} == names


def test_an_index_lost_at_every_site_is_rebuilt_on_a_host_without_a_cache(shell):
    for site in "abc":
        for path in (shell.directory / site / "index").rglob("*"):
            if path.is_file():
                path.unlink()
    shutil.rmtree(shell.directory / "cache", ignore_errors=True)
    elsewhere = {"DRTOOL_CACHE_DIR": str(shell.directory / "fresh")}
    refused = shell("prune", "--json", **elsewhere)
    assert refused.code == 11
    assert "drtool repair" in refused.error["hint"]
    assert shell("restore", "latest", "--to", "out", **elsewhere).code != 0
    would = shell("repair", "--dry-run", "--json", **elsewhere)
    assert (would.code, would.document["rebuilt"]["objects"]) == (0, 1)
    did = shell("repair", **elsewhere)
    assert did.code == 0
    assert "rebuilt 1 object" in did.out
    assert "1 index segment without a good copy at any site" in did.err
    shutil.rmtree(shell.directory / "out", ignore_errors=True)
    assert shell("restore", "latest", "--to", "out", **elsewhere).code == 0
    (restored,) = (shell.directory / "out").rglob("file")
    assert restored.read_bytes() == (shell.directory / "tree/file").read_bytes()
    assert shell("verify", "--level", "full", **elsewhere).code == 0
    assert shell("prune", **elsewhere).code == 0


def test_copies_are_completed_on_the_sites_that_answer_and_the_others_are_named(tmp_path):
    # Three copies, because with two, data on a and b alone could not be read meanwhile.
    shell = founded(tmp_path, copies=3)
    shutil.rmtree(shell.directory / "b" / "packs")
    (shell.directory / "a").rename(shell.directory / "away")
    done = shell("repair", "--json")
    assert done.code == 5, "objects owed to a have one copy less than configured"
    assert done.document["copied"]["objects"] > 0
    assert [row["target"] for row in done.document["away"]] == ["a/main"]
    words = shell("repair").out
    assert "incomplete at a/main: there is no directory" in words
    assert "nothing to repair" not in words
    (shell.directory / "away").rename(shell.directory / "a")
    assert shell("verify", "--level", "full").code == 0


def test_old_copies_of_a_rebuilt_index_are_no_longer_a_problem(shell):
    for site in "abc":
        for path in (shell.directory / site / "index").rglob("*"):
            if path.is_file():
                path.chmod(0o600)
                path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    shutil.rmtree(shell.directory / "cache", ignore_errors=True)
    elsewhere = {"DRTOOL_CACHE_DIR": str(shell.directory / "fresh")}
    found = shell("verify", "--level", "full", **elsewhere)
    assert found.code == 4
    assert "drtool repair rebuilds the index segments that cannot be read, from the packs: run it first" in found.out
    assert "  lost " not in found.out
    assert shell("repair", **elsewhere).code == 0
    assert "repository healthy" in shell("status", **elsewhere).out
