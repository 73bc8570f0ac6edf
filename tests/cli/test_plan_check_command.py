"""`plan list` and `plan check`, as text and JSON. They need neither a repository nor a password."""

import json
from pathlib import Path

import pytest
from command_shell import shell_in

SHIPPED = Path(__file__).parents[2] / "plans"
GOOD = """\
version: 1
id: weekly
title: Weekly proof
schedule: {cron: "17 3 * * 0", must_pass_every: 9d}
steps: [{id: a, uses: verify, with: {level: structure}}]
"""


@pytest.fixture
def shell(tmp_path):
    made = shell_in(tmp_path)
    (tmp_path / "drtool.yaml").write_text("plans: drills\n")
    (tmp_path / "drills").mkdir()
    (tmp_path / "drills/first.yaml").write_text(GOOD)
    (tmp_path / "drills/broken.yaml").write_text(GOOD.replace("weekly", "broken").replace("level", "levle"))
    (tmp_path / "drills/shared.yaml").write_text("version: 1\nvars: {x: {type: int}}\n")
    (tmp_path / "drills/notes.txt").write_text("no plan")
    return made


def test_the_shipped_plans_are_valid(shell):
    done = shell("plan", "check", *map(str, sorted(SHIPPED.glob("*.yaml"))), "--json")
    assert done.code == 0
    assert {row["id"] for row in done.document["plans"]} >= {
        "database",
        "game-day",
        "single-file",
        "site-loss",
        "weekly-verify",
    }
    assert all(len(row["digest"]) == 64 for row in done.document["plans"])


def test_an_invalid_plan_exits_with_2_and_shows_line_and_nearest_name(shell):
    done = shell("plan", "check", "drills/broken.yaml")
    assert (done.code, done.out) == (2, "")
    assert (
        "drills/broken.yaml:5:38: steps[0].with.levle: unknown key 'levle'; the nearest known one is 'level'"
        in done.err
    )
    error = shell("plan", "check", "weekly", "broken", "./none.yaml", "--json")
    assert error.code == 2
    assert error.error["kind"] == "config_error"
    assert "'levle'" in error.error["message"]
    assert "none.yaml: cannot be read: No such file" in error.error["message"]


def test_a_plan_is_found_by_its_id(shell):
    done = shell("plan", "check", "weekly")
    assert (done.code, done.out) == (0, f"ok {shell.directory}/drills/first.yaml: weekly, 1 step\n")
    missing = shell("plan", "check", "wekly")
    assert missing.code == 2
    assert "there is no plan 'wekly'" in missing.err
    assert "the nearest known one is 'weekly'" in missing.err


def test_an_id_that_two_files_have_is_refused(shell):
    (shell.directory / "drills/second.yml").write_text(GOOD)
    done = shell("plan", "check", "weekly")
    assert done.code == 2
    assert "several plans have the id 'weekly'" in done.err


def test_the_list_includes_invalid_plans(shell):
    done = shell("plan", "list")
    assert done.code == 0
    assert "weekly" in done.out
    assert "17 3 * * 0" in done.out
    assert "unknown key 'levle'" in done.out
    rows = {row["id"]: row for row in shell("plan", "list", "--json").document["plans"]}
    assert set(rows) == {"weekly", "broken"}
    assert rows["weekly"]["schedule"] == {"cron": "17 3 * * 0", "timezone": "UTC", "must_pass_every_seconds": 777600.0}
    assert rows["weekly"]["error"] is None
    assert rows["broken"]["title"] is None


def test_without_a_directory_of_plans(tmp_path):
    shell = shell_in(tmp_path)
    (tmp_path / "drtool.yaml").write_text("repository: x\n")
    assert "no directory of plans is configured" in shell("plan", "list").err
    assert "no directory of plans is configured" in shell("plan", "check", "weekly").err
    (tmp_path / "plans").mkdir()
    assert shell("plan", "list").out == f"there are no plans in {tmp_path}/plans\n"
    (tmp_path / "drtool.yaml").write_text("plans: nowhere\n")
    done = shell("plan", "list")
    assert done.code == 2
    assert "nowhere cannot be read: No such file" in done.err


def test_a_file_needs_no_configuration(tmp_path):
    shell = shell_in(tmp_path)
    (tmp_path / "p.yaml").write_text(GOOD)
    assert shell("plan", "check", "p.yaml").code == 0
    assert shell("plan", "check").code == 2


def test_the_schema_is_printed_for_editors(shell):
    done = shell("plan", "check", "--schema")
    assert done.code == 0
    assert json.loads(done.out) == shell("plan", "check", "--schema", "--json").document
    assert json.loads(done.out)["title"] == "A plan of drtool"


def test_without_a_name_every_plan_of_the_directory_is_checked(shell):
    done = shell("plan", "check", "--json")
    assert done.code == 2
    assert "broken.yaml" in done.error["message"]
    (shell.directory / "drills/broken.yaml").unlink()
    done = shell("plan", "check", "--json")
    assert done.code == 0
    assert [row["id"] for row in done.document["plans"]] == ["weekly"]
    (shell.directory / "drills/first.yaml").unlink()
    assert "contains no plan" in shell("plan", "check", "--json").error["message"]
