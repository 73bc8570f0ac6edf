"""`-v` and dry runs name each item and its change, as text and JSON, and a dry run names the items of the real run."""

import json
import os
import time

import pytest
from command_shell import shell_in
from three_sites import fill, noise

LARGE = noise(5_000_000, 3)


@pytest.fixture
def shell(tmp_path):
    made = shell_in(tmp_path)
    assert made("init", "--target", f"a={tmp_path / 'a'}").code == 0
    fill(tmp_path / "tree", {"same": b"1", "edited": b"1", "mode": b"1", "gone": b"1", "large": LARGE, "sub/x": b"1"})
    os.symlink("same", tmp_path / "tree" / "link")
    old_ns = time.time_ns() - 3600 * 10**9
    for path in sorted((tmp_path / "tree").rglob("*"), reverse=True):
        os.utime(path, ns=(old_ns, old_ns), follow_symlinks=False)
    return made


def rows(text):
    """Return the lines that name an item, as (change, path, parts)."""
    found = set()
    for line in text.splitlines():
        change, _, rest = line.partition(" ")
        if change in ("new", "changed", "removed", "reread"):
            path, *parts = rest.strip().split(" +")
            found.add((change, path, tuple(parts)))
    return found


def documented(items):
    return {(row["change"], row["path"], tuple(row["what"])) for row in items}


def below(found, directory):
    return {
        (change, os.path.relpath(path, directory), parts)
        for change, path, parts in found
        if path.startswith(f"{directory}/")
    }


def change_tree(tree):
    (tree / "edited").write_text("22")
    os.utime(tree / "edited", ns=(1, 1_600_000_000_000_000_000))
    (tree / "mode").chmod(0o600)
    (tree / "gone").unlink()
    (tree / "link").unlink()
    os.symlink("mode", tree / "link")
    os.utime(tree / "link", ns=(1, 1_600_000_000_000_000_000), follow_symlinks=False)
    (tree / "added").mkdir()
    (tree / "added" / "y").write_text("3")


CHANGED = {
    ("changed", "edited", ("content", "mtime")),
    ("changed", "mode", ("mode",)),
    ("removed", "gone", ()),
    ("changed", "link", ("target", "mtime")),
    ("new", "added", ()),
    ("new", "added/y", ()),
}


def test_a_backup_names_what_is_new_changed_and_removed(shell):
    tree = shell.directory / "tree"
    first = shell("backup", "tree", "-v")
    names = {"same", "edited", "mode", "gone", "large", "sub", "sub/x", "link"}
    assert below(rows(first.err), tree) == {("new", name, ()) for name in names}
    assert rows(first.out) == set()
    change_tree(tree)
    assert below(rows(shell("backup", "tree", "-v").err), tree) == CHANGED
    again = shell("backup", "tree", "-v", "--json")
    assert (again.code, below(documented(again.document["changes"]), tree)) == (0, set())


def test_a_dry_run_of_a_backup_names_the_same_items(shell):
    tree = shell.directory / "tree"
    assert shell("backup", "tree").code == 0
    assert shell("backup", "tree", "--json").document["changes"] == []
    change_tree(tree)
    dry = shell("backup", "tree", "--dry-run")
    foretold = below(rows(dry.out), tree)
    assert {row for row in foretold if row[0] != "reread"} == CHANGED
    assert "would store" in dry.out.splitlines()[-1]
    assert below(documented(shell("backup", "tree", "--dry-run", "--json").document["changes"]), tree) == foretold
    lines = [json.loads(line) for line in shell("backup", "tree", "--dry-run", "--json-lines").out.splitlines()]
    assert below(documented(row for row in lines if row.get("event") == "item_changed"), tree) == foretold
    assert shell("backup", "tree", "--dry-run", "-q").out == ""


def spoil(to):
    (to / "edited").write_text("spoiled")
    (to / "large").write_bytes(LARGE[:-1])
    (to / "mode").chmod(0o777)
    (to / "link").unlink()
    os.symlink("elsewhere", to / "link")
    (to / "same").unlink()
    (to / "same").mkdir()
    (to / "sub").chmod(0o700)
    (to / "sub" / "x").unlink()
    (to / "extra").touch()


def test_a_restore_and_its_dry_run_name_the_same_items(shell):
    tree, to = shell.directory / "tree", shell.directory / "to"
    assert shell("backup", "tree").code == 0
    words = ["restore", f"latest:{tree}", "--to", str(to)]
    fresh = {("new", name, ()) for name in ("same", "edited", "mode", "gone", "large", "sub", "sub/x", "link")}
    assert below(rows(shell(*words, "--dry-run").out), to) == fresh
    assert below(rows(shell(*words, "-v").err), to) == fresh
    spoil(to)
    words += ["--overwrite", "always", "--delete"]
    dry = shell(*words, "--dry-run")
    foretold = below(rows(dry.out), to)
    parts = {path: (change, *what) for change, path, what in foretold}
    assert parts["edited"][:2] == parts["large"][:2] == ("changed", "content")
    assert parts["mode"] == ("changed", "mode")
    assert parts["link"][:2] == ("changed", "target")
    assert parts["same"] == ("changed", "type")
    assert parts["sub"] == ("changed", "mode", "mtime")
    assert parts["sub/x"] == ("new",)
    assert parts["extra"] == ("removed",)
    assert "gone" not in parts
    assert below(documented(shell(*words, "--dry-run", "--json").document["changes"]), to) == foretold
    ran = shell(*words, "-v", "--json")
    assert (ran.code, below(documented(ran.document["changes"]), to)) == (0, foretold)
    assert shell(*words, "-v", "--json").document["changes"] == []


def test_a_restore_of_metadata_names_the_parts(shell):
    tree = shell.directory / "tree"
    assert shell("backup", "tree").code == 0
    os.utime(tree / "same", ns=(5, 5))
    (tree / "mode").chmod(0o4755)
    expected = {("changed", "same", ("mtime",)), ("changed", "mode", ("mode",))}
    words = ["restore", f"latest:{tree}", "--in-place"]
    assert below(rows(shell(*words, "--dry-run").out), tree) == expected
    assert below(rows(shell(*words, "-v").err), tree) == expected


def test_a_dry_run_names_hard_links(shell):
    tree, to = shell.directory / "tree", shell.directory / "to"
    os.link(tree / "same", tree / "twin")
    assert shell("backup", "tree").code == 0
    words = ["restore", f"latest:{tree}", "--to", str(to), "--overwrite", "always"]
    assert shell(*words).code == 0
    assert below(rows(shell(*words, "--dry-run").out), to) == set()
    (to / "twin").unlink()
    (to / "twin").write_text("1")
    os.utime(to / "twin", ns=(1, (to / "same").stat().st_mtime_ns))
    assert below(rows(shell(*words, "--dry-run").out), to) == {("changed", "twin", ("link",))}
    assert below(rows(shell(*words, "-v").err), to) == {("changed", "twin", ("link",))}
    assert (to / "twin").samefile(to / "same")


def test_verify_reports_what_it_compared(shell):
    tree, to = shell.directory / "tree", shell.directory / "to"
    assert shell("backup", "tree").code == 0
    done = shell("restore", f"latest:{tree}", "--to", str(to), "--verify")
    assert "compared 8 items with the snapshot, 4.8 MiB read again" in done.out
    document = shell(
        "restore", f"latest:{tree}", "--to", str(to), "--overwrite", "always", "--verify", "--json"
    ).document
    assert document["compared"] == {"items": 8, "bytes": len(LARGE) + 5, "content_only": 0, "not_captured": 0}


def test_items_are_neither_kept_nor_named_unless_requested(shell):
    done = shell("backup", "tree", "--json-lines")
    assert "item_changed" not in done.out
    assert shell("backup", "tree", "-q", "-v").err == ""


def test_a_stream_is_named_where_it_is_stored(shell):
    words = ("backup", "--stdin-name", "dumps/orders.sql", "--stdin-command", "-v", "--")
    first = shell(*words, "echo", "one")
    assert rows(first.err) == {("new", "/dumps", ()), ("new", "/dumps/orders.sql", ())}
    second = shell(*words, "echo", "two")
    assert ("changed", "/dumps/orders.sql", ("content", "mtime")) in rows(second.err)
    third = shell(*words, "echo", "two")
    assert ("/dumps/orders.sql") not in {path for _, path, _ in rows(third.err)}
