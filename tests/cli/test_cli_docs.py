"""docs/cli.md agrees with the program."""

import re
from pathlib import Path

import pytest

from drtool.errors import EXIT_MEANINGS, EXIT_PRECEDENCE

PAGE = (Path(__file__).parents[2] / "docs/cli.md").read_text()


def test_every_exit_code_is_documented():
    section = PAGE.partition("## Exit codes")[2].partition("##")[0]
    listed = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", section, re.MULTILINE) for code in row.split(",")}
    assert listed == set(EXIT_MEANINGS)
    order = re.search(r"the first of ([\d, /]+) is given", section)
    assert order is not None
    assert [int(code) for code in re.findall(r"\d+", order[1])] == [code for code in EXIT_PRECEDENCE if code]


def documented() -> dict[str, set[str]]:
    """Return the outermost fields of each command's document that the page lists."""
    section = PAGE.partition("## JSON documents")[2]
    found = {}
    for row in re.split(r"^- |  (?=`[a-z ]+`: `\{)|; (?=`[a-z ]+`: `\{)", section, flags=re.MULTILINE)[1:]:
        names, _, form = " ".join(row.split()).partition(": `{")
        depth, outermost = 0, ""
        for letter in form.partition("}`")[0]:
            depth += (letter in "{[") - (letter in "}]")
            outermost += letter if depth == 0 else ""
        fields = {word.partition(":")[0].strip(" ]}") for word in outermost.split(",")}
        found |= dict.fromkeys(re.findall(r"`([a-z ]+)`", names), fields)
    return found


READING = """
snapshots; ls; verify; status; survive; target list; ring show; ring preview; rebalance; site list; session list; manifest status;
manifest log; manifest check; manifest compact; backup; fault list; fault clear; scratch list; doctor; benchmark
"""


@pytest.mark.parametrize("command", [name.strip() for name in READING.split(";")])
@pytest.mark.spread(7)
def test_documents_have_exactly_the_documented_fields(stored, command):
    more = {
        "ls": ["latest"],
        "backup": ["--dry-run"],
        "rebalance": ["--dry-run"],
        "manifest compact": ["--dry-run"],
        "benchmark": ["--no-targets"],
    }.get(command, [])
    fields = documented()[command]
    assert len(fields) > 0
    assert fields - set(stored(*command.split(), *more, "--json").document) == set()
