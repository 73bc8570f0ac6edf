"""Any destination becomes exactly the snapshot with --delete, and a second restore then writes nothing."""

import os
import shutil
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from thoroughness import sample
from three_sites import World

NAMES = st.sampled_from(["a", "b", "c", ".d"])
LEAF = st.one_of(
    st.tuples(st.just("file"), st.sampled_from([b"", b"x", b"text" * 2000]), st.sampled_from([0o600, 0o644, 0o4755])),
    st.tuples(st.just("link"), st.sampled_from(["a", "../b", "/etc", "no such"])),
    st.tuples(st.just("fifo"), st.sampled_from([0o600, 0o640])),
)
TREE = st.recursive(
    st.dictionaries(NAMES, LEAF, max_size=4), lambda below: st.dictionaries(NAMES, LEAF | below, max_size=4)
)


def make(top, tree, when_ns):
    os.mkdir(top)
    for name, what in tree.items():
        path = top / name
        match what:
            case ("file", data, mode):
                path.write_bytes(data)
                path.chmod(mode)
            case ("link", target):
                path.symlink_to(target)
            case ("fifo", mode):
                os.mkfifo(path, mode)
            case below:
                make(path, below, when_ns + 1)
        os.utime(path, ns=(when_ns, when_ns), follow_symlinks=False)


def picture(top):
    """Type, mode, mtime and contents of everything below."""
    found = {}
    for folder, folders, names in os.walk(top):
        for name in (*folders, *names):
            path = os.path.join(folder, name)
            row = os.lstat(path)
            text = b""
            if stat.S_ISREG(row.st_mode):
                with open(path, "rb") as file:
                    text = file.read()
            target = os.readlink(path) if stat.S_ISLNK(row.st_mode) else ""
            found[os.path.relpath(path, top)] = (row.st_mode, row.st_mtime_ns, text, target)
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory, founded):
    root = tmp_path_factory.mktemp("property")
    shutil.copytree(founded.root, root / "repository", symlinks=True)
    return World(root / "repository", keyrings=founded.keyrings)


@pytest.mark.sampled
@settings(max_examples=sample(25, 0.5), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(wanted=TREE, there=TREE, overwrite=st.sampled_from([None, "always", "if-changed"]))
def test_it_becomes_exactly_the_snapshot(world, wanted, there, overwrite):
    place = world.root.parent
    for name in ("source", "out"):
        shutil.rmtree(place / name, ignore_errors=True)
    make(place / "source", wanted, 10**18)
    make(place / "out", there, 10**18 + 10**9)
    world.backup(place / "source")
    with world.open() as repository:
        before = picture(place / "out")
        dry, first, second = (
            world.run_restore(
                repository, place / "out", path=place / "source", overwrite=overwrite, delete=True, dry_run=dry_run
            )
            for dry_run in (True, False, False)
        )
        assert first.errors == []
        assert picture(place / "out") == picture(place / "source")
        assert first.deleted == len(before.keys() - picture(place / "out").keys())
        assert (dry.deleted, dry.written_bytes, dry.files) == (first.deleted, first.written_bytes, first.files)
        assert (second.written_bytes, second.deleted, second.errors) == (0, 0, [])
