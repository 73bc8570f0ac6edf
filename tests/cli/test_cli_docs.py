"""docs/cli.md and the program say the same."""

import re
from pathlib import Path

from drtool.errors import EXIT_MEANINGS, EXIT_PRECEDENCE

PAGE = (Path(__file__).parents[2] / "docs/cli.md").read_text()


def test_every_exit_code_is_documented():
    section = PAGE.partition("## Exit codes")[2].partition("##")[0]
    listed = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", section, re.MULTILINE) for code in row.split(",")}
    assert listed == set(EXIT_MEANINGS)
    order = re.search(r"the first of ([\d, /]+) is given", section)
    assert order is not None
    assert [int(code) for code in re.findall(r"\d+", order[1])] == [code for code in EXIT_PRECEDENCE if code]
