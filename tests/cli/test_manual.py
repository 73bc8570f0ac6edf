"""The man page matches the commands, and troff accepts it without a warning."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from drtool.cli.core.registry import COMMANDS
from drtool.cli.manual import manual

PAGE = Path(__file__).parents[2] / "docs/drtool.1"


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == manual(), "run `make man`"


def test_every_command_is_on_the_page_with_an_example():
    page = manual()
    for path in COMMANDS:
        name = " ".join(path).replace("-", "\\-")
        section = page.partition(f".SS {name}\n")[2].partition(".SS ")[0]
        assert "\n.nf\n.RS\ndrtool " in section or "\n.RS\n" in section, name
        assert "Exit status: 0, 1, 2" in section, name


@pytest.mark.parametrize(
    ("package", "words"),
    [("groff-base", ["groff", "-man", "-ww", "-Tutf8"]), ("mandoc", ["mandoc", "-man", "-W", "warning", "-Tutf8"])],
)
def test_troff_accepts_the_page_without_a_warning(package, words):
    if shutil.which(words[0]) is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{words[0]} is not here: apt-get install {package}")
    done = subprocess.run([*words, str(PAGE)], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert "[SNAPSHOT]" in text
    assert "…" in text
