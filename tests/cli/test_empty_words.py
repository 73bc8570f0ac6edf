"""An empty word instead of a name is a mistake, usually an unset variable of a script."""

import json

import pytest

from drtool.cli.main import run


@pytest.mark.parametrize("option", ["--tag", "--host"])
def test_an_empty_name_is_refused(option, capsys):
    assert run(["backup", option, "", "/etc"]) == 2
    assert f"{option} is empty" in capsys.readouterr().err


def test_an_empty_path_is_refused(capsys):
    assert run(["backup", ""]) == 2
    assert "PATH is empty" in capsys.readouterr().err
    assert run(["restore", "latest", "--to", ""]) == 2
    assert "--to is empty" in capsys.readouterr().err


def test_the_version_as_a_document(capsys):
    assert run(["--json", "--version"]) == 0
    assert json.loads(capsys.readouterr().out)["version"]
