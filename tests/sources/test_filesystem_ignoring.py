"""`.drtoolignore`: what git does with `.gitignore`, held against git itself."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import sample
from trees_in_memory import Tree, capture

from drtool.sources.filesystem import Rules, plan_roots

FOLDERS = ("", "a/", "a/b/", "c.d/")
NAMES = ("a", "b", "x.o", "x.c", "[y]", "build")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("ignoring")
    subprocess.run(["git", "init", "-q", str(top)], check=True)
    folders = (*FOLDERS, "a/build/", "build/")
    for folder in folders:
        (top / folder).mkdir(parents=True, exist_ok=True)
    for folder in folders:
        for name in NAMES:
            if not (top / folder / name).exists():
                (top / folder / name).touch()
    return top


piece = st.sampled_from(["a", "b", "x", "*", "**", "?", ".o", ".c", "build", "/", "[y]", "[a-b]", "\\[y]", "c.d", " "])
pattern = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "", "!"]),
    st.lists(piece, max_size=4).map("".join),
    st.sampled_from(["", "/"]),
)


def taken(tree: Tree, prefix: str = "") -> set[str]:
    found = set()
    for entry in tree.entries:
        below = tree.inside.get(entry.name)
        name = prefix + os.fsdecode(entry.name)
        found |= taken(below, name + "/") if isinstance(below, Tree) else {name}
    return found


@settings(max_examples=sample(120), deadline=None)
@given(lines=st.lists(st.lists(pattern, max_size=3), min_size=4, max_size=4))
def test_it_leaves_out_exactly_what_git_would(tree: Path, lines: list[list[str]]) -> None:
    for folder, some in zip(FOLDERS, lines, strict=True):
        (tree / folder / ".drtoolignore").write_text("\n".join(some))
    asked = ["git", "-C", str(tree), "ls-files", "-z", "--others", "--exclude-per-directory=.drtoolignore"]
    wanted = {
        name for name in subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split("\0") if name
    }
    rules = Rules(plan_roots([os.fsencode(tree)]), ["/.git/"], ignore_files=True)
    assert taken(capture(tree, rules)) == wanted


def rules_for(path: Path, *patterns: str) -> Rules:
    return Rules(plan_roots([os.fsencode(path)]), patterns, ignore_files=True)


def test_what_the_user_says_goes_before_what_files_say(tmp_path: Path) -> None:
    for name in ("kept.log", "lost.log", "other.tmp"):
        (tmp_path / name).touch()
    (tmp_path / ".drtoolignore").write_bytes(b"\xef\xbb\xbf*.log\r\n!other.tmp\r\n")
    found = taken(capture(tmp_path, rules_for(tmp_path, "*.tmp", "!kept.log")))
    assert found == {".drtoolignore", "kept.log"}
    assert taken(capture(tmp_path, Rules(plan_roots([os.fsencode(tmp_path)])))) == found | {"lost.log", "other.tmp"}


def test_one_above_the_named_path_says_nothing(tmp_path: Path) -> None:
    (tmp_path / ".drtoolignore").write_text("*\n")
    (tmp_path / "below").mkdir()
    (tmp_path / "below/x").touch()
    assert taken(capture(tmp_path / "below", rules_for(tmp_path / "below"))) == {"x"}


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory"])
def test_one_that_cannot_be_read_is_listed_and_leaves_nothing_out(tmp_path: Path, kind: str) -> None:
    from trees_in_memory import capture_once

    (tmp_path / "x").touch()
    ignore = tmp_path / ".drtoolignore"
    {"symlink": lambda: ignore.symlink_to("x"), "fifo": lambda: os.mkfifo(ignore), "directory": ignore.mkdir}[kind]()
    captured = capture_once(tmp_path, rules=rules_for(tmp_path))
    assert {entry.name for entry in captured.entries} == {b"x", b".drtoolignore"}
    assert [problem.path for problem in captured.problems] == [os.fsencode(ignore)]
