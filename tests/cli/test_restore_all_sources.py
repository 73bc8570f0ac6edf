"""`restore --all-sources`: one command restores every source of a host."""

import json
import os
import shutil
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from command_shell import Shell, shell_in
from three_sites import fill

HERE = socket.gethostname()


def inventory(name):
    """Return the beginning of a PostgreSQL snapshot, which is enough to recognise its kind."""
    database = {"name": name, "dump": f"postgresql/{name}.dump"}
    return json.dumps({"drtool": "postgresql", "format": 1, "server_version": "16.1", "databases": [database]})


def backup(shell, *words, day):
    done = shell("backup", *words, "--time", f"2026-01-{day:02}T00:00:00Z")
    assert done.code == 0, done.err


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Shell:
    """This host has home twice, etc, letters (an older part of home), a nameless source and two databases. Host far has home."""
    made = shell_in(tmp_path_factory.mktemp("all sources"))
    top = made.directory
    fill(top, {"home/letters/a": b"old\n", "home/b": b"b\n", "etc/fstab": b"fstab\n", "srv/www": b"www\n"})
    fill(top, {"orders.json": inventory("orders").encode(), "shop.json": inventory("shop").encode()})
    sources = {
        "home": {"paths": [str(top / "home")]},
        "etc": {"paths": [str(top / "etc")]},
        "letters": {"paths": [str(top / "home/letters")]},
        "never": {"paths": [str(top / "never")]},
    }
    for name in ("orders", "shop"):
        command = ["cat", str(top / f"{name}.json")]
        sources[name] = {"stream": {"command": command, "name": "postgresql/inventory.json"}}
    targets = [word for site in "abc" for word in ("--target", f"{site}={top / 'sites' / site}")]
    assert made("init", *targets).code == 0
    with (top / "drtool.yaml").open("a") as config:
        config.write(f"sources: {json.dumps(sources)}\n")
    backup(made, "--source", "home", day=1)
    backup(made, "--source", "letters", day=2)
    fill(top, {"home/letters/a": b"new\n"})
    backup(made, "--source", "home", day=3)
    backup(made, "--source", "etc", "--source", "orders", day=4)
    backup(made, "--source", "shop", day=5)
    backup(made, str(top / "srv"), day=6)
    backup(made, "--source", "home", "--host", "far", day=7)
    return made


def contents(top: Path):
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def test_every_source_of_this_host_is_restored_and_nothing_is_mixed(stored, tmp_path):
    out = tmp_path / "out"
    done = stored("restore", "--all-sources", "--to", str(out), "--verify", "--json")
    assert done.code == 0, done.err
    found = done.document
    rows = {row["source"]: row for row in found["sources"]}
    assert list(rows) == ["letters", "home", "etc", "orders", "shop", ""], "the oldest first"
    assert {row["host"] for row in rows.values()} == {HERE}
    assert (found["host"], found["other_hosts"], found["verified"]) == (HERE, ["far"], True)
    top = str(stored.directory).lstrip("/")
    letters, orders = (f"_sources/{name}-{rows[name]['snapshot'][:8]}" for name in ("letters", "orders"))
    assert contents(out) == {
        f"{top}/home/letters/a": b"new\n",
        f"{top}/home/b": b"b\n",
        f"{top}/etc/fstab": b"fstab\n",
        f"{top}/srv/www": b"www\n",
        "postgresql/inventory.json": inventory("shop").encode(),
        f"{letters}/{top}/home/letters/a": b"old\n",
        f"{orders}/postgresql/inventory.json": inventory("orders").encode(),
    }
    assert rows["letters"]["clash"] == f"/{top}/home/letters/a"
    assert (rows["letters"]["to"], rows["home"]["to"]) == (str(out / letters), str(out))
    assert "source letters and a newer snapshot hold different things" in done.err
    assert (found["files"], sum(row["files"] for row in rows.values())) == (7, 7)
    assert found["without_snapshot"] == ["never"]
    assert "source never has no snapshot" in done.err


def test_dumps_of_databases_are_restored_as_files_and_it_says_how_to_load_them(stored, tmp_path):
    done = stored("restore", "--all-sources", "--to", str(tmp_path / "out"))
    assert "source shop is a PostgreSQL database: its dumps are in" in done.err
    assert "--to-dsn DSN loads them" in done.err


def test_a_dry_run_reports_the_same_and_writes_nothing(stored, tmp_path):
    out = tmp_path / "out"
    done = stored("restore", "--all-sources", "--to", str(out), "--dry-run", "--json")
    assert (done.code, done.document["files"], done.document["dry_run"], out.exists()) == (0, 7, True, False)


def test_another_host_is_restored_by_its_name(stored, tmp_path):
    out = tmp_path / "out"
    done = stored("restore", "--all-sources", "--host", "far", "--to", str(out), "--json")
    assert (done.code, [row["host"] for row in done.document["sources"]]) == (0, ["far"])
    assert done.document["without_snapshot"] == []
    assert len(contents(out)) == 2


def test_a_host_without_snapshots_sees_the_hosts_that_have_some(stored, tmp_path):
    done = stored("restore", "--all-sources", "--host", "nowhere", "--to", str(tmp_path / "out"), "--json")
    assert (done.code, done.error["kind"]) == (1, "no_such_snapshot")
    assert f"there are snapshots of {', '.join(sorted((HERE, 'far')))}" in done.error["message"]
    assert not (tmp_path / "out").exists()


def test_sources_and_tags_narrow_it(stored, tmp_path):
    words = ("restore", "--all-sources", "--to", str(tmp_path / "out"), "--json")
    done = stored(*words, "--source", "etc", "--source", "never")
    assert [row["source"] for row in done.document["sources"]] == ["etc"]
    assert done.document["without_snapshot"] == ["never"]
    assert stored(*words, "--source", "never").code == 1


def test_a_nonempty_directory_needs_overwrite_and_a_second_run_writes_nothing(stored, tmp_path):
    out = tmp_path / "out"
    words = ("restore", "--all-sources", "--to", str(out), "--json")
    assert stored(*words).code == 0
    before = contents(out)
    assert stored(*words).code == 11
    again = stored(*words, "--overwrite", "if-changed")
    assert (again.code, again.document["written_bytes"], contents(out)) == (0, 0, before)
    (out / str(stored.directory).lstrip("/") / "etc/fstab").write_text("other\n")
    assert stored(*words, "--overwrite", "always").code == 0
    assert contents(out) == before


@pytest.mark.parametrize(
    "more",
    [
        ("latest",),
        ("--in-place",),
        ("--include", "x"),
        ("--exclude", "x"),
        ("--delete",),
        ("--to-dsn", "x"),
        ("--host", HERE, "--host", "far"),
    ],
)
def test_options_that_cannot_be_combined_are_usage_errors(stored, tmp_path, more):
    done = stored("restore", "--all-sources", "--to", str(tmp_path / "out"), *more)
    assert (done.code, (tmp_path / "out").exists()) == (2, False)


def test_without_a_directory_or_a_snapshot_it_says_what_is_missing(stored):
    assert stored("restore", "--all-sources").code == 2
    missing = stored("restore", "--to", "x")
    assert (missing.code, "--all-sources" in missing.err) == (2, True)


def test_an_unreadable_source_does_not_stop_the_restore_of_the_others(tmp_path):
    """There is one copy of everything, and the pack with the content of one source alone is damaged."""
    shell = shell_in(tmp_path)
    fill(tmp_path, {"good/file": b"good\n", "bad/file": os.urandom(300_000)})
    assert shell("init", "--target", f"a={tmp_path}/a", "--copies", "1").code == 0
    backup(shell, str(tmp_path / "good"), day=1)
    before = set((tmp_path / "a/packs").rglob("*"))
    backup(shell, str(tmp_path / "bad"), day=2)
    for path in set((tmp_path / "a/packs").rglob("*")) - before:
        if path.is_file():
            path.write_bytes(b"\0" * path.stat().st_size)
    shutil.rmtree(tmp_path / "cache")
    done = shell("restore", "--all-sources", "--to", "out", "--json")
    assert done.code in (1, 3)
    assert (tmp_path / "out" / str(tmp_path / "good/file").lstrip("/")).read_bytes() == b"good\n"
    bad, good = sorted(done.document["sources"], key=lambda row: row["exit_code"], reverse=True)
    assert (good["exit_code"], good["files"]) == (0, 1)
    assert bad["failed"] or bad["errors"]
    assert not (tmp_path / "out" / str(tmp_path / "bad/file").lstrip("/")).exists()


def test_the_only_host_is_restored_on_a_machine_with_another_name(tmp_path):
    shell = shell_in(tmp_path)
    fill(tmp_path, {"tree/file": b"x\n"})
    assert shell("init", "--target", f"a={tmp_path}/a", "--copies", "1").code == 0
    empty = shell("restore", "--all-sources", "--to", "out")
    assert (empty.code, "no snapshots yet" in empty.err) == (1, True)
    backup(shell, str(tmp_path / "tree"), "--host", "lost", day=1)
    done = shell("restore", "--all-sources", "--to", "out")
    assert (done.code, f"this host, {HERE}, has no snapshots; all are of lost" in done.err) == (0, True)


def test_two_sqlite_databases_are_restored_to_their_places(tmp_path):
    """Both snapshots have an inventory at the same path, and neither database is moved because of it."""
    shell = shell_in(tmp_path)
    sources = {}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with closing(sqlite3.connect(tmp_path / name / "app.db")) as database:
            database.execute("CREATE TABLE t (word)")
            database.execute("INSERT INTO t VALUES (?)", (name,))
            database.commit()
        sources[name] = {"sqlite": {"path": str(tmp_path / name / "app.db")}}
    assert shell("init", "--target", f"a={tmp_path}/a", "--copies", "1").code == 0
    with (tmp_path / "drtool.yaml").open("a") as config:
        config.write(f"sources: {json.dumps(sources)}\n")
    assert shell("backup").code == 0
    done = shell("restore", "--all-sources", "--to", "out", "--verify", "--json")
    assert done.code == 0, done.err
    assert [row["clash"] for row in done.document["sources"]] == [None, None]
    for name in ("one", "two"):
        with closing(sqlite3.connect(tmp_path / "out" / str(tmp_path / name / "app.db").lstrip("/"))) as database:
            assert database.execute("SELECT word FROM t").fetchall() == [(name,)]
