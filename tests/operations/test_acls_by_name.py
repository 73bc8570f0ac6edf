"""The users and groups that an ACL names are restored by name, as owners are."""

import os
import struct

import msgspec
import pytest
from three_sites import fill

from drtool.operations.verify import differences
from drtool.sources.filesystem import Applier, Folder, OwnerIds, OwnerNames
from drtool.sources.filesystem.acls import mapped_xattrs
from drtool.trees import Entry, EntryWithAclNames, find_entry, read_directory, with_acl_names, write_directory

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
NONE = 2**32 - 1
DAEMON, BIN = 1, 2
"""Of every Linux system, as users and as groups."""


def acl(*named, owner=6):
    """Return an ACL with these (tag, permissions, number) beside its owner, group, mask and others."""
    entries = sorted(
        [(1, owner, NONE), (4, 4, NONE), (16, 7, NONE), (32, 0, NONE), *named], key=lambda row: (row[0], row[2])
    )
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def entry_with(value, names=(), key=b"system.posix_acl_access"):
    entry = Entry(name=b"f", type=8, mode=0o670, uid=0, gid=0, xattrs=((key, value),))
    return with_acl_names(entry, names)


@pytest.fixture
def source(world):
    root = fill(world.root / "source", {"file": b"text", "empty": b"", "large": b"0" * 5_000_000, "below/x": b"1"})
    try:
        for name in ("file", "empty", "large"):
            os.setxattr(root / name, ACCESS, acl((2, 6, DAEMON), (8, 4, BIN), (2, 1, 54321)))
        os.setxattr(root / "below", DEFAULT, acl((2, 7, BIN)))
        os.setxattr(root, ACCESS, acl((2, 7, DAEMON), owner=7))
    except OSError as error:
        pytest.skip(f"no ACLs here: {error.strerror}")
    return root


def stored(world, path):
    with world.open() as repository:
        snapshot = max(repository.view.state.snapshots, key=lambda row: row.sequence)
        return find_entry(snapshot.root, os.fsencode(path), repository.trees)


def test_a_snapshot_holds_the_names_that_the_numbers_in_its_acls_have(world, source):
    world.backup(source)
    for name in ("file", "empty", "large"):
        assert stored(world, source / name).acl_names == ((2, DAEMON, "daemon"), (8, BIN, "bin"))
    assert stored(world, source / "below").acl_names == ((2, BIN, "bin"),)
    assert stored(world, source).acl_names == ((2, DAEMON, "daemon"),)
    assert type(stored(world, source / "below/x")) is Entry


def test_an_unchanged_source_with_acls_stores_nothing(world, source):
    first = world.backup(source)
    second = world.backup(source)
    assert (second.added_bytes, second.files.changed, second.dirs.changed) == (0, 0, 0)
    assert world.snapshots()[-1].root == world.snapshots()[-2].root
    assert first.id != second.id


def test_a_snapshot_of_an_earlier_version_restores_its_numbers_and_the_next_one_has_names(world, source, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(OwnerNames, "with_acl_names", lambda _, entry: entry)
        world.backup(source)
    assert type(stored(world, source / "file")) is Entry
    to = world.root / "old"
    assert not world.restore(to, path=source, map_users={"daemon": 777}).errors
    assert os.getxattr(to / "file", ACCESS) == os.getxattr(source / "file", ACCESS)
    report = world.backup(source)
    assert report.files.new == 0
    assert stored(world, source / "file").acl_names
    assert stored(world, source).acl_names


@pytest.mark.skipif(os.geteuid() != 0, reason="owners are given away by root alone")
def test_owner_mappings_also_apply_to_acls(world, source):
    world.backup(source)
    to = world.root / "to"
    result = world.restore(to, path=source, map_users={"daemon": 3001, "54321": 3002}, map_groups={"bin": 4001})
    assert not result.errors
    assert os.getxattr(to / "file", ACCESS) == acl((2, 6, 3001), (8, 4, 4001), (2, 1, 3002))
    assert os.getxattr(to / "below", DEFAULT) == acl((2, 7, BIN))


def test_a_name_has_the_number_of_this_host_unless_numbers_are_asked_for(tmp_path):
    (tmp_path / "f").touch()
    entry = msgspec.structs.replace(
        entry_with(acl((2, 6, 2001), (8, 4, 2002)), ((2, 2001, "daemon"), (8, 2002, "bin"))),
        uid=os.geteuid(),
        gid=os.getegid(),
    )
    path = str(tmp_path / "f")
    for ids, expected in (
        (OwnerIds(), acl((2, 6, DAEMON), (8, 4, BIN))),
        (OwnerIds(numeric_ids=True), acl((2, 6, 2001), (8, 4, 2002))),
    ):
        applier = Applier(ids)
        assert applier.apply(path, entry, tidy=True) == []
        assert os.getxattr(path, ACCESS) == expected
        assert applier.matches(path, os.stat(path), entry)
    assert not Applier().matches(path, os.stat(path), entry)


def test_verify_compares_acls_as_they_are_restored(world, source):
    (source / "large").unlink()
    (source / "empty").unlink()
    os.setxattr(source / "file", ACCESS, acl((2, 6, 2001)))
    world.backup(source)
    with world.open() as repository:
        (row,) = repository.view.state.snapshots
        to = world.root / "to"
        world.run_restore(repository, to, row)
        assert list(differences(repository, row, Folder.destination(os.fsencode(to)))) == []
        path = to / str(source).lstrip("/") / "file"
        os.setxattr(path, ACCESS, acl((2, 6, 2002)))
        (found,) = differences(repository, row, Folder.destination(os.fsencode(to)))
        assert "posix_acl_access" in found.reason


def test_two_entries_that_come_to_one_number_leave_the_one_found_by_name_and_are_reported():
    entry = entry_with(acl((2, 7, 2001), (2, 4, DAEMON)), ((2, 2001, "daemon"),))
    ((_, value),), problems = OwnerIds().xattrs(entry)
    assert value == acl((2, 7, DAEMON))
    assert problems == [f"ACL entry of user {DAEMON}: another entry names the same user on this host"]


def test_a_default_acl_and_other_attributes_are_kept_apart():
    names = ((2, 2001, "daemon"),)
    xattrs = ((b"system.posix_acl_default", acl((2, 7, 2001))), (b"user.x", acl((2, 7, 2001))))
    assert mapped_xattrs(xattrs, names, OwnerIds().uid, OwnerIds().gid) == (
        ((xattrs[0][0], acl((2, 7, DAEMON))), xattrs[1]),
        [],
    )


@pytest.mark.parametrize("value", [b"", b"\x02\0\0\0\x01", struct.pack("<I", 3) + bytes(8), acl((2, 6, NONE))])
def test_an_acl_that_is_malformed_or_names_no_number_keeps_its_bytes(value):
    entry = entry_with(value, ((2, 2001, "daemon"),))
    assert OwnerIds(users={str(NONE): 5}).xattrs(entry) == (entry.xattrs, [])


def test_an_entry_without_names_is_encoded_as_before_and_both_kinds_are_read_from_one_page():
    texts = {}

    def put(_, text):
        name = len(texts).to_bytes(32, "big")
        texts[name] = text
        return name

    plain = entry_with(acl((2, 6, 2001)))
    named = msgspec.structs.replace(entry_with(acl((2, 6, 2001)), ((2, 2001, "ann"),)), name=b"g")
    found = list(read_directory(write_directory([plain, named], put), texts.__getitem__))
    assert found == [plain, named]
    assert [type(entry) for entry in found] == [Entry, EntryWithAclNames]
    rows = msgspec.msgpack.decode(texts[bytes(32)][1:])
    assert [len(row) for row in rows] == [22, 23]


def test_a_name_stays_while_its_number_has_none():
    entry = entry_with(acl((2, 6, 54321), (8, 4, BIN)), ((2, 54321, "ann"), (8, BIN, "old")))
    assert OwnerNames().with_acl_names(entry).acl_names == ((2, 54321, "ann"), (8, BIN, "bin"))
    known = OwnerNames().with_acl_names(entry)
    assert OwnerNames().with_acl_names(known) is known
