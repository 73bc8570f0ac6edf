"""The paths in drtool.yaml."""

from pathlib import Path

import pytest

from drtool.config.schema import SourceConfig, SqliteConfig
from drtool.errors import UsageError
from drtool.sources.configured import captured_source, walked_paths

BESIDE = Path("/etc/drtool")


def test_a_tilde_is_a_home_directory_and_other_names_are_below_the_configuration(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    config = SourceConfig(paths=("~/mail", "~", "tree", "/srv", "a~b", "./~/x"))
    assert list(map(str, walked_paths(config, BESIDE))) == [
        "/home/ann/mail",
        "/home/ann",
        "/etc/drtool/tree",
        "/srv",
        "/etc/drtool/a~b",
        "/etc/drtool/~/x",
    ]
    assert str(walked_paths(SourceConfig(paths=("~root/x",)), BESIDE)[0]) == "/root/x"
    source = captured_source(SourceConfig(sqlite=SqliteConfig(path="~/app.db")), BESIDE)
    assert source is not None


def test_the_home_of_a_missing_user_is_an_error():
    with pytest.raises(UsageError, match="this host has no such user") as error:
        walked_paths(SourceConfig(paths=("~no-such-user/x",)), BESIDE)
    assert "./~no-such-user/x" in (error.value.hint or "")
