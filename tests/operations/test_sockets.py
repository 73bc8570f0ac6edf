"""Sockets have no content to store. They are counted, named with -v, and spared by --delete."""

import os
import socket

import pytest
from command_shell import shell_in
from three_sites import fill

from drtool.events import ItemChanged


@pytest.fixture
def listen():
    """Bind a socket to a path, which may be long."""
    sockets = []

    def bind(path):
        made = socket.socket(socket.AF_UNIX)
        sockets.append(made)
        here = os.getcwd()
        os.chdir(path.parent)
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)

    yield bind
    for made in sockets:
        made.close()


@pytest.mark.parametrize("dry_run", [True, False])
def test_they_are_counted_and_named(world, listen, dry_run):
    source = fill(world.root / "source", {"file": b"1", "sub/x": b"2"})
    listen(source / "one")
    listen(source / "sub/two")
    with world.open() as repository:
        (report,) = world.run_backup(repository, source, dry_run=dry_run).snapshots
    assert (report.sockets, report.errors) == (2, [])
    again = world.backup(source)
    assert (again.sockets, again.files.unmodified) == (2, 0 if dry_run else 2)
    assert not any(isinstance(event, ItemChanged) for event in world.heard)


def test_the_summary_and_the_list_of_items_say_it(tmp_path, listen):
    shell = shell_in(tmp_path)
    assert shell("init", "--target", f"a={tmp_path / 'a'}").code == 0
    fill(tmp_path / "tree", {"file": b"1"})
    listen(tmp_path / "tree/socket")
    done = shell("backup", "tree", "-v")
    assert (done.code, "1 socket left out" in done.out) == (0, True)
    assert f"skipped  {tmp_path}/tree/socket" in done.err
    looked = shell("backup", "tree", "--dry-run", "--json")
    assert ("skipped", f"{tmp_path}/tree/socket") in {
        (row["change"], row["path"]) for row in looked.document["changes"]
    }
    assert looked.document["snapshots"][0]["sockets"] == 1
    named = shell("backup", "tree/socket", "tree/file")
    assert (named.code, "is a socket and is left out" in named.err) == (0, True)
    listen(tmp_path / "tree/second")
    several = shell("backup", "tree/socket", "tree/second", "tree/file", "-v")
    assert (several.code, "2 sockets are left out" in several.err) == (0, True)
    assert f"skipped  {tmp_path}/tree/second" in several.err
    alone = shell("backup", "tree/socket")
    assert (alone.code, "is a socket" in alone.err, "does not exist" in alone.err) == (1, True, False)


def test_a_restore_that_deletes_spares_them(world, listen):
    source = fill(world.root / "source", {"file": b"1"})
    listen(source / "server")
    world.backup(source)
    fill(source, {"extra": b"2"})
    for dry_run in (True, False):
        result = world.restore(source, path=source, overwrite="always", delete=True, dry_run=dry_run)
        assert (result.deleted, result.errors) == (1, [])
    assert sorted(os.listdir(source)) == ["file", "server"]
