"""`key list`, `add`, `remove` and `rotate`: exit codes, documents, and no password on the command line."""

import os
import shutil

import pytest
from command_shell import Shell, shell_in

from drtool.cli.commands.key.rotate import rotation_view
from drtool.cli.core import passwords
from drtool.cli.core.call import Call
from drtool.cli.core.render import Form, Screen
from drtool.errors import UsageError


@pytest.fixture(scope="module")
def founded(tmp_path_factory) -> Shell:
    made = shell_in(tmp_path_factory.mktemp("keys"))
    targets = [word for site in "abc" for word in ("--target", f"{site}={made.directory / site}")]
    assert made("init", *targets).code == 0
    (made.directory / "new").write_text("battery staple\n")
    return made


@pytest.fixture
def shell(founded, tmp_path) -> Shell:
    """A copy of the repository at the place that its configuration names."""
    saved = tmp_path / "saved"
    shutil.copytree(founded.directory, saved)
    yield founded
    for path in founded.directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(saved, founded.directory, dirs_exist_ok=True)


def add(shell, *words):
    done = shell("key", "add", "--label", "safe", "--new-password-file", "new", *words, "--json")
    assert done.code in (0, 5), done.err
    return done


def test_a_password_is_added_used_and_removed(shell):
    added = add(shell)
    assert (added.code, added.document["missing"]) == (0, [])
    with_new = shell("key", "list", "--json", "--password-file", "new", DRTOOL_PASSWORD="").document
    first = f"password set at init on {os.uname().nodename}"
    assert [(row["label"], row["in_use"]) for row in with_new["slots"]] == [(first, False), ("safe", True)]
    assert with_new["problems"] == []
    assert all(row["created"].endswith("Z") for row in with_new["slots"])
    shown = shell("key", "list")
    assert added.document["id"] in shown.out
    plan = shell("key", "remove", added.document["id"][:6], "--dry-run", "--json")
    assert (plan.code, plan.document["dry_run"], plan.document["left"]) == (0, True, 1)
    assert shell("--password-file", "new", "status", DRTOOL_PASSWORD="").code == 0
    removed = shell("key", "remove", added.document["id"][:6])
    assert removed.code == 0
    assert "this does not revoke" in removed.out
    assert shell("--password-file", "new", "status", DRTOOL_PASSWORD="").code == 12


def test_a_change_that_would_lock_the_user_out_is_refused_with_11(shell):
    (slot,) = shell("key", "list", "--json").document["slots"]
    last = shell("key", "remove", slot["id"], "--in-use", "--json")
    assert (last.code, last.error["kind"]) == (11, "refused")
    add(shell)
    own = shell("key", "remove", slot["id"], "--json")
    assert (own.code, "--in-use" in own.error["hint"]) == (11, True)
    left_behind = shell("key", "rotate", "--json")
    assert (left_behind.code, "--also-password-file" in left_behind.error["hint"]) == (11, True)


def test_an_unreachable_site_is_named_and_gives_exit_5_and_3(shell):
    away = shell.directory / "c.away"
    (shell.directory / "c").rename(away)
    try:
        added = add(shell)
        assert (added.code, [row["target"] for row in added.document["missing"]]) == (5, ["c/main"])
        rotated = shell("key", "rotate", "--also-password-file", "new", "--json")
        assert (rotated.code, [row["target"] for row in rotated.document["missing"]]) == (3, ["c/main"])
        assert rotated.document["generation"] == 2
        texts = [part.text for part in rotation_view(rotated.document).parts]
        (later,) = [text for text in texts if "can be used again" in text]
        assert later == (
            "  when c/main can be used again: drtool repair writes the new slots there and removes the old ones"
        )
        new = next(row["id"] for row in rotated.document["kept"] if row["label"] == "safe")
        removed = shell("key", "remove", new, "--json")
        assert (removed.code, [row["target"] for row in removed.document["still_at"]]) == (3, ["c/main"])
        listed = shell("key", "list", "--json").document
        assert any("c/main cannot be read" in problem for problem in listed["problems"])
    finally:
        away.rename(shell.directory / "c")
    assert any("missing at c/main" in problem for problem in shell("status", "--json").document["problems"])
    assert shell("backup", "drtool.yaml").code == 0
    assert shell("key", "list", "--json").document["problems"] == []


def test_a_dry_run_of_a_rotation_changes_nothing(shell):
    add(shell)
    plan = shell("key", "rotate", "--drop-others", "--dry-run", "--json")
    assert (plan.code, plan.document["generation"], plan.document["dry_run"]) == (0, None, True)
    assert [row["label"] for row in plan.document["dropped"]] == ["safe"]
    assert len(shell("key", "list", "--json").document["slots"]) == 2


@pytest.mark.parametrize(
    "words",
    [
        ("add", "--new-password-file", "absent"),
        ("add",),
        ("add", "secret"),
        ("add", "--label", "a\nb", "--new-password-file", "new"),
        ("rotate", "--also-password-file", "absent"),
        ("remove",),
    ],
)
def test_invalid_arguments_exit_with_2(shell, words):
    """There is no terminal to ask on, and a password is never an argument."""
    assert shell("key", *words, "--json").error["kind"] in ("usage_error", "config_error")


def test_the_new_password_is_not_read_from_the_file_of_the_old_one(shell):
    (shell.directory / "old").write_text("correct horse\n")
    done = shell("--password-file", "old", "key", "add", "--new-password-file", "old", "--json")
    assert (done.code, "same file" in done.error["message"]) == (2, True)


def test_each_command_exits_with_12_for_a_wrong_password(shell):
    for words in (("list",), ("add", "--new-password-file", "new"), ("remove", "ab"), ("rotate",), ("kit",)):
        assert shell("key", *words, "--json", DRTOOL_PASSWORD="wrong").code == 12


def test_without_a_quorum_the_list_is_shown_and_changes_exit_with_6(shell):
    for site in "bc":
        (shell.directory / site).rename(shell.directory / f"{site}.away")
    try:
        listed = shell("key", "list", "--json")
        assert (listed.code, listed.document["tentative"], len(listed.document["slots"])) == (6, True, 1)
        assert shell("key", "add", "--new-password-file", "new", "--json").code == 6
        assert len(list((shell.directory / "a/keys").iterdir())) == 1
    finally:
        for site in "bc":
            (shell.directory / f"{site}.away").rename(shell.directory / site)


def test_without_a_terminal_the_file_for_the_new_password_is_asked_for(shell):
    ran = shell("key", "add", "--json")
    assert ran.code == 2
    assert "--new-password-file is missing" in ran.error["message"]


def test_a_trivial_password_that_is_typed_is_refused_with_advice(monkeypatch):
    monkeypatch.setattr(passwords, "ask_password_or_none", lambda _question: b"password12")
    with pytest.raises(UsageError, match="too easy to guess: it is a common word") as error:
        passwords.new_password(Call(Screen(Form()), ("init",)))
    assert "random words" in (error.value.hint or "")
