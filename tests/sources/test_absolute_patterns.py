"""Absolute patterns mean absolute paths, wherever the backup starts, and patterns that can match nothing are reported."""

import pytest

from drtool.operations.restore.select import Selection
from drtool.sources.filesystem import idle_reason, patterns_below
from drtool.trees import Entry, FileType


@pytest.mark.parametrize(
    ("pattern", "root", "rests"),
    [
        ("/home/*/.cache/", b"/home/ann", ["/.cache/"]),
        ("!/home/*/.cache/", b"/home/ann", ["!/.cache/"]),
        ("/home/*/.cache/", b"/home", ["/*/.cache/"]),
        ("/home/?nn/a/b", b"/home/ann/a", ["/b"]),
        ("/home/**/x", b"/home/ann/src", ["/**/x"]),
        ("/home/**/src/x", b"/home/ann/src", ["/**/src/x", "/x"]),
        ("/home/ann/", b"/home/ann", []),
        ("/home/a*", b"/home/ann/src", []),
        ("/home/bob/x", b"/home/ann", ["/home/bob/x"]),
        ("/data/[x]/y", b"/data/[x]", ["/y"]),
        ("/data/\\[x]/y", b"/data/[x]", ["/y"]),
        ("/*/x", b"/home", ["/*/x"]),
        ("/build", b"/home", ["/build"]),
        ("/home/x", b"/", ["/home/x"]),
        ("./x", b"/home", ["/x"]),
        ("!./x", b"/home", ["!/x"]),
        ("*.tmp", b"/home", ["*.tmp"]),
    ],
)
def test_an_absolute_pattern_is_reduced_to_its_part_below_the_root(pattern, root, rests):
    assert patterns_below(pattern, root) == rests


@pytest.mark.parametrize("pattern", ["*.tmp", "", "# comment", "/build", "./x", "a/**", "/tree/*/x", "!keep", "**/x"])
def test_a_pattern_that_may_match_gives_no_warning(tmp_path, pattern):
    assert idle_reason(pattern, [bytes(tmp_path)]) == ""


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("../x", "no name"),
        ("a/./b", "no name"),
        ("a//b", "no name"),
        ("[abc", "malformed"),
        ("/dev/null", "outside"),
        ("{root}/", "never left out"),
        ("{above}", "never left out"),
    ],
)
def test_a_pattern_that_can_match_nothing_has_a_reason(tmp_path, pattern, reason):
    text = pattern.format(root=tmp_path, above=tmp_path.parent)
    assert reason in idle_reason(text, [bytes(tmp_path)])


def test_a_name_that_also_exists_in_the_root_directory_gives_no_warning(tmp_path):
    (tmp_path / "dev").mkdir()
    assert idle_reason("/dev/null", [bytes(tmp_path)]) == ""


@pytest.mark.parametrize(("include", "taken"), [("/srv/www", True), ("/www", True), ("/srv", True), ("/srv/x", False)])
def test_a_restore_takes_absolute_names_too(include, taken):
    entry = Entry(name=b"www", type=FileType.DIRECTORY, mode=0o755, uid=0, gid=0)
    assert Selection([include], [], b"/srv").judge((), entry, inherited=False).take is taken
    assert Selection([], [include], b"/srv").judge((), entry, inherited=False).take is not (taken and include != "/srv")
