"""The operations guide names only commands and options that there are."""

import re
from pathlib import Path

import pytest

from drtool.cli import commands, parser

PAGE = (Path(__file__).parents[2] / "docs/operations.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
LINES = sorted({line for block in BLOCKS for line in block.splitlines()})


@pytest.mark.parametrize("line", LINES)
def test_every_line_is_a_command_line_that_parses(line):
    program, *words = line.split()
    assert program == "drtool"
    length = next(n for n in (2, 1) if tuple(words[:n]) in commands.COMMANDS)
    parser.command(tuple(words[:length])).make_context("drtool", words[length:])
