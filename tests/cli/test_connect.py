"""`connect`: on a new host, one surviving target and the password are enough."""

import os
import shlex
import shutil
from pathlib import Path
from unittest.mock import patch

import pytest
from command_shell import Shell, shell_in
from three_sites import World, fill, noise


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory) -> Shell:
    """A repository at a, b and c with one snapshot. Each site holds everything. Tests leave it unchanged."""
    made = shell_in(tmp_path_factory.mktemp("mirrored"))
    (made.directory / "tree/sub").mkdir(parents=True)
    (made.directory / "tree/file").write_text("hello\n")
    (made.directory / "tree/sub/other").write_bytes(bytes(range(256)) * 500)
    targets = [word for site in "abc" for word in ("--target", f"{site}={made.directory / site}")]
    assert made("init", *targets, "--copies", "3").code == 0
    assert made("backup", "tree").code == 0
    return made


@pytest.fixture
def fresh(tmp_path) -> Shell:
    """Another host, without the state, cache and configuration of the first one."""
    home = tmp_path / "home"
    home.mkdir()
    shell = shell_in(home)
    shell.environ |= {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
    return shell


@pytest.fixture
def burnt(mirrored, tmp_path) -> Path:
    """A copy of c, the only site left after a fire."""
    left = tmp_path / "disk"
    shutil.copytree(mirrored.directory / "c", left)
    for site in "abc":
        (mirrored.directory / site).rename(mirrored.directory / f"{site}.burnt")
    yield left
    for site in "abc":
        (mirrored.directory / f"{site}.burnt").rename(mirrored.directory / site)


def same(first: Path, second: Path) -> bool:
    return {p.relative_to(first): p.is_file() and p.read_bytes() for p in first.rglob("*")} == {
        p.relative_to(second): p.is_file() and p.read_bytes() for p in second.rglob("*")
    }


def test_one_site_of_three_and_the_password_restore_everything(mirrored, burnt, fresh):
    done = fresh("connect", str(burnt), "--json")
    assert done.code == 0, done.err
    found = done.document
    assert found["written"]
    assert (found["tentative"], found["quorum"]) == (True, {"needed": 2, "reachable": 1})
    assert {site["name"]: site["reachable"] for site in found["sites"]} == {"a": False, "b": False, "c": True}
    assert found["sites"][2]["targets"][0]["url"] == f"file://{burnt}"
    words = shlex.split(found["restore"])
    here = ["--host", os.uname().nodename]
    assert words == ["drtool", "restore", "--all-sources", *here, "--to", "restored", "--manifest-from", "any"]
    assert found["restores"] == [{"host": here[1], "command": found["restore"]}]
    restored = fresh(*words[1:], "--json")
    assert (restored.code, restored.document["tentative"]) == (0, True)
    top = fresh.directory / "restored" / str(mirrored.directory)[1:] / "tree"
    assert same(mirrored.directory / "tree", top)


def test_the_configuration_names_every_site_and_marks_unreached_ones(mirrored, burnt, fresh):
    (fresh.directory / "pw").write_text("correct horse\n")
    done = fresh("--password-file", "pw", "connect", str(burnt), "--write-config", "etc/mine.yaml", DRTOOL_PASSWORD="")
    assert done.code == 0, done.err
    assert "to restore: drtool --config " in done.out
    assert "not reached: a/main, b/main; data without a copy elsewhere cannot be restored" in done.out
    text = (fresh.directory / "etc/mine.yaml").read_text()
    assert f'password_file: "{fresh.directory}/pw"' in text
    assert text.count("not reached when this was written: there is no directory") == 2
    assert f"file://{mirrored.directory}/a" in text
    read = fresh("-c", "etc/mine.yaml", "snapshots", "--manifest-from", "c", "--json", DRTOOL_PASSWORD="")
    assert (read.code, len(read.document["snapshots"])) == (0, 1)
    assert not (fresh.directory / "drtool.yaml").exists()


def test_with_a_quorum_nothing_is_tentative_and_other_sites_are_found_by_the_manifest(mirrored, fresh):
    done = fresh("connect", f"file://{mirrored.directory}/b", "--json")
    assert done.code == 0, done.err
    found = done.document
    assert (found["tentative"], found["confirmed_sequence"]) == (False, found["sequence"])
    assert all(site["reachable"] and site["votes"] for site in found["sites"])
    assert "--manifest-from" not in found["restore"]
    assert len(found["newest"]) == 1
    assert fresh("status", "--json").code == 0
    assert "tentative" not in done.err


def test_connecting_again_changes_nothing(mirrored, fresh, tmp_path):
    assert fresh("connect", str(mirrored.directory / "a")).code == 0
    before = (fresh.directory / "drtool.yaml").read_text()
    again = fresh("connect", str(mirrored.directory / "b"), "--json")
    assert (again.code, again.document["written"]) == (0, False)
    moved = tmp_path / "moved"
    (mirrored.directory / "b").rename(moved)
    try:
        told = fresh("connect", str(moved))
    finally:
        moved.rename(mirrored.directory / "b")
    assert told.code == 0
    assert f'add `b: {{main: {{url: "file://{moved}"}}}}` under `sites:`' in told.err
    assert (fresh.directory / "drtool.yaml").read_text() == before


def test_the_configuration_of_another_repository_is_refused_and_not_changed(mirrored, fresh):
    assert fresh("init", "--target", "a=mine", "--target", "x=other", "--target", "y=third").code == 0
    before = (fresh.directory / "drtool.yaml").read_text()
    url = str(mirrored.directory / "a")
    done = fresh("connect", url, "--json")
    assert (done.code, done.error["kind"]) == (11, "refused")
    for name in ("mine", "other", "third"):
        (fresh.directory / name).rename(fresh.directory / f"{name}.gone")
    assert fresh("connect", url).code == 11, "x/main and y/main are not targets of the repository at a"
    assert (fresh.directory / "drtool.yaml").read_text() == before
    assert fresh("connect", url, "--write-config", "second.yaml").code == 0


def test_a_configuration_without_sites_is_not_changed(mirrored, fresh):
    config = fresh.directory / "drtool.yaml"
    config.write_text("sources: {home: {paths: [.]}}\n")
    done = fresh("connect", str(mirrored.directory / "a"))
    assert done.code == 0
    assert "add the repository's sites" in done.err
    assert config.read_text() == "sources: {home: {paths: [.]}}\n"
    again = fresh("connect", str(mirrored.directory / "a"), "--json")
    assert (again.code, again.document["config"]) == (0, f"{config}.new")
    words = shlex.split(again.document["restore"])
    restored = fresh(*words[1:])
    assert restored.code == 0, (words, restored.err)


def test_places_that_cannot_be_connected(mirrored, fresh, tmp_path):
    nothing = fresh("connect", str(tmp_path / "nowhere"), "--json")
    assert (nothing.code, nothing.error["kind"]) == (10, "no_repository")
    (tmp_path / "empty").mkdir()
    assert fresh("connect", str(tmp_path / "empty")).code == 10
    assert fresh("connect", "ftp://bucket/x").code == 2
    assert fresh("connect", "").code == 2
    wrong = fresh("connect", str(mirrored.directory / "a"), "--json", DRTOOL_PASSWORD="wrong")
    assert (wrong.code, wrong.error["kind"]) == (12, "wrong_password")
    assert not (fresh.directory / "drtool.yaml").exists()


def test_an_arbiter_leads_to_the_others_and_a_site_without_a_vote_is_read_alone(shell, fresh):
    (shell.directory / "drtool.yaml").write_text(
        "sites: {a: {main: {url: a}}, b: {main: {url: b, vote: false}}, j: {main: {url: j, vote: only}}}\n"
    )
    assert shell("init").code == 0
    assert shell("backup", "drtool.yaml").code == 0
    found = fresh("connect", str(shell.directory / "j"), "--json", "--write-config", "one.yaml")
    assert found.code == 0
    assert all(site["reachable"] for site in found.document["sites"])
    assert "vote: only" in (fresh.directory / "one.yaml").read_text()
    for site in "ab":
        (shell.directory / site).rename(shell.directory / f"{site}.burnt")
    alone = fresh("connect", str(shell.directory / "j"), "--json", "--write-config", "two.yaml")
    assert (alone.code, alone.document["restore"]) == (0, None)
    assert "hold no copies" in alone.err
    (shell.directory / "b.burnt").rename(shell.directory / "b")
    (shell.directory / "j").rename(shell.directory / "j.burnt")
    third = {"DRTOOL_STATE_DIR": str(fresh.directory / "third")}
    silent = fresh("connect", str(shell.directory / "b"), "--json", "--write-config", "three.yaml", **third)
    assert (silent.code, len(silent.document["newest"])) == (0, 1)
    assert "the copy of the catalogue at b/main" in silent.err
    assert "--manifest-from any" in silent.document["restore"]
    shutil.rmtree(shell.directory / "b" / "manifest")
    mute = fresh("connect", str(shell.directory / "b"), "--json", DRTOOL_STATE_DIR=str(fresh.directory / "fourth"))
    assert (mute.code, mute.error["kind"]) == (6, "no_quorum")
    assert "does not vote" in mute.error["message"]


def test_of_several_places_those_that_answer_are_enough_and_the_others_are_named(mirrored, fresh, tmp_path):
    places = [str(tmp_path / "down"), "sftp://nobody@127.0.0.1:9/x", *(str(mirrored.directory / site) for site in "bc")]
    done = fresh("connect", *places, "--json")
    assert done.code == 0, done.err
    assert f"{tmp_path}/down: there is no repository" in done.err
    assert "sftp://nobody@127.0.0.1:9/x: " in done.err
    assert len(done.document["newest"]) == 1
    assert fresh("snapshots").code == 0
    nowhere = fresh("connect", str(tmp_path / "down"), str(tmp_path / "also"), "--json", "--write-config", "two.yaml")
    assert nowhere.code == 10


def test_places_of_two_repositories_are_refused(mirrored, fresh, tmp_path):
    other = shell_in(tmp_path / "other")
    other.directory.mkdir()
    assert other("init", "--target", f"x={tmp_path}/x").code == 0
    done = fresh("connect", str(mirrored.directory / "a"), str(tmp_path / "x"), "--json")
    assert (done.code, "two repositories" in done.error["message"]) == (11, True)


def test_a_damaged_catalogue_at_one_place_is_read_at_another(fresh, tmp_path):
    """After many changes, part of the catalogue is in pages."""
    place = tmp_path / "world"
    place.mkdir()
    world = World(place, targets=("a/main", "b/main")).found(copies=2)
    with patch("drtool.manifest.commit.RECENT_LIMIT", 4):
        for number in range(3):
            world.backup(fill(place / "source", {"file": noise(500, number)}))
    pages = world.objects("a", "manifest/obj")
    assert pages
    for page in pages:
        page.write_bytes(bytes(page.stat().st_size))
    alone = fresh("connect", str(place / "a"), "--json")
    assert (alone.code, alone.error["kind"]) == (1, "object_missing")
    assert f"{place}/a is damaged: the manifest needs manifest/obj/" in alone.error["message"]
    assert "URL URL" in alone.error["hint"]
    assert fresh("connect", str(place / "a"), str(place / "b")).code == 0
