"""Our gitignore is git's."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from thoroughness import sample

from drtool.sources.filesystem.patterns import Matcher

NAMES = ["a", "b", "ab", "a.b", "[a]", "a\nb", "!a", "#a", "a ", "a-", "-"]


def excluded_by_us(lines: list[str], tree: Path) -> set[str]:
    matcher = Matcher(lines)
    excluded = set()

    def walk(directory: Path, prefix: str) -> None:
        for item in sorted(os.scandir(directory), key=lambda item: item.name):
            if item.name == ".git":
                continue
            if matcher.verdict(prefix, item.name, is_directory=item.is_dir()):
                excluded.add(prefix + item.name)
            elif item.is_dir():
                walk(Path(item.path), prefix + item.name + "/")

    walk(tree, "")
    return excluded


def excluded_by_git(lines: list[str], tree: Path) -> set[str]:
    (tree / ".git/info").mkdir(exist_ok=True)
    (tree / ".git/info/exclude").write_text("\n".join(lines) + "\n")
    paths = [os.fspath(p.relative_to(tree)) for p in sorted(tree.rglob("*")) if ".git" not in p.parts]
    answer = subprocess.run(
        ["git", "-c", "core.excludesFile=/dev/null", "check-ignore", "--no-index", "-z", "--stdin"],
        cwd=tree, input="\0".join(paths), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode in (0, 1), answer.stderr
    ignored = set(answer.stdout.split("\0")) - {""}
    # git lists everything below an excluded directory too; we never get there
    return {path for path in ignored if not any(path[:i] in ignored for i, c in enumerate(path) if c == "/")}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    root = tmp_path_factory.mktemp("ignored")
    subprocess.run(["git", "init", "-q", "."], cwd=root, check=True)
    for first in NAMES:
        (root / first).mkdir()
        for second in ("a", "b", "a.b", "a\nb"):
            (root / first / second).mkdir()
            (root / first / second / "a").touch()
            (root / first / second / "b").touch()
        (root / first / "ab").touch()
    (root / "file").touch()
    return root


@pytest.mark.parametrize(
    "lines",
    [
        ["*"], ["**"], ["/"], ["/*"], ["*/"], ["**/"], ["a"], ["a/"], ["/a"], ["a/b"], ["/a/b/"], ["**/b"], ["a/**"],
        ["a/**/b"], ["a/**/"], ["/**/a"], ["**/a/**"], ["a**"], ["a/***"], ["a//b"], ["a\\ "], ["a "], ["\\!a"], ["\\#a"],
        ["#a"], ["!a"], ["*", "!a"], ["a", "!a/b"], ["b", "!a/"], ["[a-b]"], ["[!a]"], ["[]a]*"], ["a[.]b"], ["[a"],
        ["\\[a\\]"], ["a\\"], ["[b-a]"], ["a/[!b]"], ["a[^b]b"], ["[[:alpha:]]"], ["[[:punct:]]*"], ["[a-]*"], ["[-]"],
        ["a/**", "!a/b/"], ["a/**", "!a/b/", "!a/b/**"], ["/*", "!/a"], ["?"], ["a?b"], ["[\\a]"], ["a/*/b"],
        ["a-"], ["[+--]"], ["[a-b-]*"], ["[!-a]*"], ["[a-\\\\b]"], ["[b-aa]"],
        ["*.b", "!/a/a.b"], ["file/"], ["file/**"], ["a\tb"], ["a\\b"], ["[a/]b"],
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.spread(7)
def test_a_pattern_excludes_what_git_ignores(lines: list[str], tree: Path) -> None:
    assert excluded_by_us(lines, tree) == excluded_by_git(lines, tree)


pieces = st.sampled_from(
    [
        "a",
        "b",
        "ab",
        "*",
        "**",
        "?",
        "/",
        "/",
        ".",
        "[ab]",
        "[!a]",
        "[a",
        "]",
        "\\",
        "!",
        "#",
        " ",
        "-",
        "[a-b]",
        "[b-a",
        "[]",
        "[^",
    ]
)
pattern_lines = st.lists(st.lists(pieces, min_size=1, max_size=6).map("".join), min_size=1, max_size=4)


@settings(max_examples=sample(120), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=pattern_lines)
def test_any_patterns_exclude_what_git_ignores(lines: list[str], tree: Path) -> None:
    assert excluded_by_us(lines, tree) == excluded_by_git(lines, tree)


def test_names_that_are_not_utf8_match_wildcards_and_nothing_else() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert Matcher(["caf*"]).verdict("", name, is_directory=False)
    assert Matcher(["caf?"]).verdict("", name, is_directory=False)
    assert Matcher(["café"]).verdict("", name, is_directory=False) is None


def test_case_is_exact() -> None:
    assert Matcher(["*.TMP"]).verdict("", "a.tmp", is_directory=False) is None
