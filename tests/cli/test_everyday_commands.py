"""A repository under cron: hooks, figures, one line of output, no prompt, no colours."""

import re

import pytest
from everyday_world import everyday_shell, log


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    return everyday_shell(tmp_path_factory.mktemp("everyday"))


def exit_code_in_figures(shell):
    text = (shell.directory / "drtool.prom").read_text()
    return re.search(r'drtool_last_run_exit_code\{command="backup",repository="drtool",config="[^"]+"\} (\d+)', text)[1]


def test_hooks_run_around_a_backup_and_figures_are_written(shell):
    ran = shell("backup", "--json")
    assert ran.code == 0
    assert log(shell) == ["before", f"after 0 {ran.document['snapshots'][0]['id']}"]
    assert exit_code_in_figures(shell) == "0"
    assert 'source="home"' in (shell.directory / "drtool.prom").read_text()


def test_a_failed_before_hook_stops_the_backup(shell):
    (shell.directory / "stop").touch()
    ran = shell("backup", "--json")
    (shell.directory / "stop").unlink()
    assert ran.code == 1
    assert "backup did not begin" in ran.error["message"]
    before, after, failed = log(shell)
    assert (before, after) == ("before", "after 1"), "the after hook undoes what the before hook did"
    assert failed.startswith("failed backup 1 the hook sh (before_backup) ended with 1, so")
    assert exit_code_in_figures(shell) == "1"


def test_a_failed_after_hook_is_reported_although_all_is_stored(shell):
    (shell.directory / "bad").touch()
    ran = shell("-q", "backup")
    (shell.directory / "bad").unlink()
    assert ran.code == 1
    assert "warning: the hook sh (after_backup) ended with 1" in ran.err
    assert log(shell)[-1].startswith("failed backup 1 the hook sh (after_backup) ended with 1")


def test_neither_a_dry_run_nor_a_bad_command_line_runs_a_hook(shell):
    log(shell)
    assert shell("backup", "--dry-run").code == 0
    assert shell("backup", "--source", "nothing").code == 2
    assert log(shell) == []


@pytest.mark.parametrize("words", [("backup",), ("forget", "--prune"), ("prune",), ("verify",), ("repair",)])
@pytest.mark.spread(4)
def test_without_a_terminal_it_is_one_line_without_control_codes(shell, words):
    ran = shell(*words, TERM="xterm-256color")
    assert ran.code == 0
    assert len(ran.out.splitlines()) == 1
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", ran.out + ran.err)


@pytest.mark.parametrize("words", [("backup",), ("forget",), ("prune",), ("verify",), ("repair",)])
def test_without_a_password_a_command_fails_at_once(shell, words):
    ran = shell(*words, DRTOOL_PASSWORD="")
    log(shell)
    assert ran.code == 2
    assert ran.out == ""
    assert "no password" in ran.err


def test_a_missing_directory_for_figures_is_reported(shell):
    ran = shell("status", "--metrics-file", "/no/such/directory/x.prom")
    assert ran.code == 1
    assert "figures cannot be written" in ran.err


def test_status_is_7_while_an_objective_is_missed(shell):
    config = shell.directory / "objectives.yaml"
    text = (shell.directory / "drtool.yaml").read_text()
    config.write_text(text + "objectives: {home: {proven: 1d, copies: 3}}\n")
    ran = shell("-c", str(config), "status", "--json")
    assert ran.code == 7
    (row,) = ran.document["sources"]
    assert (row["met"], row["proven_snapshot"]) == (False, None)
    assert "on 2 sites instead of 3" in row["missed"][0]
    config.write_text(text + "objectives: {home: {proven: 1d, copies: 2}}\n")
    assert shell("-c", str(config), "status").code == 0, "new data waits for the next verification"
    assert shell("-c", str(config), "verify", "--level", "full").code == 0
    (row,) = shell("-c", str(config), "status", "--json").document["sources"]
    assert row["proven_snapshot"] == row["newest_snapshot"]
    assert 'drtool_source_objective_met{host="' in (shell.directory / "drtool.prom").read_text()


def test_tags_and_holds_are_shown(shell):
    held = shell("hold", "latest", "--reason", "audit", "--until", "30d", "--json").document["snapshots"][0]
    assert held["held"]
    assert held["hold_until"]
    assert shell("tag", held["id"], "--add", "gold").out.count("\n") == 1
    row = shell("snapshots", "--json").document["snapshots"][-1]
    assert (row["tags"], row["hold_reason"]) == (["gold"], "audit")
    assert "gold,(held)" in shell("snapshots").out
    assert shell("forget", "--snapshot", held["id"], "--json").code == 11
    assert shell("hold", held["id"], "--release", "--json").document["snapshots"][0]["held"] is False
    for words in (("tag", "latest"), ("tag", "latest", "--add", ""), ("hold", "latest", "--until", "yesterday")):
        assert shell(*words).code == 2


def test_the_report_is_written_in_every_state(shell):
    ran = shell("report", "--html", "report.html", "--json")
    assert ran.code == 0
    assert ran.document["healthy"]
    page = (shell.directory / "report.html").read_text()
    assert "home on " in page
    assert "No problem is known" in page
    assert shell("report").code == 2
    assert shell("report", "--html", "no/such/place.html").code == 2


def test_figures_go_when_the_configuration_names_no_file_any_more(shell):
    config, figures = shell.directory / "drtool.yaml", shell.directory / "drtool.prom"
    text = config.read_text()
    assert shell("status").code == 0
    assert str(config) in figures.read_text()
    config.write_text(text.replace("metrics_file: drtool.prom\n", ""))
    try:
        assert shell("status").code == 0
        assert str(config) not in (figures.read_text() if figures.exists() else "")
    finally:
        config.write_text(text)
    assert shell("status").code == 0
    assert str(config) in figures.read_text()
