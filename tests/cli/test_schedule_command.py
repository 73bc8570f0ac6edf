"""`schedule`: a dry run prints exactly what is written, and only drtool's own files are removed."""

import json

from drtool.operations.scheduling.daemons import runs


def test_schedule_from_dry_run_to_removal(shell):
    (shell.directory / "drtool.yaml").write_text(
        "sites: {a: {main: {url: a}}}\npassword_file: secret\nschedule: {backup: 'daily 02:00', status: off}\nplans: plans\n"
    )
    (shell.directory / "plans").mkdir()
    (shell.directory / "plans/broken.yaml").write_text("version: 1\nid: broken\n")
    (shell.directory / "plans/asks.yaml").write_text(
        "version: 1\nid: asks\ntitle: t\nvars: {site: {type: string, required: true}}\nschedule: {cron: '0 3 * * 0'}\n"
        "steps: [{id: one, uses: assert, with: {that: ['1 == 1']}}]\n"
    )
    words = ("--systemd", "--directory", "units", "--json")
    foreseen = shell("schedule", "install", "--dry-run", *words)
    assert foreseen.code == 0
    assert "broken.yaml" in foreseen.err
    assert "plan asks is not scheduled: variable site has no value" in foreseen.err
    assert not (shell.directory / "units").exists()
    texts = {row["path"]: row["text"] for row in foreseen.document["changes"]}
    assert shell("schedule", "install", *words).code == 0
    written = {str(path): path.read_text() for path in (shell.directory / "units").iterdir()}
    assert written == texts
    shown = shell("schedule", "show", *words).document
    assert {row["name"]: row["state"] for row in shown["jobs"]} == dict.fromkeys(
        ("backup", "prune", "verify"), "installed"
    )
    assert all(row["next"] for row in shown["jobs"])
    (shell.directory / "units/mine.timer").write_text("[Timer]\n")
    assert shell("schedule", "remove", *words).code == 0
    assert [path.name for path in (shell.directory / "units").iterdir()] == ["mine.timer"]


def test_a_users_crontab_keeps_its_other_lines(shell):
    (shell.directory / "drtool.yaml").write_text("sites: {a: {main: {url: a}}}\npassword_file: secret\n")
    fake = shell.directory / "bin/crontab"
    fake.parent.mkdir()
    table = shell.directory / "table"
    table.write_text("1 2 * * * mine\n")
    fake.write_text(f'#!/bin/sh\n[ "$1" = -l ] && exec cat {table}\ncat > {table}.new && mv {table}.new {table}\n')
    fake.chmod(0o755)
    path = f"{fake.parent}:/usr/bin:/bin"
    words = ("--cron", "--user", "--json")
    installed = shell("schedule", "install", *words, PATH=path)
    assert installed.code == (0 if runs("cron") else 1), "exit 1, because nothing starts the jobs"
    assert installed.document["starts"] == runs("cron")
    assert ("neither cron nor systemd runs" in installed.err) != runs("cron")
    assert table.read_text().startswith("1 2 * * * mine\n# BEGIN drtool")
    assert "-q backup" in table.read_text()
    (line,) = (line for line in table.read_text().splitlines() if line.endswith("backup --skip-if-running"))
    assert "PATH=/usr/local/sbin" in line
    shown = shell("schedule", "show", *words, PATH=path).document
    assert {(row["state"], row["active"]) for row in shown["jobs"]} == {("installed", runs("cron"))}
    assert shell("schedule", "remove", *words, PATH=path).code == 0
    assert table.read_text() == "1 2 * * * mine\n"


def test_without_a_configuration_it_says_so(shell):
    ran = shell("schedule", "install", "--cron", "--directory", "x", "--json")
    assert ran.code == 2
    assert "no configuration" in json.loads(ran.out)["error"]["message"]


def test_plans_beside_the_configuration_are_scheduled_without_a_configured_directory(shell):
    (shell.directory / "drtool.yaml").write_text("sites: {a: {main: {url: a}}}\npassword_file: secret\n")
    (shell.directory / "plans").mkdir()
    (shell.directory / "plans/drill.yaml").write_text(
        "version: 1\nid: drill\ntitle: A drill\nschedule: {cron: 5 4 * * 0}\n"
        "steps:\n  - {id: look, uses: verify, with: {level: structure}}\n"
    )
    shown = shell("schedule", "show", "--cron", "--directory", "timers", "--json").document
    (row,) = [row for row in shown["jobs"] if row["name"] == "plan-drill"]
    assert row["command"] == f"drtool plan run {shell.directory}/plans/drill.yaml"


def test_two_configurations_have_timers_side_by_side_and_each_removes_its_own(shell):
    for name in ("one.yaml", "two.yaml"):
        (shell.directory / name).write_text("sites: {a: {main: {url: a}}}\npassword_file: secret\n")
    for kind in ("--systemd", "--cron"):
        words = (kind, "--directory", kind.strip("-"), "--json")
        for name in ("one.yaml", "two.yaml"):
            assert shell("-c", name, "schedule", "install", *words).code == 0
        shown = shell("-c", "one.yaml", "schedule", "show", *words).document
        assert {row["state"] for row in shown["jobs"]} == {"installed"}
        assert shown["others"] == [str(shell.directory / "two.yaml")]
        unnamed = shell("schedule", "remove", *words)
        assert unnamed.code == 2
        assert "several configurations have timers here" in unnamed.error["message"]
        (shell.directory / "two.yaml").rename(shell.directory / "gone")
        assert shell("-c", "two.yaml", "schedule", "remove", *words).code == 0, "the file need not exist"
        (shell.directory / "gone").rename(shell.directory / "two.yaml")
        again = shell("-c", "one.yaml", "schedule", "show", *words).document
        assert {row["state"] for row in again["jobs"]} == {"installed"}
        assert again["others"] == []
        assert shell("schedule", "remove", "--all", *words).code == 0
        assert list((shell.directory / kind.strip("-")).iterdir()) == []


def test_a_link_to_a_configuration_has_no_timers_of_its_own(shell):
    config, link = shell.directory / "one.yaml", shell.directory / "link.yaml"
    config.write_text(
        f"sites: {{a: {{main: {{url: {shell.directory}/a}}}}}}\npassword_file: {shell.directory}/secret\n"
    )
    link.symlink_to(config)
    words = ("--systemd", "--directory", "units", "--json")
    assert shell("-c", "one.yaml", "schedule", "install", *words).code == 0
    installed = sorted(path.name for path in (shell.directory / "units").iterdir())
    shown = shell("-c", "link.yaml", "schedule", "show", *words).document
    assert ({row["state"] for row in shown["jobs"]}, shown["others"]) == ({"installed"}, [])
    assert shell("-c", "./../" + shell.directory.name + "/link.yaml", "schedule", "install", *words).code == 0
    assert sorted(path.name for path in (shell.directory / "units").iterdir()) == installed
    assert shell("-c", "link.yaml", "schedule", "remove", *words).code == 0
    assert list((shell.directory / "units").iterdir()) == []
