"""A source that lost most of what it had is not stored as if all were well."""

import os
import shutil
import sqlite3
from contextlib import closing

import pytest
from msgspec.structs import replace
from three_sites import fill

from drtool.operations.backup import SourceJob
from drtool.operations.backup.shrinkage import Amount, Shrunk, rows_of, shrinkage
from drtool.sources.filesystem import Problem
from drtool.sources.inventory import Database, Inventory
from drtool.sources.port import from_bytes
from drtool.sources.sqlite import SqliteSource

MIB = 1 << 20


@pytest.mark.parametrize(
    ("before", "now", "lost"),
    [
        (Amount(files=1, bytes=10, rows=5), Amount(files=1, bytes=10, rows=0), "had 5 rows and has no rows"),
        (Amount(files=1, bytes=10, rows=1000), Amount(files=1, bytes=10, rows=99), "had 1,000 rows and has 99 rows"),
        (Amount(files=1, bytes=10, rows=1000), Amount(files=1, bytes=10, rows=100), ""),
        (Amount(files=1, bytes=10, rows=99), Amount(files=1, bytes=10, rows=1), ""),
        (Amount(files=1, bytes=10, rows=1000), Amount(files=1, bytes=10, rows=None), ""),
        (Amount(files=1, bytes=10, rows=None), Amount(files=1, bytes=10, rows=0), ""),
        (Amount(files=0, bytes=0, rows=0), Amount(files=0, bytes=0, rows=0), ""),
        (Amount(files=3, bytes=9), Amount(files=0, bytes=0), "had 3 files and has no files"),
        (Amount(files=100, bytes=9), Amount(files=9, bytes=9), "had 100 files and has 9 files"),
        (Amount(files=99, bytes=9), Amount(files=1, bytes=9), ""),
        (Amount(files=1, bytes=20 * MIB), Amount(files=1, bytes=MIB), "had 20,971,520 bytes and has 1,048,576 bytes"),
        (Amount(files=1, bytes=9 * MIB), Amount(files=1, bytes=1), ""),
        (Amount(files=500, bytes=20 * MIB), Amount(files=600, bytes=30 * MIB), ""),
    ],
)
def test_the_share_that_counts_as_most(before, now, lost):
    assert shrinkage(before, now, 0.9) == lost


def test_the_loss_of_everything_is_noticed_with_any_share():
    assert shrinkage(Amount(files=500, bytes=1), Amount(files=1, bytes=1), 1.0) == ""
    assert shrinkage(Amount(files=500, bytes=1), Amount(files=0, bytes=0), 1.0)


def run(world, job, **request):
    with world.open() as repository:
        return world.run_jobs(repository, job, environ=dict(os.environ), **request)


def test_a_tree_that_lost_most_of_its_files_keeps_its_last_snapshot(world):
    source = fill(world.root / "source", {f"{number:03}": b"x" for number in range(120)})
    job = SourceJob(name="home", paths=(os.fsencode(source),), max_shrink=0.9)
    run(world, job)
    before = world.snapshots()
    for path in sorted(source.iterdir())[5:]:
        path.unlink()
    for dry_run in (True, False):
        with pytest.raises(Shrunk, match="source home had 120 files and has 5 files, so nothing was stored") as error:
            run(world, job, dry_run=dry_run)
        assert error.value.exit_code == 3
    assert world.snapshots() == before
    assert world.view().state.sessions == ()
    (report,) = run(world, replace(job, max_shrink=None)).snapshots
    assert report.files.unmodified == 5
    assert run(world, job).failed == [], "the next one is compared with the accepted one"


def test_one_source_that_shrank_does_not_keep_the_others_from_being_stored(world):
    homes = [fill(world.root / name, {f"{number:03}": b"x" for number in range(120)}) for name in ("one", "two")]
    jobs = [SourceJob(name=home.name, paths=(os.fsencode(home),), max_shrink=0.9) for home in homes]
    with world.open() as repository:
        world.run_jobs(repository, *jobs)
    shutil.rmtree(homes[0])
    fill(homes[0], {"left": b"x"})
    with world.open() as repository:
        result = world.run_jobs(repository, *jobs)
    assert [(row.path, row.exit_code) for row in result.failed] == [("one", 3)]
    assert [row.source for row in result.snapshots] == ["two"]


def test_a_database_without_the_rows_that_it_had_is_refused(world, tmp_path):
    path = tmp_path / "app.db"

    def made(rows):
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)")
            connection.executemany("INSERT INTO orders (note) VALUES (?)", [("note",)] * rows)

    job = SourceJob(name="app", captured=SqliteSource(path), max_shrink=0.9)
    made(3)
    run(world, job)
    made(0)
    with pytest.raises(Shrunk, match="source app had 3 rows and has no rows"):
        run(world, job)
    made(1)
    run(world, job)


class Served:
    """A server with an inventory of its rows and of missing parts."""

    kind, paths, again = "postgresql", (b"/postgresql",), True

    def __init__(self, rows, missing=()):
        database = Database(name="orders", dump="/postgresql/orders/dump.pgc", rows=rows)
        self._inventory = Inventory(drtool="postgresql", databases=(database,), missing=missing)

    def files(self, around):
        for line in self._inventory.missing:
            around.problem(Problem(b"/postgresql", line))
        yield from_bytes(b"/postgresql/inventory.json", self._inventory.encoded())


def test_a_server_of_which_something_could_not_be_dumped_is_stored_as_far_as_it_goes(world):
    job = SourceJob(name="orders", captured=Served({"t": 10, "big": 1000}), max_shrink=0.9)
    run(world, job)
    (report,) = run(world, replace(job, captured=Served({"t": 10}, ("big: it is locked",)))).snapshots
    assert [error.message for error in report.errors] == ["big: it is locked"]
    run(world, job)
    with pytest.raises(Shrunk, match="had 1,010 rows and has 10 rows"):
        run(world, replace(job, captured=Served({"t": 10, "big": 0}, ("view v: it is broken",))))


def inventory(missing=(), **databases):
    rows = [Database(name=name, dump="d", rows=counts) for name, counts in databases.items()]
    return Inventory(drtool="mysql", databases=tuple(rows), missing=tuple(missing))


@pytest.mark.parametrize(
    ("now", "found"),
    [
        (inventory(shop={"big": 0, "log": 9}), (1010, 9)),
        (inventory(shop={"big": 0, "log": None}), (1000, 0)),  # a busy table says nothing, and the others do
        (inventory(shop={"log": 9}), (1010, 9)),  # a table that is gone has no rows
        (inventory(missing=["shop: a view"], shop={"big": 0, "log": 9}), (1010, 9)),
        (inventory(missing=["shop"], other={"t": 1}), None),  # it could not be dumped
        (inventory(shop=None), None),  # rows are not counted
    ],
)
def test_rows_are_compared_table_by_table(now, found):
    assert rows_of([inventory(shop={"big": 1000, "log": 10, "odd": None})], now) == found


def test_an_incomplete_snapshot_does_not_hide_earlier_content(world):
    job = SourceJob(name="orders", captured=Served({"t": 10, "big": 1000}), max_shrink=0.9)
    run(world, job)
    run(world, replace(job, captured=Served({"t": 11}, ("big: it is locked",))))
    with pytest.raises(Shrunk, match="had 1,011 rows and has 11 rows"):
        run(world, replace(job, captured=Served({"t": 11})))
