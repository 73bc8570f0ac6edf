"""Checks before a backup: exclusions, reasons not to begin, and reports."""

import os
import time

import pytest
from three_sites import World, fill, noise

from drtool.events import ignore
from drtool.operations.backup import SourceJob
from drtool.operations.backup.circumstances import at_work, is_recent, without_targets


def names(world, source):
    out = world.root / "out"
    world.restore(out / str(len(world.snapshots())), path=source)
    top = out / str(len(world.snapshots()))
    return {os.path.relpath(os.path.join(folder, name), top) for folder, _, files in os.walk(top) for name in files}


def test_large_files_and_ignored_files_are_left_out(world, tmp_path):
    source = fill(
        tmp_path / "s",
        {"small": b"x", "large": noise(3000, 1), "d/.drtoolignore": b"*.o\n", "d/x.o": b"", "d/x.c": b""},
    )
    assert world.backup(source, larger_than_bytes=2999, ignore_files=True).errors == []
    assert names(world, source) == {"small", "d/.drtoolignore", "d/x.c"}
    world.backup(source, larger_than_bytes=3000)
    assert names(world, source) == {"small", "large", "d/.drtoolignore", "d/x.c", "d/x.o"}


def test_an_empty_directory_is_new_once(world, tmp_path):
    source = fill(tmp_path / "s", {"x": b"x"})
    (source / "empty").mkdir()
    first = world.backup(source)
    second = world.backup(source)
    assert first.dirs.new > 0
    assert (second.dirs.new, second.dirs.changed) == (0, 0)
    assert second.dirs.unmodified == first.dirs.new
    fill(source, {"empty/y": b"y"})
    third = world.backup(source)
    assert third.dirs.new == 0
    assert third.dirs.changed >= 1


def test_whether_the_newest_snapshot_is_young_enough(world, tmp_path):
    source = fill(tmp_path / "s", {"x": b"x"})
    job, other = (SourceJob(name="", paths=(os.fsencode(path),)) for path in (source, tmp_path / "other"))
    hour_ns = 3600 * 10**9
    now_ns = time.time_ns()
    world.backup(source, time_ns=now_ns - 5 * hour_ns)
    with world.open() as repository:
        assert is_recent(repository, job, world.host, now_ns, 6 * hour_ns)
        assert not is_recent(repository, job, world.host, now_ns, 4 * hour_ns)
        assert not is_recent(repository, job, "elsewhere", now_ns, 6 * hour_ns)
        assert not is_recent(repository, other, world.host, now_ns, 6 * hour_ns)
        assert not is_recent(repository, job, world.host, now_ns - 10 * hour_ns, 6 * hour_ns), "from the future"


def test_a_running_backup_is_seen_until_the_last_one_ends(tmp_path):
    job, other = (SourceJob(name=name, paths=(os.fsencode(tmp_path),)) for name in ("home", "other"))
    with at_work(tmp_path, job, "here") as busy:
        assert not busy
        with at_work(tmp_path, other, "here") as also, at_work(tmp_path, job, "there") as elsewhere:
            assert (also, elsewhere) == (False, False)
        second = at_work(tmp_path, job, "here")
        assert second.__enter__()
    with at_work(tmp_path, job, "here") as busy:
        assert busy, "the first has ended, the second has not"
    second.__exit__(None, None, None)
    with at_work(tmp_path, job, "here") as busy:
        assert not busy


def without(world, job):
    """Return the exclusions of a job, and the warnings."""
    heard = []
    with world.open() as repository:
        kept, found = without_targets(repository, job, heard.append)
        world.run_jobs(repository, kept)
    return found, [event.message for event in heard]


@pytest.mark.parametrize("name", ["plain", "with [brackets] * and \\ ", "line\nbreak"])
def test_a_repository_inside_its_own_source_is_left_out_with_a_notice(place, name):
    world = World(place / name).found()
    fill(world.root, {"kept": b"x", "a.txt": b"y", "deep/a/file": b"z"})
    found, heard = without(world, SourceJob(name="", paths=(os.fsencode(world.root),)))
    assert [row.target for row in found] == ["a/main", "b/main", "c/main"]
    assert "a/main of this repository and is left out" in heard[0]
    stored = {path for path in names(world, world.root) if not path.startswith(("state", "cache", "out"))}
    assert stored == {"kept", "a.txt", "deep/a/file"}


def test_a_repository_is_left_out_through_a_link_too_and_from_the_root_directory(world, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(world.root)
    found, _ = without(world, SourceJob(name="", paths=(os.fsencode(link),)))
    assert [row.path for row in found] == [str(link / site) for site in "abc"]
    with world.open() as repository:
        _, found = without_targets(repository, SourceJob(name="", paths=(b"/",)), ignore)
    assert [row.path for row in found] == [str(world.directory(site)) for site in "abc"]


def test_a_target_that_a_person_names_is_stored_with_a_warning(world):
    found, heard = without(world, SourceJob(name="", paths=(os.fsencode(world.directory("a")),)))
    assert found == []
    assert "stored in itself and grows" in heard[0]
    assert "drtool.json" in names(world, world.directory("a"))


def test_a_target_that_is_excluded_already_or_elsewhere_or_away_is_not_mentioned(world, tmp_path):
    excluded = tuple(str(world.directory(site)) for site in "abc")
    inside = SourceJob(name="", paths=(os.fsencode(world.root),), excludes=excluded)
    outside = SourceJob(name="", paths=(os.fsencode(fill(tmp_path / "s", {"x": b"x"})),))
    for job in (inside, outside):
        assert without(world, job) == ([], [])
    world.directory("a").rename(world.root / "a.away")
    world.directory("a").mkdir()
    found, _ = without(world, SourceJob(name="", paths=(os.fsencode(world.root),)))
    assert [row.target for row in found] == ["b/main", "c/main"], "a directory that is no target is a user's"
