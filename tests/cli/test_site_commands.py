"""`site list`, `add`, `replace` and `remove`, as text and JSON."""

import shutil

import pytest
from command_shell import Shell, shell_in


@pytest.fixture(scope="module")
def founded_shell(tmp_path_factory) -> Shell:
    made = shell_in(tmp_path_factory.mktemp("sites"))
    (made.directory / "tree").mkdir()
    (made.directory / "tree/file").write_bytes(bytes(range(256)) * 800)
    assert made("init", *(word for site in "abc" for word in ("--target", f"{site}={site}")), "--copies", "3").code == 0
    assert made("backup", "tree").code == 0
    return made


def test_a_lost_site_is_replaced_and_everything_is_there_afterwards(founded_shell):
    shell = founded_shell
    (shell.directory / "c").rename(shell.directory / "burnt")
    would = shell("site", "replace", "c", "garage=new", "--dry-run", "--json")
    assert (would.code, would.document["changed"], would.document["lost"]) == (0, False, ["c/main"])
    assert not (shell.directory / "new").exists()
    done = shell("site", "replace", "c", "garage=new", "--json")
    assert done.code == 0, done.err
    assert done.document["voters"] == ["a", "b", "garage"]
    assert done.document["url"] == f"file://{shell.directory}/new"
    listed = shell("site", "list", "--json").document
    assert {row["name"]: (row["votes"], row["reachable"]) for row in listed["sites"]} == {
        "a": (True, True),
        "b": (True, True),
        "c": (False, False),
        "garage": (True, True),
    }
    assert "garage" not in (shell.directory / "drtool.yaml").read_text()
    status = shell("status", "--json").document
    assert not any("c/main" in problem for problem in status["problems"])
    assert "lost" in shell("status").out
    assert shell("repair").code == 0
    assert shell("backup", "tree").code == 0
    shutil.move(shell.directory / "a", shell.directory / "burnt-too")
    assert shell("restore", f"latest:{shell.directory}/tree", "--to", "out").code == 0
    assert (shell.directory / "out/file").read_bytes() == (shell.directory / "tree/file").read_bytes()
    shutil.move(shell.directory / "burnt-too", shell.directory / "a")


def test_a_vote_is_taken_and_given_back(founded_shell):
    shell = founded_shell
    done = shell("site", "remove", "b")
    assert done.code == 0
    assert "b/main still stores data" in done.out
    assert "2 sites vote" in done.out
    assert shell("site", "add", "b", "--json").document["changed"]
    again = shell("site", "add", "b")
    assert (again.code, again.out) == (0, "nothing to do for b: it already votes, and its register is sound\n")


def test_a_new_site_stores_first_and_votes_when_it_is_given_a_vote(founded_shell):
    shell = founded_shell
    assert shell("target", "add", "shed", "shed").code == 0
    listed = {row["name"]: row for row in shell("site", "list", "--json").document["sites"]}
    assert (listed["shed"]["votes"], listed["shed"]["stores"]) == (False, True)
    done = shell("site", "add", "shed", "--json")
    assert (done.code, "shed" in done.document["voters"]) == (0, True)
    assert "4 sites vote" in done.document["advice"]
    assert shell("site", "remove", "shed").code == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("site", "remove", "nowhere"), 2),
        (("site", "add", "nowhere"), 2),
        (("site", "replace", "b", "nowhere"), 2),
        (("site", "replace", "b", "no/where/=x"), 2),
        (("site", "replace", "b", "x=ftp://bucket/y"), 2),
        (("site", "replace", "b", "x=tree"), 11),
    ],
)
def test_impossible_changes_are_refused(founded_shell, words, code):
    assert founded_shell(*words, "--json").code == code
