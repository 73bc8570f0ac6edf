"""Refusals of `backup --stdin…` and `restore --to-dsn` before anything is opened, tested in this process."""

import os

import pytest

from drtool.cli.commands.backup_stdin import Stdin, command_of, stream_job
from drtool.cli.core.passwords import inherited
from drtool.errors import UsageError

STDIN = Stdin(stdin=True, name=None, command=False)
COMMAND = Stdin(stdin=False, name="a/b", command=True)


def test_the_command_is_the_words_after_the_dashes():
    line = ["backup", "--stdin-command", "--", "cp", "--", "-x"]
    assert command_of(["cp", "--", "-x"], line) == ["cp", "--", "-x"]
    assert command_of(["date"], ["backup", "--stdin-command", "date"]) == ["date"]
    with pytest.raises(UsageError, match="needs a command"):
        command_of([], ["backup", "--stdin-command"])
    with pytest.raises(UsageError, match="so /etc cannot"):
        command_of(["/etc", "date"], ["backup", "/etc", "--stdin-command", "--", "date"])


def test_a_stream_is_a_job_without_a_source():
    job = stream_job(COMMAND, ["date"], ["backup", "--stdin-command", "--stdin-name", "a/b", "--", "date"], [])
    assert (job.name, job.captured.paths, job.captured.again) == ("", (b"/a/b",), True)
    assert stream_job(STDIN, [], ["backup", "--stdin"], []).captured.paths == (b"/stdin",)


def test_programs_do_not_inherit_the_password():
    given = {"PATH": "/bin", "DRTOOL_PASSWORD": "x", "DRTOOL_PASSWORD_COMMAND": "y", "DRTOOL_PASSWORD_FILE": "z"}
    assert inherited(given) == {"PATH": "/bin"}
    assert inherited()["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["restore", "latest", "--to-dsn", "x", "--to", "y"], "--to-dsn loads whole databases"),
        (["restore", "latest:/postgresql", "--to-dsn", "x"], "--to-dsn loads whole databases"),
        (["restore", "latest", "--to", "x", "--database", "y"], "--database needs --to-dsn"),
        (["restore", "latest"], "--to is missing"),
    ],
)
def test_options_of_restore_that_exclude_each_other(words, told, capsys):
    from drtool.cli.main import run

    assert run(words) == 2
    assert told in capsys.readouterr().err
