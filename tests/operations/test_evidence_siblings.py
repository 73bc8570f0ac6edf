"""Reused data and its copies: sources that are no files, targets that drain, are lost or read-only, and damage met on the way."""

import os
import shutil
import sqlite3

import pytest
from targets_world import drain
from test_backup_evidence import away, flip, holders, packs
from test_sites import replace_site
from three_sites import fill, noise, settle

from drtool.operations.backup import SourceJob
from drtool.packing import PackKind
from drtool.sources.sqlite import SqliteSource
from drtool.sources.stream import CommandStream, InputStream

MIB = 1024 * 1024


def from_pipe(world, data: bytes):
    """Back up the data of a pipe, once."""
    path = world.root / "piped"
    path.write_bytes(data)
    with path.open("rb") as file, world.open() as repository:
        job = SourceJob(name="pipe", captured=InputStream("dumps/one.sql", file.fileno()))
        return world.run_jobs(repository, job).snapshots[0]


def from_command(world, path):
    job = SourceJob(name="command", captured=CommandStream("dumps/one.sql", ["cat", str(path)]))
    with world.open() as repository:
        return world.run_jobs(repository, job, environ=dict(os.environ)).snapshots[0]


def restored(world, name: str) -> bytes:
    shutil.rmtree(world.root / "cache", ignore_errors=True)
    shutil.rmtree(world.root / "out", ignore_errors=True)
    world.restore(world.root / "out")
    return (world.root / "out" / name).read_bytes()


@pytest.mark.parametrize("kind", [PackKind.DATA, PackKind.TREES])
def test_data_of_a_pipe_is_stored_again_where_all_copies_are_bad(world, kind):
    data = noise(MIB, 1)
    from_pipe(world, data)
    flip(world, *packs(world, kind))
    if kind == PackKind.DATA:
        world.verify("full")
    shutil.rmtree(world.root / "cache")
    report = from_pipe(world, data)
    assert (report.copies.minimum_written, report.degraded) == (2, False)
    assert restored(world, "dumps/one.sql") == data


@pytest.mark.parametrize("kind", [PackKind.DATA, PackKind.TREES])
def test_output_of_a_command_is_stored_again_where_all_copies_are_bad(world, kind):
    path = world.root / "dump"
    path.write_bytes(noise(MIB, 1))
    from_command(world, path)
    flip(world, *packs(world, kind))
    if kind == PackKind.DATA:
        world.verify("full")
    shutil.rmtree(world.root / "cache")
    report = from_command(world, path)
    assert (report.copies.minimum_written, report.degraded) == (2, False)
    assert restored(world, "dumps/one.sql") == path.read_bytes()


def test_a_stream_counts_the_copies_of_reused_data(world):
    data = noise(MIB, 1)
    from_pipe(world, data)
    away(world, holders(world, packs(world)[0])[0])
    report = from_pipe(world, data)
    assert (report.copies.minimum_written, report.degraded) == (1, True)


def test_a_database_is_stored_again_where_all_copies_are_bad(world):
    path = world.root / "app.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table rows (text)")
        connection.executemany("insert into rows values (?)", [(noise(1000, n),) for n in range(500)])
    connection.close()
    job = SourceJob(name="app", captured=SqliteSource(path))
    with world.open() as repository:
        world.run_jobs(repository, job)
    flip(world, *packs(world))
    world.verify("full")
    with world.open() as repository:
        report = world.run_jobs(repository, job).snapshots[0]
    assert (report.copies.minimum_written, report.degraded) == (2, False)
    (world.root / "back.db").write_bytes(restored(world, str(path)[1:]))
    with sqlite3.connect(world.root / "back.db") as back:
        assert back.execute("select count(*) from rows").fetchone() == (500,)
    back.close()


@pytest.fixture
def source(world):
    made = fill(world.root / "source", {"big": noise(MIB, 1), "sub/small": noise(5_000, 2)})
    world.backup(made)
    return made


def test_copies_at_a_draining_target_count_until_they_went(world, source):
    site = holders(world, packs(world)[0])[0]
    drain(world, f"{site}/main")
    report = world.backup(source)
    assert (report.copies.minimum_written, report.degraded) == (2, False)
    assert world.status().sources[0].copies == 2


def test_copies_at_a_place_that_was_given_up_count_nowhere(world, source):
    name = packs(world)[0]
    site, other = holders(world, name)
    (world.directory(other) / name).unlink()
    replace_site(world, site, "d", world.root / "d", gone=True)
    assert (world.directory(site) / name).exists()
    report = world.backup(source)
    assert report.added_bytes > 0
    assert (world.directory(site) / name).exists()
    shutil.rmtree(world.directory(site))
    assert restored(world, str(source / "big")[1:]) == noise(MIB, 1)


def test_copies_at_a_target_that_refuses_writes_count(world, source):
    settle(source)
    world.backup(source)
    with world.open() as repository:
        repository.targets.fail(f"{holders(world, packs(world)[0])[0]}/main", "it is read-only")
        report = world.run_backup(repository, source).snapshots[0]
    assert report.copies.minimum_written == 2
    assert report.added_bytes == 0


def test_a_lost_pack_costs_the_unaffected_files_no_second_read(world):
    """Only files that need the lost pack are read again, and they are reported as unmodified."""
    source = fill(world.root / "source", {"first": noise(MIB, 1)})
    world.backup(source)
    lost = packs(world)
    fill(source, {"second": noise(MIB, 2)})
    world.backup(source)
    settle(source)
    world.backup(source)
    for name in lost:
        for site in holders(world, name):
            (world.directory(site) / name).unlink()
    os.chmod(source / "second", 0o644)
    report = world.backup(source)
    assert MIB <= report.added_bytes < MIB + 5000
    assert report.files.new == 0
    assert restored(world, str(source / "first")[1:]) == noise(MIB, 1)


def test_a_rotten_list_of_chunks_is_stored_again(world):
    """A file of many chunks names them in a list, which is in a pack of trees."""
    source = fill(world.root / "source", {"zeros": noise(1000, 3)})
    with open(source / "zeros", "ab") as file:
        file.writelines(
            noise(65_536, number) if number % 100 == 0 else bytes([number % 251]) * 65_536 for number in range(1100)
        )
    world.backup(source)
    settle(source)
    world.backup(source)
    flip(world, *packs(world, PackKind.TREES))
    world.verify("full")
    world.backup(source)
    assert restored(world, str(source / "zeros")[1:]) == (source / "zeros").read_bytes()


def test_a_backup_in_the_face_of_rot_that_it_meets_itself_is_whole_on_every_site(world, source):
    """The tree rots between two backups, unnoticed."""
    settle(source)
    world.backup(source)
    flip(world, *packs(world, PackKind.TREES))
    shutil.rmtree(world.root / "cache")
    world.backup(source)
    newest = max(world.snapshots(), key=lambda row: row.sequence)
    assert newest.id.hex() not in {row.snapshot for row in world.verify("full").affected}
