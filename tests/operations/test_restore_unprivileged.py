"""Without root: a user's own files are restored without errors, and owners that cannot be set are listed."""

import os

import pytest
from three_sites import fill, founded, in_a_child, place, world

__all__ = ["founded", "place", "world"]
AS_ROOT = os.geteuid() == 0
USER = 65534 if AS_ROOT else os.geteuid()


@pytest.fixture
def home(world):
    """An ordinary user's files, below directories of others, and a repository of that user."""
    home = fill(world.root / "home", {"letter": b"Dear Ada", "more/scan": b"x" * 5000})
    hand_over(world.root)
    world.backup(home)
    hand_over(world.root)
    return home


def hand_over(top):
    for path in (top, *top.rglob("*")):
        os.chown(path, USER, USER if AS_ROOT else -1)


def test_directories_that_only_lead_to_the_files_are_no_failure(world, home):
    out = world.root / "out"

    def restore():
        assert world.restore(out).errors == []
        assert (out / str(home)[1:] / "letter").read_bytes() == b"Dear Ada"

    assert in_a_child(restore, uid=USER if AS_ROOT else None) == 0


@pytest.mark.skipif(not AS_ROOT, reason="only root can own the directories on the way")
def test_root_gives_them_their_owners(world, home):
    result = world.restore(world.root / "out")
    assert result.errors == []
    assert os.stat(world.root / "out" / str(world.root.parent)[1:]).st_uid == os.stat(world.root.parent).st_uid
    assert os.stat(world.root / "out" / str(home)[1:]).st_uid == USER


@pytest.mark.skipif(not AS_ROOT, reason="gives a directory away")
def test_another_users_directory_among_the_files_is_listed(world, home):
    os.chown(home / "more", 0, 0)
    world.backup(home)
    hand_over(world.root)

    def restore():
        (error,) = world.restore(world.root / "out").errors
        assert (error.path, error.message) == (str(home / "more"), "owner: Operation not permitted")

    assert in_a_child(restore, uid=USER) == 0


def test_the_destination_of_a_read_only_directory_is_read_only_and_takes_a_second_restore(world, home):
    (home / "more").chmod(0o555)
    world.backup(home)
    hand_over(world.root)
    out = world.root / "out"

    def restore():
        assert world.restore(out, path=home / "more").errors == []
        assert (out.stat().st_mode & 0o777, out.stat().st_mtime_ns) == (0o555, (home / "more").stat().st_mtime_ns)
        out.chmod(0o755)
        (out / "scan").unlink()
        out.chmod(0o555)
        assert world.restore(out, path=home / "more", overwrite="if-changed").errors == []
        assert (out.stat().st_mode & 0o777, (out / "scan").read_bytes()) == (0o555, b"x" * 5000)

    assert in_a_child(restore, uid=USER if AS_ROOT else None) == 0
