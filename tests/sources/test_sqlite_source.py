"""SQLite by its backup API: rows in the log are restored, the database is not changed, a damaged one is refused."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from drtool.errors import DrtoolError
from drtool.events import Warned
from drtool.operations.backup import SourceJob
from drtool.sources.sqlite import SqliteSource, clear_stale, describe, stale_beside
from drtool.sources.sqlite import capture as sqlite_capture
from drtool.sources.sqlite.recovery import copy_rolled_back
from drtool.sources.staging import STAGING, staged


@pytest.fixture
def database(tmp_path):
    """In WAL mode, open and in use: nearly all of its data is in the log."""
    path = tmp_path / "srv/app.db"
    path.parent.mkdir(mode=0o750)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)")
        connection.executemany("INSERT INTO orders (note) VALUES (?)", [(f"n{i}",) for i in range(500)])
        connection.execute("COMMIT")
        connection.execute("CREATE VIEW few AS SELECT * FROM orders WHERE id < 10")
        os.chmod(path, 0o640)
        yield path


def stored(world, path, busy_s=60.0, **request):
    job = SourceJob(name="app", captured=SqliteSource(path, busy_s=busy_s))
    with world.open() as repository:
        (report,) = world.run_jobs(repository, job, environ=dict(os.environ), **request).snapshots
    assert list((world.root / world.state / STAGING).iterdir()) == [], "a staged copy was left"
    return report


def fails(world, path, **more):
    before = world.snapshots()
    with pytest.raises(DrtoolError) as caught:
        stored(world, path, **more)
    assert world.snapshots() == before
    assert caught.value.exit_code == 1
    staging = world.root / world.state / STAGING
    assert not staging.exists() or list(staging.iterdir()) == []
    return caught.value.message


def put_back(world, path, out):
    assert world.restore(out).errors == []
    return out / str(path).lstrip("/")


def rows(path, query="SELECT count(*) FROM orders"):
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def test_rows_that_are_still_in_the_log_are_restored(world, database, tmp_path):
    before = {path.name: path.read_bytes() for path in database.parent.iterdir() if not path.name.endswith("-shm")}
    report = stored(world, database)
    assert before == {path.name: path.read_bytes() for path in database.parent.iterdir() if path.name in before}
    assert (report.files.new, report.errors) == (2, [])
    copy = put_back(world, database, tmp_path / "out")
    assert rows(copy) == [(500,)]
    assert rows(copy, "SELECT count(*) FROM few") == [(9,)]
    assert rows(copy, "PRAGMA integrity_check") == [("ok",)]
    assert copy.read_bytes()[18:20] == b"\x01\x01", "a restored database needs no log"
    assert (copy.stat().st_mode & 0o777, copy.parent.stat().st_mode & 0o777) == (0o640, 0o750)


def test_the_record_of_a_database(world, database, tmp_path):
    stored(world, database)
    put_back(world, database, tmp_path / "out")
    inventory = json.loads((tmp_path / "out/sqlite/inventory.json").read_bytes())
    assert inventory["drtool"] == "sqlite"
    (row,) = inventory["databases"]
    assert row["rows"] == {"orders": 500}
    assert row["checks"] == {"integrity_check": "ok"}
    assert len(row["schema_sha256"]) == 64


def test_an_unchanged_database_counts_as_unchanged_and_stores_nothing(world, database):
    first = stored(world, database)
    again = stored(world, database)
    assert (again.files.changed, again.files.unmodified, again.added_bytes) == (0, 2, 0)
    assert again.parent == first.id
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO orders (note) VALUES ('one more')")
    assert stored(world, database).files.changed == 2


def test_a_concurrent_writer_continues_and_the_copy_is_of_one_moment(world, database, tmp_path, monkeypatch):
    """Each transaction adds to both tables, so a copy of one moment has equally many rows in each."""
    monkeypatch.setattr(sqlite_capture, "_STEP_PAGES", 1)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE twins (id INTEGER, filler TEXT)")
    ended, written = threading.Event(), []

    def write():
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            while not ended.is_set():
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("INSERT INTO orders (note) VALUES (?)", ("x" * 500,))
                connection.execute("INSERT INTO twins VALUES (1, ?)", ("y" * 500,))
                connection.execute("COMMIT")
                written.append(1)
                ended.wait(0.002)

    writer = threading.Thread(target=write)
    with world.open() as repository:
        writer.start()
        try:
            job = SourceJob(name="app", captured=SqliteSource(database))
            world.run_jobs(repository, job, environ=dict(os.environ))
        finally:
            ended.set()
            writer.join()
    copy = put_back(world, database, tmp_path / "out")
    assert written
    assert rows(copy) == [(500 + rows(copy, "SELECT count(*) FROM twins")[0][0],)]


def test_a_database_locked_for_good_is_a_failure(world, tmp_path):
    path = tmp_path / "locked.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("BEGIN EXCLUSIVE")
        assert "was locked for" in fails(world, path, busy_s=0.5)


def test_files_that_are_not_databases_are_refused(world, tmp_path):
    assert "there is no database" in fails(world, tmp_path / "missing.db")
    (tmp_path / "text.db").write_text("hello, I am no database, but long enough to be taken for one" * 50)
    assert "is not a SQLite database" in fails(world, tmp_path / "text.db")
    (tmp_path / "empty.db").write_bytes(b"")
    assert "is empty" in fails(world, tmp_path / "empty.db")
    assert "cannot be read" in fails(world, tmp_path)


def test_a_damaged_database_is_refused(world, tmp_path):
    path = tmp_path / "damaged.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("CREATE INDEX i ON t (a)")
        connection.executemany("INSERT INTO t VALUES (?)", [(f"{i}" * 50,) for i in range(2000)])
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 4096] = bytes(4096)
    path.write_bytes(data)
    assert "damaged" in fails(world, path)
    path.write_bytes(data[: len(data) // 2 + 100])
    assert path.name in fails(world, path)


def test_a_dry_run_reports_its_size_and_stores_nothing(world, database):
    report = stored_dry(world, database)
    assert report.id is None
    assert report.processed_bytes > 10_000
    assert "journal mode wal" in report.facts[0]


def stored_dry(world, path):
    with world.open() as repository:
        job = SourceJob(name="app", captured=SqliteSource(path))
        return world.run_jobs(repository, job, dry_run=True).snapshots[0]


def test_the_log_of_an_old_database_is_cleared(tmp_path):
    path = tmp_path / "app.db"
    for end in ("", "-wal", "-shm", "-journal"):
        (tmp_path / f"app.db{end}").write_bytes(b"x")
    assert len(clear_stale(path)) == 3
    assert stale_beside(path) == []
    assert path.exists()


def test_staging_of_a_killed_run_is_removed_by_the_next_and_of_a_live_one_is_not(tmp_path):
    script = f"""
import os, sys
from pathlib import Path
from drtool.sources.sqlite.recovery import copy_rolled_back
from drtool.sources.staging import staged
with staged(Path({str(tmp_path)!r}), 1) as room:
    (room / "half").write_bytes(b"x"); print(room, flush=True); sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        room = os.fsdecode(child.stdout.readline().strip())
        with staged(tmp_path, 1) as mine:
            assert mine.stat().st_mode & 0o777 == 0o700
            assert os.path.exists(f"{room}/half"), "the staging directory of a live run was removed"
        child.kill()
    assert os.path.exists(room)
    with staged(tmp_path, 1):
        assert not os.path.exists(room)
    assert list((tmp_path / STAGING).iterdir()) == []


def test_missing_room_is_reported_before_anything_is_made(tmp_path):
    with pytest.raises(DrtoolError, match="are needed to stage"), staged(tmp_path, 1 << 60):
        pass
    assert list((tmp_path / STAGING).iterdir()) == []


UNFINISHED = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = DELETE")
connection.execute("PRAGMA cache_size = 5")
connection.execute("BEGIN")
connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)")
connection.executemany("INSERT INTO orders (note) VALUES (?)", [("before" * 30,)] * 2000)
connection.execute("COMMIT")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE orders SET note = ?", ("after" * 30,))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def unfinished(tmp_path):
    """A database with an unfinished transaction on disk, left by a killed program."""
    path = tmp_path / "killed.db"
    subprocess.run([sys.executable, "-c", UNFINISHED, str(path)], check=False)
    assert b"after" in path.read_bytes()
    return path


def test_a_transaction_that_was_cut_off_is_rolled_back_on_the_copy(world, unfinished, tmp_path):
    before = {path.name: path.read_bytes() for path in tmp_path.glob("killed.db*")}
    assert len(before) == 2
    stored(world, unfinished)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("killed.db*")} == before, "nothing was written"
    assert any("killed while it wrote" in event.message for event in world.heard if isinstance(event, Warned))
    copy = put_back(world, unfinished, tmp_path / "out")
    assert rows(copy, "SELECT count(*) FROM orders WHERE note LIKE 'before%'") == [(2000,)]
    assert not copy.with_name("killed.db-journal").exists()


def test_a_cut_off_transaction_is_found_through_a_link(world, unfinished, tmp_path):
    link = tmp_path / "below/link.db"
    link.parent.mkdir()
    link.symlink_to(unfinished)
    stored(world, link)
    assert rows(put_back(world, link, tmp_path / "out"), "SELECT count(*) FROM orders WHERE note LIKE 'before%'") == [
        (2000,)
    ]


def test_a_writer_keeps_a_cut_off_transaction_from_being_copied(unfinished, tmp_path):
    with unfinished.open("r+b") as file:
        script = (
            "import fcntl, os, sys\nfile = open(sys.argv[1], 'r+b')\n"
            "fcntl.lockf(file, fcntl.LOCK_EX, 510, 0x40000002, os.SEEK_SET)\nprint('held', flush=True)\nsys.stdin.read()"
        )
        words = [sys.executable, "-c", script, str(unfinished)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(DrtoolError, match="locked by a writer"):
                copy_rolled_back(unfinished, tmp_path / "copy.db", time.monotonic() + 0.2)
            holder.stdin.close()
    assert file.closed


def own_program(path):
    """A database as made by a program with a collation and a function of its own."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.create_collation("by_title", lambda one, other: (one[::-1] > other[::-1]) - (one[::-1] < other[::-1]))
    connection.create_function("sortable", 1, lambda text: text.lower() if text else "", deterministic=True)
    connection.execute("BEGIN")
    connection.execute("CREATE TABLE films (title TEXT COLLATE by_title, CHECK (sortable(title) <> ''))")
    connection.execute("CREATE INDEX titles ON films (title)")
    connection.execute("CREATE INDEX sorted ON films (sortable(title))")
    connection.execute("CREATE TABLE tags (name TEXT COLLATE by_title PRIMARY KEY) WITHOUT ROWID")
    connection.executemany("INSERT INTO films VALUES (?)", [(f"Film {n}",) for n in range(500)])
    connection.executemany("INSERT INTO tags VALUES (?)", [(f"tag {n}",) for n in range(500)])
    connection.execute("COMMIT")
    return connection


def test_a_database_with_collations_and_functions_of_its_own_program_is_stored(world, tmp_path):
    path = tmp_path / "own.db"
    own_program(path).close()
    stored(world, path)
    (warned,) = [event.message for event in world.heard if isinstance(event, Warned) and "own.db" in event.message]
    assert "the collation by_title" in warned
    assert "the function sortable" in warned
    assert "the indexes of films, tags were not compared" in warned
    copy = put_back(world, path, tmp_path / "out")
    assert rows(copy, "SELECT count(*) FROM films") == [(500,)]


def test_damage_of_such_a_database_is_still_found(world, tmp_path):
    path = tmp_path / "own.db"
    own_program(path).close()
    with path.open("r+b") as file:
        file.seek(4096 * 5)
        file.write(b"\xff" * 2048)
    assert "is damaged" in fails(world, path) or "malformed" in fails(world, path)


def test_an_index_that_lacks_rows_is_found_beside_tables_that_cannot_be_checked(tmp_path):
    path = tmp_path / "own.db"
    with closing(own_program(path)) as connection:
        connection.execute("CREATE TABLE plain (a)")
        connection.execute("CREATE INDEX full ON plain (a)")
        connection.execute("CREATE TABLE other (a)")
        connection.execute("CREATE INDEX empty ON other (a)")
        connection.execute("INSERT INTO plain VALUES (1), (2)")
        assert describe(path, "own", str(path)).checks["not compared"] == "films, tags"
        connection.execute("PRAGMA writable_schema = on")
        connection.execute(
            "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = 'empty') WHERE name = 'full'"
        )
    with pytest.raises(DrtoolError, match="row 1 missing from index full"):
        describe(path, "own", str(path))
