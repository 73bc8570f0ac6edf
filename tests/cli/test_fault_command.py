"""`fault list`, `fault clear`, and other commands under a fault, with real directories and several processes."""

import os

import pytest
from drill_faults import Ground, holder
from three_sites import everything


@pytest.fixture
def ground(shell):
    return Ground(shell.directory)


def contents(shell):
    """Return every object of every site with its times, without the manifest and directories, which change by design."""
    return {site: stored_at(shell.directory / site) for site in "abc"}


def stored_at(directory):
    rows = everything(directory).items()
    return {name: row for name, row in rows if (directory / os.fsdecode(name)).is_file() and name[:9] != b"manifest/"}


def packs(shell, site):
    top = shell.directory / site
    return sorted(str(path.relative_to(top)) for path in (top / "packs").rglob("*") if path.is_file())


def test_without_faults_nothing_is_listed_cleared_or_needed(shell):
    listed = shell("fault", "list", "--json")
    assert (listed.code, listed.document["faults"], listed.document["stopped"]) == (0, [], False)
    assert shell("fault", "list").out == "no fault is injected on this host\n"
    assert shell("fault", "clear").out == "0 faults ended\n"
    assert not (shell.directory / "state").exists()


def test_a_broken_configuration_does_not_keep_a_fault_alive(shell, ground):
    (shell.directory / "drtool.yaml").write_text("sites: [\n")
    record = ground.put("offline")
    done = shell("fault", "clear", "--json", DRTOOL_PASSWORD="")
    assert done.code == 0
    assert [row["id"] for row in done.document["cleared"]] == [record.id]
    assert not ground.faults.exists()


def test_verify_finds_exactly_what_a_drill_corrupts_until_it_is_cleared(stored):
    victims = packs(stored, "b")[:3]
    assert len(victims) >= 1
    before = contents(stored)
    with holder(stored.directory / "state", "b/main", stored.directory / "b", "corrupt", *victims) as process:
        found = stored("verify", "--level", "full", "--json")
        assert found.code == 4
        assert sorted((row["target"], row["object"]) for row in found.document["damaged"]) == [
            ("b/main", v) for v in victims
        ]
        assert found.document["missing"] == []
        problems = stored("status", "--json").document["problems"]
        assert any(
            f"target b/main is returning {len(victims)} corrupted objects by a drill's fault" in p for p in problems
        )
        (row,) = stored("fault", "list", "--json").document["faults"]
        assert (row["kind"], row["site"], row["state"], row["run"]) == ("corrupt", "b", "in force", "killed")
        assert (row["objects"], row["pid"]) == (victims, process.pid)
        assert 0 < row["ends_in_seconds"] <= 300
        assert "b/main" in stored("fault", "list").out
        assert stored("fault", "list", "--run", "other", "--json").document["faults"] == []
        assert contents(stored) == before
        would = stored("fault", "clear", "--run", "killed", "--dry-run", "--json").document
        assert (len(would["cleared"]), would["dry_run"]) == (1, True)
        assert stored("fault", "clear", "--run", "other").out == "0 faults ended\n"
        assert len(stored("fault", "list", "--json").document["faults"]) == 1
        assert stored("fault", "clear", "--run", "killed").out == "ended corrupt at b/main (run killed)\n"
        after = stored("verify", "--level", "full", "--json")
        assert (after.code, after.document["damaged"]) == (0, [])
        assert process.wait(timeout=10) == 0
    assert contents(stored) == before
    assert not (stored.directory / "state/faults").exists()


def test_a_site_under_a_fault_is_unreachable_and_its_dead_drill_is_reported_once(stored):
    with holder(stored.directory / "state", "a/main", stored.directory / "a", "offline") as process:
        rows = {row["site"]: row for row in stored("manifest", "status", "--json").document["acceptors"]}
        assert (rows["a"]["reachable"], rows["b"]["reachable"]) == (False, True)
        problems = stored("status", "--json").document["problems"]
        assert any("target a/main is offline by a drill's fault until" in line for line in problems)
        process.kill()
        process.wait()
        (row,) = stored("fault", "list", "--json").document["faults"]
        assert (row["state"], row["ends_in_seconds"]) == ("owner gone", 0)
        told = stored("snapshots")
    assert told.code == 0
    assert told.err.count("ended faults of a drill were removed: offline at a/main") == 1
    assert "drill" not in stored("snapshots").err
    assert stored("fault", "list", "--json").document["faults"] == []


def test_an_unreadable_file_stops_no_command_and_is_cleared(stored):
    faults = stored.directory / "state/faults"
    faults.mkdir()
    (faults / "torn.json").write_text('{"id": "torn", "ru')
    (faults / "orphan.ended").write_text("")
    (faults / ".tmp-1234").write_text("")
    listed = stored("snapshots")
    assert listed.code == 0
    assert "ignored in the directory of faults: torn.json" in listed.err
    assert "drtool fault clear" in listed.err
    (bad,) = stored("fault", "list", "--json").document["unreadable"]
    assert bad["name"] == "torn.json"
    assert "torn.json is ignored" in stored("fault", "list").out
    assert stored("fault", "clear", "--run", "r1", "--json").document["removed"] == []
    assert stored("fault", "clear", "--json").document["removed"] == [bad]
    assert not faults.exists()


def test_files_that_cannot_be_removed_give_exit_8(shell, ground):
    ground.put("offline")
    (ground.faults / "stray").mkdir()
    done = shell("fault", "clear", "--json")
    assert done.code == 8
    assert [row["name"] for row in done.document["left"]] == ["stray"]
    assert len(done.document["cleared"]) == 1
    assert "left stray" in shell("fault", "clear").out


def test_the_kill_switch_is_shown_and_left_alone(shell, ground):
    ground.put("slow", latency_s=1)
    (ground.faults / "STOP").touch()
    assert "the kill switch is on: nothing is in force" in shell("fault", "list").out
    assert shell("fault", "clear").code == 0
    assert [path.name for path in ground.faults.iterdir()] == ["STOP"]
    assert shell("fault", "list", "--json").document["stopped"] is True
