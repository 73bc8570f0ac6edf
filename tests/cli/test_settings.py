"""The documented lookup orders of configuration, password and directories."""

import os
import pwd
from pathlib import Path

import pytest

from drtool.cli.core import passwords
from drtool.cli.core.options import Options
from drtool.cli.core.passwords import first_line, password_source
from drtool.cli.core.settings import find_config, resolve, worker_count
from drtool.config import Config
from drtool.config.schema import Limits
from drtool.errors import UsageError


def write(path: Path, text: str = "repository: here\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_first_existing_configuration_is_used(tmp_path):
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "xdg"), "HOME": str(tmp_path)}
    user = write(tmp_path / "xdg/drtool/drtool.yaml")
    assert find_config(Options(), environ, tmp_path) == user
    beside = write(tmp_path / "drtool.yaml")
    assert find_config(Options(), environ, tmp_path) == beside
    named = write(tmp_path / "env.yaml")
    environ["DRTOOL_CONFIG"] = "env.yaml"
    assert find_config(Options(), environ, tmp_path) == named
    given = write(tmp_path / "given.yaml")
    assert find_config(Options(config=str(given)), environ, tmp_path) == given


def test_a_missing_named_configuration_is_not_replaced_by_another(tmp_path):
    write(tmp_path / "drtool.yaml")
    assert find_config(Options(config="none.yaml"), {}, tmp_path) is None


def test_the_password_comes_from_the_first_given_origin(tmp_path):
    def password(options: Options, environ: dict[str, str], config: Config) -> bytes | None:
        source = password_source(options, environ, config, tmp_path / "drtool.yaml")
        return source() if source else None

    for name in ("option", "variable", "configured"):
        write(tmp_path / name, f"{name}\nsecond line\n")
    config = Config(password_file="configured", password_command=("echo", "command"))
    environ = {
        "DRTOOL_PASSWORD": "direct",
        "DRTOOL_PASSWORD_FILE": str(tmp_path / "variable"),
        "DRTOOL_PASSWORD_COMMAND": "printf 'by command\\n'",
    }
    assert password(Options(password_file=str(tmp_path / "option")), environ, config) == b"option"
    for variable, expected in (
        ("DRTOOL_PASSWORD", b"direct"),
        ("DRTOOL_PASSWORD_FILE", b"variable"),
        ("DRTOOL_PASSWORD_COMMAND", b"by command"),
    ):
        assert password(Options(), environ, config) == expected
        del environ[variable]
    assert password(Options(), environ, config) == b"configured"
    assert password(Options(), environ, Config(password_command=("echo", "command"))) == b"command"
    assert password(Options(), environ, Config()) is None


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"abc\ndef", b"abc"),
        (b"abc\r\n", b"abc"),
        (b" a b ", b" a b "),
        (b"\xff\xfe", b"\xff\xfe"),
        (b"a\rb\n", b"a\rb"),
    ],
)
def test_a_password_is_the_first_line_without_its_end(data, line):
    assert first_line(data, "here") == line


@pytest.mark.parametrize(
    ("options", "environ", "words"),
    [
        (Options(password_file="/nonexistent"), {}, "cannot be read"),
        (Options(), {"DRTOOL_PASSWORD": "\n"}, "is empty"),
        (Options(), {"DRTOOL_PASSWORD_COMMAND": "false"}, "exit code 1"),
        (Options(), {"DRTOOL_PASSWORD_COMMAND": "no-such-program-anywhere"}, "cannot be run"),
        (Options(), {"DRTOOL_PASSWORD_COMMAND": "'unclosed"}, "cannot be run"),
    ],
)
def test_a_missing_password_is_explained(options, environ, words):
    source = password_source(options, environ, Config(), None)
    assert source is not None
    with pytest.raises(UsageError, match=words):
        source()


def test_without_a_terminal_no_password_is_asked_for(monkeypatch, tmp_path):
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        with pytest.raises(UsageError, match="no terminal"):
            resolve(Options(), {"HOME": str(tmp_path)}, tmp_path).password()


@pytest.mark.parametrize(
    ("environ", "uid", "state", "cache"),
    [
        ({"DRTOOL_STATE_DIR": "/s", "DRTOOL_CACHE_DIR": "/c"}, 0, "/s", "/c"),
        ({}, 0, "/var/lib/drtool", "/home/x/.cache/drtool"),
        ({}, 1000, "/home/x/.local/state/drtool", "/home/x/.cache/drtool"),
        ({"XDG_STATE_HOME": "/xs", "XDG_CACHE_HOME": "/xc"}, 1000, "/xs/drtool", "/xc/drtool"),
        (
            {"XDG_STATE_HOME": "relative", "XDG_CACHE_HOME": ""},
            1000,
            "/home/x/.local/state/drtool",
            "/home/x/.cache/drtool",
        ),
    ],
)
def test_directories(monkeypatch, tmp_path, environ, uid, state, cache):
    monkeypatch.setattr(passwords.os, "getuid", lambda: uid)
    found = resolve(Options(), {"HOME": "/home/x", **environ}, tmp_path)
    assert (str(found.state_dir), str(found.cache_dir)) == (state, cache)


def test_a_user_without_an_entry_still_has_a_name(monkeypatch, tmp_path):
    def missing(_uid: int) -> object:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", missing)
    assert resolve(Options(), {"USER": "ghost", "HOME": "/h"}, tmp_path).user == "ghost"
    assert resolve(Options(), {}, tmp_path).user == str(os.getuid())


@pytest.mark.parametrize(
    ("limits", "workers"),
    [
        (Limits(workers=3), 3),
        (Limits(workers=8, memory=256 * 2**20), 2),
        (Limits(workers=1, memory=2**40), 1),
        (Limits(workers=4, memory=2**20), 1),
    ],
)
def test_memory_limits_the_number_of_workers(limits, workers):
    assert worker_count(Config(limits=limits)) == workers
