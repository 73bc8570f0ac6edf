"""An empty word where a name is wanted is a mistake, usually an unset variable of a script."""

import pytest

from drtool.cli.main import run


@pytest.mark.parametrize("option", ["--tag", "--host"])
def test_an_empty_name_is_refused(option, capsys):
    assert run(["backup", option, "", "/etc"]) == 2
    assert f"{option} is empty" in capsys.readouterr().err
