"""Two names of a directory that the destination's file system takes for one: the second is listed."""

import os

import pytest
from three_sites import fill, noise

from drtool.operations.restore import aliases, run
from drtool.operations.restore.aliases import folded
from drtool.sources.filesystem import Folder

LARGE = 5 * 2**20


@pytest.fixture
def folding(monkeypatch):
    """A destination that ignores case, as far as the question to the file system goes."""
    monkeypatch.setattr(aliases, "_are_one", lambda folder, one, other: one.lower() == other.lower())


@pytest.fixture
def source(world):
    files = {
        "README": b"1",
        "readme": b"22",
        "Docs/a": b"a",
        "docs/b": b"b",
        "Big": noise(LARGE),
        "big": noise(LARGE, 1),
    }
    source = fill(world.root / "source", files | {"other": b"3"})
    (source / "Link").symlink_to("x")
    (source / "link").symlink_to("y")
    world.backup(source)
    return source


@pytest.mark.parametrize("overwrite", [None, "always"])
def test_the_second_name_is_listed_and_not_counted(world, source, folding, overwrite):
    result = world.restore(world.root / "out", path=source, overwrite=overwrite)
    assert {os.path.basename(row.path) for row in result.errors} == {"readme", "docs", "big", "link"}
    assert all("takes its name for that of" in row.message and not row.restored for row in result.errors)
    assert result.files == 5
    assert sorted(os.listdir(world.root / "out")) == ["Big", "Docs", "Link", "README", "other"]
    assert (world.root / "out/README").read_bytes() == b"1"
    assert os.listdir(world.root / "out/Docs") == ["a"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_dry_run_lists_the_same(world, source, folding, monkeypatch, exists):
    monkeypatch.setattr(aliases, "file_system_of", lambda _: "vfat")
    monkeypatch.setattr(aliases, "_ignores_case", lambda _: None)
    out = world.root / "out"
    if exists:
        out.mkdir()
    foreseen = world.restore(out, path=source, dry_run=True)
    assert (sorted(os.listdir(out)) if exists else out.exists()) == ([] if exists else False)
    result = world.restore(out, path=source)
    assert [(row.path, row.message) for row in foreseen.errors] == [(row.path, row.message) for row in result.errors]
    assert (foreseen.files, foreseen.bytes) == (result.files, result.bytes)


def test_a_dry_run_creates_nothing_and_judges_by_the_names_that_are_there(tmp_path):
    with Folder.destination(bytes(tmp_path)) as folder:
        assert not aliases.folding_of(folder.fd).case
        fill(tmp_path, {"Name": b"1"})
        before = os.stat(tmp_path).st_mtime_ns
        assert not aliases.folding_of(folder.fd).case
        assert os.stat(tmp_path).st_mtime_ns == before


@pytest.mark.parametrize(
    ("kind", "one", "other", "are_one"),
    [
        ("vfat", "A", "a", True),
        ("vfat", "a.", "a", True),
        ("vfat", "\u00e4", "a\u0308", False),
        ("hfsplus", "\u00e4", "a\u0308", True),
        ("hfsplus", "a.", "a", False),
        ("exfat", "STRASSE", "stra\u00dfe", False),
    ],
)
def test_the_folding_of_each_file_system(kind, one, other, are_one):
    folding = aliases._KNOWN[kind]
    assert (folding.of(one.encode()) == folding.of(other.encode())) == are_one


def test_a_name_that_is_not_restored_stands_in_no_ones_way(world, source, folding):
    result = world.restore(world.root / "out", path=source, excludes=("README", "Docs", "Big", "Link"))
    assert result.errors == []
    assert sorted(os.listdir(world.root / "out")) == ["big", "docs", "link", "other", "readme"]


def test_where_case_counts_both_come_back_and_nothing_is_left_behind(world, source):
    result = world.restore(world.root / "out", path=source)
    assert result.errors == []
    assert sorted(os.listdir(world.root / "out")) == sorted(os.listdir(source))
    assert (world.root / "out/readme").read_bytes() == b"22"


@pytest.mark.parametrize("name", ["small", "large", "directory", "fifo"])
def test_a_name_that_is_taken_meanwhile_is_listed_and_stays(world, monkeypatch, name):
    source = fill(world.root / "source", {"small": b"1", "large": noise(LARGE), "directory/file": b"2", "zz": b"3"})
    os.mkfifo(source / "fifo")
    world.backup(source)
    entering = run.Sweep.enter

    def take_the_name(self, frame):
        entering(self, frame)
        if not frame.names:
            (world.root / "out" / name).write_bytes(b"another's")

    monkeypatch.setattr(run.Sweep, "enter", take_the_name)
    result = world.restore(world.root / "out", path=source)
    assert [row.path for row in result.errors] == [str(source / name)]
    assert (world.root / "out" / name).read_bytes() == b"another's"
    assert (world.root / "out/zz").read_bytes() == b"3"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("README", "readme"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}", "e\N{COMBINING ACUTE ACCENT}"),
        ("\N{LATIN CAPITAL LETTER A WITH DIAERESIS}", "a\N{COMBINING DIAERESIS}"),
        ("stra\N{LATIN SMALL LETTER SHARP S}e", "STRASSE"),
        ("\N{KELVIN SIGN}", "k"),
        ("name", "name."),
        ("name", "Name "),
    ],
)
def test_names_that_some_file_system_takes_for_one_are_looked_at(one, other):
    assert folded(one.encode()) == folded(other.encode())


@pytest.mark.parametrize(("one", "other"), [(b"a", b"b"), (b".a", b"a"), (b"\xff", b"\xfe"), (b"a b", b"ab")])
def test_others_are_not(one, other):
    assert folded(one) != folded(other)


def test_the_file_system_is_asked_and_nothing_stays(tmp_path):
    with Folder.destination(os.fsencode(tmp_path)) as folder:
        assert not aliases._are_one(folder, b"README", b"readme")
        assert aliases._are_one(folder, b"same", b"same")
        long = b"n" * 250
        assert not aliases._are_one(folder, long + b"X", long + b"x")
        (tmp_path / "X").write_bytes(b"")
        assert not aliases._are_one(folder, b"X", long)
    assert os.listdir(tmp_path) == ["X"]


class _LowerCase(Folder):
    """A directory on a file system that keeps names in lower case, as far as `stat` goes."""

    def stat(self, name):
        return super().stat(name.lower())


def test_delete_spares_a_name_by_which_the_file_system_answers_for_a_wanted_one(tmp_path):
    fill(tmp_path, {"readme": b"1", "extra": b"2", "other": b"3"})
    with _LowerCase.destination(os.fsencode(tmp_path)) as folder:
        listed = [b"readme", b"extra"]
        assert aliases.other_spellings(folder, listed, [b"README", b"Zebra", b"other"]) == {b"readme"}
    with Folder.destination(os.fsencode(tmp_path)) as folder:
        assert aliases.other_spellings(folder, listed, [b"README", b"Zebra", b"other"]) == set()


@pytest.mark.parametrize("dry_run", [True, False])
def test_delete_where_case_counts_removes_the_other_spelling(world, dry_run):
    source = fill(world.root / "source", {"README": b"1"})
    world.backup(source)
    out = fill(world.root / "out", {"readme": b"2", "README": b"1"})
    assert world.restore(out, path=source, delete=True, dry_run=dry_run).deleted == 1
    assert (out / "readme").exists() is dry_run
