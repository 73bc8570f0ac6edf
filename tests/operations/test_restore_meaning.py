"""The meaning of a restore: every byte and attribute from any two of three sites, writing only differences."""

import os
import stat

import pytest
from three_sites import everything, fill, noise, portrait

from drtool.errors import DrtoolError, Refused, UsageError
from drtool.model import pack_object
from drtool.trees import find_entry, read_content

MIB = 1024 * 1024


@pytest.fixture
def source(world, tmp_path):
    """One of everything, on a file system with attributes."""
    source = fill(
        tmp_path / "source",
        {
            "a": noise(5_000, 1),
            "empty": b"",
            "sub/c": noise(900_000, 2),
            "sub/deep/d": b"text\n" * 500,
            "large": noise(9 * MIB, 3),
            "caf\udce9\n": b"odd name",
        },
    )
    os.link(source / "a", source / "sub/same as a")
    (source / "link").symlink_to("sub/c")
    (source / "dangling").symlink_to("/no/such")
    os.mkfifo(source / "fifo")
    with (source / "sparse").open("wb") as file:
        file.seek(3 * MIB)
        file.write(b"data")
        file.truncate(8 * MIB)
    os.setxattr(source / "a", "user.colour", b"blue\0")
    os.chmod(source / "sub/c", 0o4751)
    os.chmod(source / "sub", 0o1700)
    if os.geteuid() == 0:
        os.mknod(source / "device", stat.S_IFCHR | 0o640, os.makedev(1, 3))
        os.chown(source / "empty", 12345, 54321)
        os.chown(source / "link", 12, 13, follow_symlinks=False)
    for name, when in (("a", -1), ("sub/deep", 10**18 + 7), ("sub", 5)):
        os.utime(source / name, ns=(when, when), follow_symlinks=False)
    world.workers = 2
    world.backup(source)
    return source


def count_files(picture):
    return sum(not row[0].startswith("0o4") or len(row[0]) != 7 for row in picture.values())


@pytest.mark.parametrize("lost", ["a", "b", "c"])
@pytest.mark.spread(3)
def test_any_two_of_three_sites_restore_everything(world, source, tmp_path, lost):
    world.directory(lost).rename(world.root / "lost")
    result = world.restore(tmp_path / "out", path=source)
    assert result.errors == []
    assert portrait(tmp_path / "out") == portrait(source)
    assert result.files == count_files(portrait(source))


def test_without_a_path_the_absolute_paths_are_recreated(world, source, tmp_path):
    assert world.restore(tmp_path / "out").errors == []
    assert portrait((tmp_path / "out").joinpath(*source.parts[1:])) == portrait(source)
    above = (tmp_path / "out").joinpath(*source.parts[1:-1])
    assert above.stat().st_mode == source.parent.stat().st_mode


def test_a_single_file_and_a_subdirectory(world, source, tmp_path):
    world.restore(tmp_path / "one", path=source / "sub/c")
    assert os.listdir(tmp_path / "one") == ["c"]
    assert (tmp_path / "one/c").read_bytes() == (source / "sub/c").read_bytes()
    world.restore(tmp_path / "link", path=source / "link")
    assert os.readlink(tmp_path / "link/link") == "sub/c"
    world.restore(tmp_path / "sub", path=source / "sub")
    wanted = {name.removeprefix(b"sub/"): row for name, row in portrait(source).items() if name.startswith(b"sub/")}
    got = portrait(tmp_path / "sub")
    assert got.keys() == wanted.keys()
    assert {name: row[:-1] for name, row in got.items()} == {name: row[:-1] for name, row in wanted.items()}


def test_includes_and_excludes(world, source, tmp_path):
    result = world.restore(tmp_path / "out", path=source, includes=("sub/",), excludes=("sub/deep/d",))
    assert set(portrait(tmp_path / "out")) == {b"sub", b"sub/c", b"sub/deep", b"sub/same as a"}
    assert (result.files, result.errors) == (2, [])
    for more in ({}, {"dry_run": True}):
        with pytest.raises(DrtoolError, match="--include no such: nothing in snapshot"):
            world.restore(tmp_path / "none", path=source, includes=("no such",), **more)
    assert not any((tmp_path / "none").iterdir())


def test_an_unchanged_tree_writes_nothing(world, source, tmp_path):
    world.restore(tmp_path / "out", path=source)
    for overwrite in ("always", "if-changed"):
        before = everything(tmp_path / "out")
        result = world.restore(tmp_path / "out", path=source, overwrite=overwrite)
        assert (result.written_bytes, result.errors) == (0, [])
        assert result.files == count_files(portrait(source))
        assert {name: row[:-1] for name, row in everything(tmp_path / "out").items()} == {
            name: row[:-1] for name, row in before.items()
        }


def spoil(out):
    """Differences of every kind. The one that only `always` can detect is in `a`."""
    times = (out / "a").stat()
    (out / "a").write_bytes(noise(5_000, 99))
    os.utime(out / "a", ns=(times.st_atime_ns, times.st_mtime_ns))
    (out / "sub/c").write_bytes(b"other")
    (out / "sub/deep/d").unlink()
    (out / "large").unlink()
    (out / "large").write_bytes(noise(9 * MIB, 55))
    (out / "link").unlink()
    (out / "link").write_bytes(b"a file where a link was")
    (out / "empty").unlink()
    (out / "empty").symlink_to("a")
    (out / "extra").write_bytes(b"extra")
    os.chmod(out / "sub", 0o755)


@pytest.mark.parametrize("overwrite", ["always", "if-changed", "never"])
@pytest.mark.spread(3)
def test_overwriting(world, source, tmp_path, overwrite):
    out = tmp_path / "out"
    world.restore(out, path=source)
    spoil(out)
    spoiled = portrait(out)
    dry = world.restore(out, path=source, overwrite=overwrite, dry_run=True)
    assert portrait(out) == spoiled
    result = world.restore(out, path=source, overwrite=overwrite)
    assert result.errors == []
    assert (dry.files, dry.bytes, dry.skipped) == (result.files, result.bytes, result.skipped)
    assert dry.written_bytes == result.written_bytes
    assert (out / "extra").read_bytes() == b"extra"
    (out / "extra").unlink()
    if overwrite == "never":
        assert result.skipped == count_files(portrait(source)) - 1
        assert (out / "sub/deep/d").exists()
        assert (out / "a").read_bytes() == noise(5_000, 99)
    else:
        if overwrite == "if-changed":
            assert (out / "a").read_bytes() == noise(5_000, 99), "same size and time: not looked into"
            (out / "a").write_bytes(b"")
            world.restore(out, path=source, overwrite="always")
        os.utime(out, ns=(0, source.stat().st_mtime_ns))
        assert portrait(out) == portrait(source)


def test_a_dry_run_into_an_empty_place_predicts_the_figures(world, source, tmp_path):
    dry = world.restore(tmp_path / "out", path=source, dry_run=True)
    assert not (tmp_path / "out").exists()
    real = world.restore(tmp_path / "out", path=source)
    assert (dry.files, dry.bytes, dry.written_bytes) == (real.files, real.bytes, real.written_bytes)


def test_items_in_the_way_are_replaced_or_listed(world, source, tmp_path):
    out = tmp_path / "out"
    outside = fill(tmp_path / "outside", {"precious": b"precious"})
    fill(out, {"a/not empty": b"x", "large/x": b"y"})
    (out / "sub").symlink_to(outside)
    dry = world.restore(out, path=source, overwrite="always", dry_run=True)
    result = world.restore(out, path=source, overwrite="always")
    assert sorted(row.path for row in result.errors) == [str(source / name) for name in ("a", "large")]
    assert (out / "sub").is_dir()
    assert not (out / "sub").is_symlink()
    assert os.listdir(outside) == ["precious"], "the symlink was replaced, not followed"
    assert (dry.files, dry.bytes) == (result.files, result.bytes)
    assert sorted(row.path for row in dry.errors) == [str(source / name) for name in ("a", "large")]


def test_never_keeps_an_item_in_the_place_of_a_directory(world, source, tmp_path):
    out = tmp_path / "out"
    outside = fill(tmp_path / "outside", {"precious": b"precious"})
    out.mkdir()
    (out / "sub").symlink_to(outside)
    dry = world.restore(out, path=source, overwrite="never", dry_run=True)
    result = world.restore(out, path=source, overwrite="never")
    assert (out / "sub").is_symlink()
    assert os.listdir(outside) == ["precious"]
    assert (result.errors, result.skipped) == ([], 3)
    assert (dry.files, dry.bytes, dry.skipped) == (result.files, result.bytes, result.skipped)


def test_a_destination_with_something_in_it_is_refused(world, source, tmp_path):
    fill(tmp_path / "out", {"x": b"x"})
    before = everything(tmp_path / "out")
    for dry_run in (False, True):
        with pytest.raises(Refused) as caught:
            world.restore(tmp_path / "out", path=source, dry_run=dry_run)
        assert caught.value.exit_code == 11
    with pytest.raises(UsageError) as wrong:
        world.restore(tmp_path / "out/x", path=source)
    assert wrong.value.exit_code == 2
    with pytest.raises(UsageError):
        world.restore(tmp_path / "out/x/below", path=source, overwrite="always")
    assert everything(tmp_path / "out") == before


def flip(path, at=0.5):
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 1
    path.write_bytes(data)


def test_one_damaged_copy_is_passed_over(world, source, tmp_path):
    for path in world.objects("a"):
        flip(path, 0.3)
    assert world.restore(tmp_path / "out", path=source).errors == []
    assert portrait(tmp_path / "out") == portrait(source)


def packs_of(world, source, name):
    """Return the object names of the packs with a file's content."""
    with world.open() as repository:
        newest = list(repository.view.state.snapshots)[-1]
        entry = find_entry(newest.root, os.fsencode(source / name), repository.chunks)
        assert entry is not None
        return {pack_object(repository.index.locate(c).pack.pack) for c in read_content(entry, repository.chunks)}


@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
@pytest.mark.spread(3)
def test_when_every_copy_is_bad_the_files_are_listed_and_nothing_wrong_is_written(world, tmp_path, harm):
    world.workers = 2
    source = tmp_path / "source"
    for number in range(3):  # three backups: three data packs
        fill(source, {f"{number}/{i}": noise(50_000, 10 * number + i) for i in range(4)})
        fill(source, {f"{number}/large": noise(5 * MIB, 100 + number)})
        world.backup(source)
    bad = packs_of(world, source, "1/0") | packs_of(world, source, "1/large")
    for site in "abc":
        for name in bad & set(world.names(site)):
            path = world.directory(site) / name
            {"flip": flip_all, "cut": lambda p: p.write_bytes(p.read_bytes()[:100]), "delete": os.unlink}[harm](path)
    snapshot = world.snapshots()[-1]
    result = world.restore(tmp_path / "out", snapshot, path=source)
    assert sorted(row.path for row in result.errors) == [str(source / "1" / n) for n in ("0", "1", "2", "3", "large")]
    got, wanted = portrait(tmp_path / "out"), portrait(source)
    assert got == {
        name: row for name, row in wanted.items() if name not in {b"1/0", b"1/1", b"1/2", b"1/3", b"1/large"}
    }
    found = world.verify()
    assert sorted({row.path for row in found.affected if row.snapshot == snapshot.id.hex()}) == [
        row.path for row in sorted(result.errors, key=lambda row: row.path)
    ]
    assert {row.object for row in found.unrepairable} == bad


def flip_all(path):
    """Damage in every part: no block of it can be opened."""
    path.write_bytes(bytes(byte ^ 0x55 for byte in path.read_bytes()))


def test_a_directory_with_a_lost_tree_is_listed_and_the_rest_is_restored(world, tmp_path):
    source = fill(tmp_path / "source", {"kept/x": noise(1_000, 1)})
    world.backup(source)
    kept = portrait(source / "kept")
    before = set(world.names("a"))
    fill(source, {"lost/y": noise(1_000, 2)})
    world.backup(source)
    first, newest = world.snapshots()
    with world.open() as repository:
        lost = find_entry(newest.root, os.fsencode(source / "lost"), repository.chunks)
        pack = pack_object(repository.index.locate(lost.subtree).pack.pack)
    assert pack not in before
    for site in "abc":
        flip_all(world.directory(site) / pack)
    result = world.restore(tmp_path / "first", first, path=source)
    assert result.errors == []
    assert portrait(tmp_path / "first/kept") == kept
    with pytest.raises(DrtoolError, match="no good copy"):
        world.restore(tmp_path / "newest", newest, path=source)
    assert not (tmp_path / "newest").exists()


def test_from_one_site_missing_data_is_listed(world, tmp_path):
    source = fill(tmp_path / "source", {f"{i}": noise(20_000, i) for i in range(3)})
    world.backup(source)
    content = packs_of(world, source, "0")
    (without,) = [site for site in "abc" if not content & set(world.names(site))]
    result = world.restore(tmp_path / "out", path=source, from_sites=(without,))
    assert sorted(row.path for row in result.errors) == [str(source / name) for name in "012"]
    assert os.listdir(tmp_path / "out") == []
    with pytest.raises(UsageError):
        world.restore(tmp_path / "nowhere", path=source, from_sites=("nowhere",))
    others = tuple(site for site in "abc" if site != without)
    assert world.restore(tmp_path / "good", path=source, from_sites=others).errors == []


def test_an_unreadable_large_file_is_not_mistaken_for_one_of_the_same_size(world, tmp_path, monkeypatch):
    """Its entry has a size and no content: a file of that size at the destination is not thereby right."""
    from drtool.operations.backup import feeding

    source = fill(tmp_path / "source", {"large": noise(5 * MIB, 1)})

    def denied(*_args, **_more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(feeding, "open_for_read", denied)
    assert len(world.backup(source).errors) == 1
    out = fill(tmp_path / "out", {"large": noise(5 * MIB, 2)})
    result = world.restore(out, path=source, overwrite="always")
    assert [row.path for row in result.errors] == [str(source / "large")]
    assert "not captured" in result.errors[0].message
    assert (out / "large").read_bytes() == noise(5 * MIB, 2)


def test_never_leaves_the_metadata_of_a_directory_that_was_there(world, source, tmp_path):
    (source / "kept").mkdir(mode=0o711)
    (source / "kept/new.txt").write_text("new")
    world.backup(source)
    out = tmp_path / "out"
    (out / "kept").mkdir(parents=True)
    (out / "kept").chmod(0o750)
    world.restore(out, path=source, overwrite="never")
    assert (out / "kept/new.txt").read_text() == "new"
    assert (out / "kept").stat().st_mode & 0o777 == 0o750
