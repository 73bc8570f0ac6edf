"""`manifest recover`, `compact`, `status` and `check`, as text and JSON."""

import shlex
import shutil

import pytest
from command_shell import Shell, shell_in


@pytest.fixture
def burnt(tmp_path) -> Shell:
    """Sites a and b are gone for ever; c has everything."""
    made = shell_in(tmp_path)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("hello\n")
    assert made("init", *(word for site in "abc" for word in ("--target", f"{site}={site}")), "--copies", "3").code == 0
    assert made("backup", "tree").code == 0
    for site in "ab":
        shutil.rmtree(tmp_path / site)
    return made


def test_recovery_needs_consent_and_shows_what_is_lost(burnt):
    refused = burnt("manifest", "recover", "--from", "c", "--json")
    assert (refused.code, refused.error["kind"]) == (11, "refused")
    assert "a, b" in refused.error["message"]
    assert "1 snapshot" in refused.error["message"]
    words = shlex.split(refused.error["hint"].partition(": ")[2])
    assert words == ["drtool", "manifest", "recover", "--from", "c", "--json", "--i-accept-lost-writes"]
    would = burnt("manifest", "recover", "--from", "c", "--dry-run", "--json")
    assert (would.code, would.document["dry_run"], would.document["given_up"]) == (0, True, ["a", "b"])
    assert burnt("backup", "tree").code == 6
    done = burnt(*words[1:])
    assert (done.code, done.document["generation"]) == (0, 2)
    (burnt.directory / "tree/new").write_bytes(b"z" * 5000)
    assert burnt("backup", "tree").code == 5, "three copies are configured, and one site is left"
    status = burnt("manifest", "status", "--json").document
    assert (status["generation"], status["recovery"]) == (2, done.document["recovery"])
    assert status["quorum"] == {"needed": 1, "reachable": 1}
    assert burnt("manifest", "recover", "--from", "c", "--i-accept-lost-writes").code == 11
    assert "generation 2" in burnt("manifest", "status").out


def test_lost_sites_are_replaced_and_vote_after_a_recovery(burnt):
    assert burnt("manifest", "recover", "--from", "c", "--i-accept-lost-writes").code == 0
    for old, new in (("a", "d"), ("b", "e")):
        assert burnt("site", "replace", old, f"{new}={new}").code == 0
        assert burnt("site", "add", new).code == 0
    listed = burnt("site", "list", "--json").document
    assert sorted(row["name"] for row in listed["sites"] if row["votes"]) == ["c", "d", "e"]
    assert (listed["tolerates"], listed["generation"]) == (1, 2)
    assert burnt("backup", "tree").code in (
        0,
        5,
    )  # 5 because old data has one copy left until `repair` makes the second
    assert burnt("repair").code == 0
    assert burnt("backup", "tree").code == 0


def test_impossible_recoveries_are_refused(burnt):
    assert burnt("manifest", "recover", "--json").code == 2
    assert burnt("manifest", "recover", "--from", "x", "--dry-run").code == 2
    assert burnt("manifest", "recover", "--from", "a", "--dry-run").code == 6
    assert burnt("manifest", "compact").code == 6


def test_compact_and_check_report_what_they_did(stored):
    would = stored("manifest", "compact", "--dry-run", "--json")
    assert (would.code, set(would.document["objects"])) == (0, {"a", "b", "c"})
    assert "would delete" in stored("manifest", "compact", "--dry-run").out
    assert stored("manifest", "compact", "--json").document["dry_run"] is False
    checked = stored("manifest", "check", "--json").document
    assert (checked["problems"], checked["sites"]) == ([], ["a", "b", "c"])
    status = stored("manifest", "status", "--json").document
    assert {row["phase"] for row in status["acceptors"]} == {"confirm"}
    assert (status["generation"], status["config"], status["recovery"]) == (1, 1, "")
