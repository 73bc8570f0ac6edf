"""Plans that come with drtool, as they are, on real data.

`database` is run in test_sources_postgresql.py and `site-loss` in test_site_loss_plan.py, beside their servers.
"""

from pathlib import Path

import pytest
from approving import run_approved
from command_shell import shell_in
from three_sites import fill, noise

PLANS = Path(__file__).parents[2] / "plans"


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Three sites, a source of files with some history, a channel that writes down what it is told."""
    shell = shell_in(tmp_path_factory.mktemp("plans"))
    targets = [word for site in "abc" for word in ("--target", f"{site}={shell.directory / site}")]
    assert shell("init", *targets).code == 0
    source = fill(shell.directory / "home", {f"ann/{n}": noise(300_000, n) for n in range(4)})
    told = shell.directory / "told"
    with (shell.directory / "drtool.yaml").open("a") as config:
        config.write(f"sources:\n  home: {{paths: [{source}]}}\nplans: {PLANS}\n")
        config.write(f"notify:\n  channels:\n    ops: {{command: [sh, -c, 'cat >> {told}']}}\n")
    for number in range(6):  # each backup makes packs: some for each to rot
        fill(source, {f"more-{number}": noise(300_000, 100 + number)})
        assert shell("backup", "--source", "home").code == 0
    return shell


def passes(shell, *words):
    """A dry run and a run of a plan; its document."""
    dry = shell("plan", "run", *words, "--dry-run", "--json")
    assert (dry.code, dry.document["verdict"]) == (0, "simulated"), dry.out + dry.err
    done = shell("plan", "run", *words, "--json")
    return judged(shell, done.code, done.document, done.out + done.err)


def judged(shell, code, document, told):
    assert (code, document["verdict"], document["leftovers"], document["recorded"]) == (0, "passed", [], True), told
    assert shell("scratch", "list", "--json").document["spaces"] == []
    assert shell("fault", "list", "--json").document["faults"] == []
    report = shell.directory / f"{document['plan']}.html"
    assert shell("plan", "report", document["run_id"], "--html", str(report)).code == 0
    assert document["run_id"] in report.read_text()
    return document


@pytest.mark.thorough
def test_every_plan_is_one(shell):
    rows = shell("plan", "list", "--json").document["plans"]
    assert sorted(row["id"] for row in rows) == ["database", "game-day", "single-file", "site-loss", "weekly-verify"]
    assert shell("plan", "check", *(row["id"] for row in rows)).code == 0


def test_a_single_file(shell):
    path = str(shell.directory / "home" / "ann" / "1")
    document = passes(shell, "single-file", "--var", "source=home", "--var", f"path={path}")
    steps = {row["id"]: row["status"] for row in document["steps"]}
    assert (steps["fetch"], steps["not-empty"], steps["put-back"]) == ("passed", "passed", "skipped")
    assert document["objectives"]["rpo"]["met"] is True


def test_a_file_that_no_snapshot_has_is_told_beforehand(shell):
    done = shell("plan", "run", "single-file", "--var", "source=home", "--var", "path=/nowhere", "--json")
    assert done.code == 1
    assert "/nowhere" in done.out


def test_the_weekly_verification(shell):
    steps = {row["id"]: row["status"] for row in passes(shell, "weekly-verify")["steps"]}
    assert (steps["present"], steps["sample"], steps["real-restore"]) == ("passed", "passed", "passed")
    assert (steps["heal"], steps["healed"]) == ("skipped", "skipped")
    (row,) = [row for row in shell("status", "--json").document["plans"] if row["id"] == "weekly-verify"]
    assert (row["met"], row["must_pass_every_seconds"]) == (True, 9 * 86_400)


@pytest.mark.thorough
def test_the_game_day(shell):
    """The plan as it is, but for its window: today may be no Tuesday. A drill that breaks things changes no stored byte."""
    plan = shell.directory / "game-day.yaml"
    text = (PLANS / "game-day.yaml").read_text()
    window = "Tue-Thu 09:00-15:00 Europe/Berlin"
    assert window in text
    plan.write_text(text.replace(window, "Mon-Sun 00:00-24:00 UTC"))
    words = ("plan", "run", str(plan), "--var", "victim=b", "--live", "--json")
    dry = shell(*words, "--dry-run")
    assert (dry.code, dry.document["verdict"]) == (0, "simulated"), dry.out + dry.err
    before = packs(shell)
    done, approved = run_approved(shell, shell.directory / "told", *words)
    assert approved == ["go"]
    assert "Faults on b for up to 45 minutes. Go?" in (shell.directory / "told").read_text()
    document = judged(shell, done.code, done.document, done.out + done.err)
    steps = {row["id"]: row["status"] for row in document["steps"]}
    assert (steps["found"], steps["found-exactly"]) == ("tolerated", "passed"), steps
    assert steps["backup-while-gone"] == steps["restore-while-gone"] == steps["caught-up"] == "passed", steps
    assert document["objectives"]["rto"]["met"] is True
    after = packs(shell)
    assert all(after.get(path) == data for path, data in before.items())
    assert shell("verify", "--level", "full").code == 0


def packs(shell):
    return {
        path: path.read_bytes()
        for site in "abc"
        for path in sorted((shell.directory / site / "packs").rglob("*"))
        if path.is_file()
    }
