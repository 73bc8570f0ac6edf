"""`find`, `diff` and `ls`, as text and JSON."""

import pytest
from command_shell import shell_in
from three_sites import fill


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Two snapshots of one directory with an added, a removed and a changed file."""
    shell = shell_in(tmp_path_factory.mktemp("inside"))
    targets = [word for site in "ab" for word in ("--target", f"{site}={shell.directory / site}")]
    assert shell("init", *targets).code == 0
    source = fill(shell.directory / "home", {"ann/thesis.tex": b"one", "ann/old": b"o", "bob/Notes.TXT": b"n"})
    assert shell("backup", str(source), "--tag", "first").code == 0
    (source / "ann" / "old").unlink()
    fill(source, {"ann/thesis.tex": b"two and more", "carl/new": b"n"})
    assert shell("backup", str(source)).code == 0
    return shell


@pytest.fixture
def ids(shell):
    return [row["id"] for row in shell("snapshots", "--json").document["snapshots"]]


def below(shell, *names):
    return [str(shell.directory / "home" / name) for name in names]


def test_what_changed_between_two_snapshots(shell, ids):
    done = shell("diff", *ids, "--json")
    assert done.code == 0
    assert done.document["added"] == below(shell, "carl", "carl/new")
    assert done.document["removed"] == below(shell, "ann/old")
    assert done.document["changed"] == below(shell, "ann/thesis.tex")
    assert "metadata" not in done.document
    assert set(below(shell, "ann")) <= set(shell("diff", *ids, "--metadata", "--json").document["metadata"])


def test_in_reverse_order_additions_are_removals(shell, ids):
    there, back = (shell("diff", *pair, "--json").document for pair in (ids, ids[::-1]))
    assert (there["added"], there["removed"]) == (back["removed"], back["added"])


def test_the_text_has_marks_and_a_sum(shell, ids):
    lines = shell("diff", ids[0], "latest").out.splitlines()
    home = shell.directory / "home"
    assert lines == [
        f"- {home}/ann/old",
        f"M {home}/ann/thesis.tex",
        f"+ {home}/carl/",
        f"+ {home}/carl/new",
        "2 added, 1 removed, 1 changed",
    ]
    assert shell("diff", "latest", "latest").out == "no difference\n"


def test_one_directory_of_both_and_one_file(shell, ids):
    ann = below(shell, "ann")[0]
    assert shell("diff", f"{ids[0]}:{ann}", ids[1], "--json").document["added"] == []
    thesis = f"{ann}/thesis.tex"
    assert shell("diff", f"{ids[0]}:{thesis}", f"latest:{thesis}", "--json").document["changed"] == [thesis]


@pytest.mark.parametrize("place", ["/nowhere", "/nowhere/below"])
def test_a_missing_path_is_named(shell, ids, place):
    done = shell("diff", f"{ids[0]}:{place}", "latest")
    assert (done.code, done.out) == (1, "")
    assert f"{place} is not in snapshot" in done.err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["thesis*"], [(0, "ann/thesis.tex"), (1, "ann/thesis.tex")]),
        (["old", "new"], [(0, "ann/old"), (1, "carl/new")]),
        (["notes.txt"], []),
        (["notes.txt", "-i"], [(0, "bob/Notes.TXT"), (1, "bob/Notes.TXT")]),
        (["ann", "--type", "f"], []),
        (["ann", "--type", "d"], [(0, "ann"), (1, "ann")]),
        (["ann/*"], [(0, "ann/old"), (0, "ann/thesis.tex"), (1, "ann/thesis.tex")]),
        (["old", "--snapshot", "latest"], []),
        (["thesis*", "--tag", "first"], [(0, "ann/thesis.tex")]),
    ],
)
@pytest.mark.spread(4)
def test_matches_by_pattern(shell, ids, words, found):
    done = shell("find", *words, "--json")
    assert done.code == 0
    rows = [(ids.index(row["snapshot"]), row["path"]) for row in done.document["matches"]]
    assert rows == [(number, below(shell, name)[0]) for number, name in found]


def test_a_match_has_size_and_time(shell):
    (row,) = shell("find", "new", "--json").document["matches"]
    assert (row["type"], row["size"], row["mtime"][-1]) == ("file", 1, "Z")
    assert shell("find", "new").out.rstrip().endswith(below(shell, "carl/new")[0])


def test_an_unknown_type_is_a_usage_error(shell):
    done = shell("find", "x", "--type", "q")
    assert (done.code, "the choices are f, d and l" in done.err) == (2, True)


def test_a_long_listing_has_columns(shell):
    lines = shell("ls", "-l", f"latest:{shell.directory / 'home' / 'ann'}").out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("-rw")
    assert lines[0].endswith("thesis.tex")


def test_stats(shell, ids):
    whole = shell("stats", "--json").document
    assert (whole["snapshots"], whole["files"]) == (2, 6)
    assert whole["restored_bytes"] == sum(row["bytes"] for row in shell("snapshots", "--json").document["snapshots"])
    assert whole["unique_bytes"] == len(b"one" + b"o" + b"n" + b"two and more")
    assert whole["stored_bytes"] == sum(
        path.stat().st_size
        for site in "ab"
        for kind in ("packs", "index")
        for path in (shell.directory / site / kind).rglob("*")
        if path.is_file()
    )
    one = shell("stats", ids[0], ids[0], "--json").document
    assert (one["snapshots"], one["restored_bytes"], one["unique_bytes"]) == (1, 5, 5)
    both = shell("stats", *ids, "--json").document
    assert (both["restored_bytes"], both["unique_bytes"]) == (whole["restored_bytes"], whole["unique_bytes"])
    assert "deduplicated" in shell("stats").out


def test_no_match_is_reported_and_paths_are_escaped(shell):
    done = shell("find", "nowhere")
    assert (done.code, done.out) == (0, "")
    assert "no match in" in done.err
    for words in (["ls", "latest:carl"], ["restore", "latest:carl", "--to", "x"], ["dump", "latest:carl/new"]):
        done = shell(*words)
        assert (done.code, "from / on" in done.err) == (1, True), done.err
