"""The meaning of a backup: counts, stored data, and files that change while they are read."""

import os
import socket
import time

import pytest
from three_sites import everything, fill, in_a_child, noise, portrait, settle

from drtool.errors import StoreError
from drtool.operations.backup import BackupRequest, SourceJob, backup, checkpoints
from drtool.operations.backup import run as backup_run
from drtool.operations.backup.worker import BackupWorker
from drtool.operations.listing import ls
from drtool.repository import Repository, founding

MIB = 1024 * 1024


@pytest.fixture
def source(world):
    return fill(
        world.root / "source",
        {"a": noise(5_000, 1), "b": b"", "sub/c": noise(70_000, 2), "sub/deep/d": b"text\n" * 500},
    )


def put_back(world, source, name="out", **more):
    result = world.restore(world.root / name, path=source, **more)
    assert result.errors == []
    return world.root / name


def same(world, source, name="out"):
    assert portrait(put_back(world, source, name)) == portrait(source)


def counts(report):
    files, dirs = report.files, report.dirs
    return (files.new, files.changed, files.unmodified), (dirs.new, dirs.changed, dirs.unmodified)


def test_new_changed_and_unmodified_are_counted(world, source):
    above = len(source.parts)
    settle(source)
    first = world.backup(source)
    assert counts(first) == ((4, 0, 0), (2 + above, 0, 0))
    assert first.processed_bytes == 5_000 + 70_000 + 2_500
    assert first.added_bytes >= 77_500
    again = world.backup(source)
    assert counts(again)[0] == (0, 0, 4)
    assert again.added_bytes <= 1_500, "the directories above the source changed, since the repository is there"
    (source / "a").write_bytes(noise(5_000, 3))
    (source / "new").write_bytes(b"new")
    (source / "sub/deep/d").unlink()
    third = world.backup(source)
    assert counts(third)[0] == (1, 1, 2)
    assert 5_003 <= third.added_bytes <= 8_000
    assert third.parent == again.id
    same(world, source)


def test_nothing_changed_adds_nothing(world, tmp_path):
    source = fill(tmp_path / "source", {f"{i}": noise(1_000, i) for i in range(50)})
    settle(tmp_path)
    first = world.backup(source)
    again = world.backup(source)
    assert again.added_bytes <= first.processed_bytes // 1_000
    assert counts(again)[0] == (0, 0, 50)
    assert again.copies.minimum_written == 2


def test_touched_but_equal_is_not_changed(world, source):
    settle(source)
    world.backup(source)
    os.chmod(source / "a", 0o600)
    os.utime(source / "sub/c")
    report = world.backup(source)
    assert report.files.new == 0
    assert report.added_bytes < 3_000
    same(world, source)


@pytest.mark.parametrize("name", ["a", "sub/c"])
def test_a_file_that_vanishes_is_no_failure(world, source, monkeypatch, name):
    answer = BackupWorker._answer

    def vanish(worker, request):
        (source / name).unlink(missing_ok=True)
        return answer(worker, request)

    monkeypatch.setattr(BackupWorker, "_answer", vanish)
    report = world.backup(source)
    assert report.errors == []
    assert report.files.new == 3
    monkeypatch.undo()
    assert set(portrait(put_back(world, source))) == set(portrait(source))


@pytest.mark.parametrize("size_bytes", [3_000, 5 * MIB], ids=["small", "large"])
@pytest.mark.parametrize("change", ["grow", "shrink", "empty", "replace"])
@pytest.mark.spread(4)
def test_a_file_that_changes_while_it_is_read_is_stored_as_a_state_that_it_had(
    world, source, monkeypatch, size_bytes, change
):
    """The change comes between the scan and the first read, or in the second run in the middle."""
    old, new = noise(size_bytes, 5), noise(size_bytes, 6)
    states = {
        "grow": [old, old + new],
        "shrink": [old, old[: size_bytes // 2]],
        "empty": [old, b""],
        "replace": [old, new],
    }[change]
    path = source / "busy"
    path.write_bytes(old)

    def become():
        if change == "replace":
            (source / "draft").write_bytes(new)
            os.replace(source / "draft", path)
        else:
            with path.open("r+b") as file:
                file.write(states[1])
                file.truncate(len(states[1]))

    take = backup_run.Feeder.take
    monkeypatch.setattr(backup_run.Feeder, "take", lambda feeder, found: (become(), take(feeder, found)))
    report = world.backup(source)
    monkeypatch.undo()
    assert report.errors == []
    assert (put_back(world, source) / "busy").read_bytes() in states
    world.backup(source)
    assert (put_back(world, source, "later") / "busy").read_bytes() == path.read_bytes()


def test_a_log_that_never_stops_growing_is_stored_as_a_prefix(world, source, monkeypatch):
    path = source / "log"
    path.write_bytes(noise(9 * MIB, 7))
    pass_over = backup_run.Feeder._pass

    def growing(feeder, *args):
        with path.open("ab") as file:
            file.write(noise(100_000, 8))
        return pass_over(feeder, *args)

    monkeypatch.setattr(backup_run.Feeder, "_pass", growing)
    assert world.backup(source).errors == []
    stored = (put_back(world, source) / "log").read_bytes()
    assert len(stored) >= 9 * MIB
    assert path.read_bytes().startswith(stored)


def test_unreadable_files_are_listed_and_the_rest_is_stored(world):
    if os.geteuid() != 0:
        pytest.skip("needs another user")
    source = fill(
        world.root / "source", {"open": b"open", "secret": noise(4_000), "large": noise(5 * MIB), "shut/x": b"x"}
    )
    os.chmod(world.root, 0o755)
    for top, dirs, files in os.walk(world.root):
        for name in [*dirs, *files]:
            os.chown(os.path.join(top, name), 65534, 65534)
    for name in ("secret", "large", "shut"):
        os.chown(source / name, 0, 0)
        os.chmod(source / name, 0o700)
    marks = world.root / "marks"
    marks.write_bytes(b"")
    os.chown(marks, 65534, 65534)

    def run():
        report = world.backup(source)
        marks.write_text("\n".join(sorted(f"{row.path}: {row.message}" for row in report.errors)))

    assert in_a_child(run, uid=65534) == 0
    listed = marks.read_text().splitlines()
    assert listed == [f"{source / name}: content: Permission denied" for name in ("large", "secret", "shut")]
    result = world.restore(world.root / "out", path=source)
    assert sorted(row.path for row in result.errors) == [str(source / name) for name in ("large", "secret", "shut")]
    assert sorted(os.listdir(world.root / "out")) == ["open", "shut"]
    report = world.backup(source)
    assert (report.errors, report.files.changed + report.files.new) == ([], 3)
    assert world.restore(world.root / "whole", path=source).errors == []


def test_paths_given_twice_nested_through_a_symlink_and_missing(world, source):
    (world.root / "link").symlink_to(source / "sub")
    report = world.backup(source, source, source / "sub", world.root / "link", world.root / "gone")
    assert [row.path for row in report.errors] == [str(world.root / "gone")]
    assert report.files.new == 4 + 2
    assert portrait(put_back(world, world.root / "link")) == portrait(source / "sub")
    same(world, source, "again")


def test_if_no_path_exists_there_is_no_snapshot(world):
    with world.open() as repository:
        result = world.run_backup(repository, world.root / "gone", world.root / "lost")
    assert (result.snapshots, len(result.failed)) == ([], 1)
    assert world.snapshots() == []


def test_one_source_that_fails_does_not_stop_the_others(world, source):
    with world.open() as repository:
        result = world.run_jobs(
            repository,
            SourceJob(name="gone", paths=(os.fsencode(world.root / "gone"),)),
            SourceJob(name="home", paths=(os.fsencode(source),)),
            SourceJob(name="sub", paths=(os.fsencode(source / "sub"),)),
        )
    assert [row.path for row in result.failed] == ["gone"]
    assert [row.source for row in result.snapshots] == ["home", "sub"]
    assert result.snapshots[1].added_bytes < 5_000
    assert [row.source for row in world.snapshots()] == ["home", "sub"]
    with world.open() as repository:
        second = world.run_jobs(repository, SourceJob(name="home", paths=(os.fsencode(source),)))
    assert second.snapshots[0].parent == result.snapshots[0].id


def test_sockets_are_left_out_and_fifos_are_not_read(world, source):
    os.mkfifo(source / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(source / "socket"))
    report = world.backup(source)
    assert (report.errors, report.files.new) == ([], 5)
    out = put_back(world, source)
    assert (out / "fifo").is_fifo()
    assert not (out / "socket").exists()


def test_a_dry_run_changes_nothing_and_counts_the_same(world, source):
    world.backup(source)
    (source / "sub/new").write_bytes(noise(10_000, 9))
    with world.open() as repository:
        repository.load_index()  # the cache is the only thing that a dry run may fill
    before = everything(world.root)
    dry = world.backup(source, dry_run=True)
    assert everything(world.root) == before
    assert (dry.id, dry.added_bytes, dry.stored_bytes) == (None, 0, 0)
    real = world.backup(source)
    assert dry.processed_bytes == real.processed_bytes
    assert sum(counts(dry)[0]) == sum(counts(real)[0]) == 5
    assert dry.files.new == real.files.new


def test_time_tag_and_host_are_recorded(world, source):
    world.backup(source, time_ns=12 * 10**17, tags=("nightly", "x"), host="elsewhere")
    (row,) = world.snapshots()
    assert (row.time_ns, row.tags, row.host, row.paths) == (
        12 * 10**17,
        ("nightly", "x"),
        "elsewhere",
        (os.fsencode(source),),
    )
    assert world.backup(source).parent is None, "another host's snapshot is no parent"


@pytest.mark.parametrize(
    "size_bytes",
    [1, 128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1, 2 * MIB, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 8 * MIB, 8 * MIB + 1],
)
@pytest.mark.spread(7)
def test_sizes_at_every_boundary(world, size_bytes):
    source = fill(world.root / "source", {"noise": noise(size_bytes, 1), "zeros": bytes(size_bytes)})
    assert world.backup(source).errors == []
    same(world, source)
    assert world.verify().damaged == []


def test_an_edit_in_the_middle_of_a_large_file_stores_few_chunks(world):
    data = noise(12 * MIB, 3)
    source = fill(world.root / "source", {"large": data})
    assert world.backup(source).added_bytes >= 12 * MIB
    (source / "large").write_bytes(data[: 6 * MIB] + b"inserted" + data[6 * MIB :])
    report = world.backup(source)
    assert 500 <= report.added_bytes <= 3 * MIB
    same(world, source)


def test_the_same_text_is_cut_alike_small_and_in_slots(world):
    """A separate file and a part of a large file share their chunks."""
    data = noise(4 * MIB, 4)
    source = fill(world.root / "source", {"small": data})
    world.backup(source)
    (source / "large").write_bytes(data + noise(MIB, 5))
    assert world.backup(source).added_bytes <= 3 * MIB


def test_a_sparse_file_comes_back_sparse(world, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        file.seek(20 * MIB)
        file.write(b"in the middle")
        file.truncate(40 * MIB)
    with (source / "holes only").open("wb") as file:
        file.truncate(6 * MIB)
    report = world.backup(source)
    assert report.processed_bytes == 46 * MIB
    assert report.stored_bytes < MIB
    out = tmp_path / "out"
    assert world.restore(out, path=source).written_bytes < MIB
    assert portrait(out) == portrait(source)
    assert (out / "sparse").stat().st_blocks * 512 < MIB


def test_an_empty_directory_and_thousands_of_files_in_one(world):
    source = fill(world.root / "source", {f"many/{number:04}": b"%d" % number for number in range(3_000)})
    (source / "empty").mkdir()
    assert world.backup(source).files.new == 3_000
    same(world, source)
    with world.open() as repository:
        (snapshot,) = repository.view.state.snapshots
        assert len(ls(repository, snapshot, os.fsencode(source / "many"), recursive=False).entries) == 3_000
    (source / "many/1500").unlink()
    report = world.backup(source)
    assert report.files.new + report.files.changed == 0


def test_a_file_of_thousands_of_chunks(world, monkeypatch, place):
    policy = founding.Policy
    monkeypatch.setattr(founding, "Policy", lambda **more: policy(**more, chunk_average_bytes=4096))
    small = type(world)(place / "small").found()
    data = noise(9 * MIB, 2)
    source = fill(small.root / "source", {"large": data})
    small.backup(source)
    same(small, source)
    (source / "large").write_bytes(data[: 4 * MIB] + b"x" + data[4 * MIB :])
    assert small.backup(source).added_bytes < 400_000, "a few chunks, and the lists that name thousands"
    same(small, source, "again")


def test_a_tree_deeper_than_a_path_may_be_long(world):
    source = world.root / "source"
    source.mkdir()
    top = os.open(source, os.O_RDONLY)
    at = os.dup(top)
    name = b"d" * 200
    for _ in range(25):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    fd = os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=at)
    os.write(fd, b"five thousand bytes down")
    for open_fd in (fd, at, top):
        os.close(open_fd)
    report = world.backup(source)
    assert (report.errors, report.files.new) == ([], 1)
    assert world.restore(world.root / "out", path=source).errors == []
    at = os.open(world.root / "out", os.O_RDONLY)
    for _ in range(25):
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    fd = os.open("bottom", os.O_RDONLY, dir_fd=at)
    assert os.read(fd, 100) == b"five thousand bytes down"
    os.close(fd)
    os.close(at)


@pytest.mark.parametrize(
    "files", [{"large": 24 * MIB}, {f"{n}/{i}": 400_000 for n in range(6) for i in range(8)}], ids=["large", "many"]
)
def test_checkpointed_data_of_a_killed_run_is_reused(world, monkeypatch, files):
    source = fill(
        world.root / "source", {name: noise(size, number) for number, (name, size) in enumerate(files.items())}
    )
    monkeypatch.setattr(checkpoints, "CHECKPOINT_BYTES", 4 * MIB)

    def die(*_):
        os._exit(9)

    def run():
        monkeypatch.setattr(backup_run.BackupRun, "_snapshot", die)
        world.backup(source)

    assert in_a_child(run) == 9
    (session,) = world.view().state.sessions
    assert session.renewed > session.opened, "it made checkpoints"
    assert world.snapshots() == []
    report = world.backup(source)
    assert report.added_bytes < sum(files.values()) // 2, "cuts differ from repository to repository"
    same(world, source)
    assert list(world.view().state.sessions) == []


def test_a_checkpoint_in_the_middle_loses_no_chunk_and_no_tree(world, monkeypatch):
    monkeypatch.setattr(checkpoints, "CHECKPOINT_CHUNKS", 20)
    world.workers = 2
    source = fill(
        world.root / "source", {f"{n}/{i}": noise(3_000, 100 * n + i % 30) for n in range(8) for i in range(40)}
    )
    monkeypatch.setattr("drtool.operations.backup.feeding.BATCH_FILES", 8)
    report = world.backup(source)
    assert report.added_bytes <= 8 * 30 * 3_000 + 100_000
    same(world, source)
    assert world.verify().damaged == []


def test_two_workers_and_many_give_the_same_tree(world, source):
    for workers in (1, 2, 5):
        world.workers = workers
        world.backup(source, host=f"host{workers}")
    with world.open() as repository:
        pictures = [
            ls(repository, row, os.fsencode(source), recursive=True).entries for row in repository.view.state.snapshots
        ]
    assert pictures[0] == pictures[1] == pictures[2]


def test_a_source_that_fails_hides_neither_the_one_before_nor_the_one_after(world, source, monkeypatch):
    begin = Repository.begin

    def fails_once(repository, writer, name):
        if name == "second":
            raise StoreError("no target takes anything")
        return begin(repository, writer, name)

    monkeypatch.setattr(Repository, "begin", fails_once)
    jobs = tuple(SourceJob(name=name, paths=(os.fsencode(source),)) for name in ("first", "second", "third"))
    with world.open() as repository:
        request = BackupRequest(jobs=jobs, host="h", now_ns=time.time_ns(), workers=1)
        result = backup(repository, request, lambda event: None)
    assert [row.source for row in result.snapshots] == ["first", "third"]
    assert [(row.path, row.exit_code) for row in result.failed] == [("second", 1)]


def test_times_of_directories_on_the_way_are_no_change(world, source):
    world.backup(source)
    settle(source)
    os.utime(world.root)
    report = world.backup(source)
    assert (report.added_bytes, report.stored_bytes) == (0, 0)
    os.chmod(world.root, 0o711)
    assert world.backup(source).added_bytes > 0


def test_data_that_no_site_has_is_stored_again(world, source):
    world.backup(source)
    settle(source)
    for pack in world.root.glob("*/packs/*/*"):
        pack.unlink()
    report = world.backup(source)
    assert report.added_bytes > 0
    out = world.root / "out"
    assert world.restore(out, path=source).errors == []
    assert portrait(out) == portrait(source)
    assert report.id not in {row.snapshot for row in world.verify().affected}
