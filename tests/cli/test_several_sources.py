"""Several sources in one repository: the choice of `latest`, which is always reported."""

import os
import shlex

import pytest
from command_shell import Shell, shell_in

from drtool.cli.core.text import utc


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Shell:
    """Sources home (two snapshots) and etc of this host, and home of another host, all in one tree."""
    made = shell_in(tmp_path_factory.mktemp("several"))
    for name in ("home", "etc", "far"):
        (made.directory / name).mkdir()
        (made.directory / name / "letter").write_text(f"first of {name}\n")
    (made.directory / "home/gone").write_text("only in the first\n")
    targets = [word for site in "abc" for word in ("--target", f"{site}={made.directory / 'sites' / site}")]
    assert made("init", *targets).code == 0
    with (made.directory / "drtool.yaml").open("a") as config:
        config.write("sources: {home: {paths: [home]}, etc: {paths: [etc]}}\n")
    assert made("backup", "--source", "home", "--time", "2026-01-01T00:00:00Z").code == 0
    (made.directory / "home/gone").unlink()
    assert made("backup", "--source", "home", "--time", "2026-01-02T00:00:00Z").code == 0
    assert made("backup", str(made.directory / "far"), "--host", "far", "--time", "2026-01-03T00:00:00Z").code == 0
    assert made("backup", "--source", "etc", "--time", "2026-01-04T00:00:00Z").code == 0
    return made


def here():
    return os.uname().nodename


@pytest.mark.parametrize(
    "words",
    [
        ("ls", "latest"),
        ("restore", "latest", "--to", "unwritten", "--dry-run"),
        ("dump", "latest", "--archive", "tar", "--to", "{new}"),
        ("diff", "latest~0", "latest"),
        ("find", "letter", "--snapshot", "latest"),
        ("verify", "--level", "structure", "--snapshot", "latest"),
        ("stats", "latest"),
    ],
)
def test_every_reading_command_names_the_source_that_latest_chose_and_the_others(several, tmp_path, words):
    words = [word.format(new=tmp_path / "new") for word in words]
    done = several(*words, "--json")
    assert done.code == 0, done.err
    assert (
        f"latest is {done.document['latest'][-1]['snapshot'][:8]}, a snapshot of source etc of {here()}; " in done.err
    )
    assert f"the other sources are {several.directory / 'far'} of far, source home of {here()}; --source or" in done.err
    (*_, choice) = done.document["latest"]
    assert (choice["asked"], choice["source"], choice["host"]) == ("latest", "etc", here())
    assert {(row["host"], row["source"]) for row in choice["others"]} == {(here(), "home"), ("far", "")}
    assert len(done.document["latest"]) == (2 if words[0] == "diff" else 1)


def test_nothing_is_reported_without_a_choice(several):
    for words in (("ls", "latest", "--source", "etc"), ("ls", "latest", "--host", "far")):
        done = several(*words, "--json")
        assert (done.code, done.err) == (0, "")
        assert done.document["latest"][0]["others"] == []
    whole = several("snapshots", "--json").document["snapshots"][0]["id"]
    assert "latest" not in several("ls", whole, "--json").document


def test_a_path_is_found_in_any_source_and_an_older_version_is_announced(several):
    home = several.directory / "home"
    found = several("dump", f"latest:{home}/letter")
    assert (found.code, found.out, found.err) == (0, "first of home\n", "")
    older = several("dump", f"latest:{home}/gone")
    assert (older.code, older.out) == (0, "only in the first\n")
    assert "is not in" in older.err
    assert f"of source home of {here()}" in older.err
    restored = several("restore", f"latest:{home}/gone", "--to", "older", "--json")
    assert restored.document["latest"][0]["time"] == utc(1_767_225_600 * 10**9)
    assert (several.directory / "older/gone").exists()
    nowhere = several("ls", f"latest:{several.directory}/nowhere")
    assert (nowhere.code, "in none of the 4 snapshots" in nowhere.err) == (1, True)


def test_older_snapshots_have_names(several):
    gone = f"{several.directory}/home/gone"
    for name in ("latest~1", "latest@2026-01-01", "latest@2026-01-01T23:59:59Z"):
        done = several("dump", f"{name}:{gone}", "--source", "home")
        assert (done.code, done.out) == (0, "only in the first\n"), done.err
    assert several("ls", "latest~2", "--source", "home").code == 1
    assert several("ls", "latest@2025-12-31").code == 1
    assert several("ls", "latest~x").code == 2


def test_an_include_without_a_match_fails_and_names_the_chosen_source(several):
    done = several("restore", "latest", "--include", f"{several.directory}/home/letter", "--to", "included")
    assert done.code == 1
    assert "the other sources are" in done.err
    assert f"source home of {here()}" in done.err


def test_hold_and_tag_accept_a_source_and_name_the_chosen_one(several):
    held = several("hold", "latest", "--source", "home", "--json").document
    assert held["latest"][0]["source"] == "home"
    assert several("hold", held["snapshots"][0]["id"], "--release").code == 0
    tagged = several("tag", "latest", "--host", "far", "--add", "away", "--json").document
    assert tagged["latest"][0]["host"] == "far"
    assert several("tag", "latest", "--tag", "away", "--remove", "away").code == 0
    both = several("hold", "latest", "--json")
    assert "the other sources are" in both.err
    assert len(both.document["latest"][0]["others"]) == 2
    assert several("hold", "latest", "--release").code == 0


def test_connect_prints_a_command_for_each_host_that_restores_everything(several, tmp_path):
    bare = shell_in(tmp_path)
    done = bare("connect", str(several.directory / "sites/b"), "--json")
    assert done.code == 0, done.err
    assert [row["host"] for row in done.document["restores"]] == [here(), "far"]
    for row in done.document["restores"]:
        words = shlex.split(row["command"])
        restored = bare(*words[1:], "--json")
        assert restored.code == 0, (words, restored.err)
        assert {each["host"] for each in restored.document["sources"]} == {row["host"]}
    top = str(several.directory).lstrip("/")
    assert (tmp_path / f"restored-{here()}" / top / "etc/letter").read_text() == "first of etc\n"
    assert (tmp_path / f"restored-{here()}" / top / "home/letter").read_text() == "first of home\n"
    assert (tmp_path / "restored-far" / top / "far/letter").read_text() == "first of far\n"


def test_a_kit_names_each_host_and_its_commands_restore_everything(several, tmp_path):
    bare = shell_in(tmp_path)
    kit = several("key", "kit").out
    lines = [shlex.split(row.strip()[2:]) for row in kit.splitlines() if row.startswith("    $ drtool ")]
    assert [words[words.index("--host") + 1] for words in lines if "--host" in words] == [here(), "far"] * 2
    for words in lines:
        if words[-2:] == ["--overwrite", "always"]:
            words[words.index("--to") + 1] = str(tmp_path / "root")
        done = bare(*words[1:])
        assert done.code == 0, (words, done.err)
    top = str(several.directory).lstrip("/")
    for name in ("etc", "home", "far"):
        assert (tmp_path / "root" / top / name / "letter").read_text() == f"first of {name}\n"


def test_hold_and_tag_choose_the_newest_snapshot_that_has_a_path(several):
    path = several.directory / "far"
    (row,) = several("hold", f"latest:{path}", "--json").document["snapshots"]
    newest = several("snapshots", "--host", "far", "--json").document["snapshots"][-1]
    assert (row["id"], row["held"]) == (newest["id"], True)
    assert several("tag", f"latest:{path}", "--add", "kept").code == 0
    refused = several("hold", f"{newest['id'][:8]}:{path}")
    assert refused.code == 2
    assert several("hold", newest["id"][:8], "--release").code == 0


def test_a_source_without_a_name_is_called_by_its_paths(several):
    far = str(several.directory / "far")
    (row,) = several("snapshots", "--source", far, "--json").document["snapshots"]
    assert row["paths"] == [far]
    listed = several("ls", "latest", "--source", far, "--json")
    assert (listed.code, listed.document["latest"][0]["others"]) == (0, [])


def test_a_choice_is_reported_once_per_command(several):
    done = several("stats", "latest", "latest")
    assert (done.code, done.err.count("the other sources are")) == (0, 1)
