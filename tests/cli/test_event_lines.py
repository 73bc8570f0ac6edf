"""`--json-lines`: real events of real commands are as the published schema says."""

import json
from pathlib import Path

import msgspec
import pytest
from command_shell import shell_in
from three_sites import fill, noise

from drtool.events import LineEvent, schema

PUBLISHED = Path(__file__).parents[2] / "docs/events.schema.json"


def test_the_published_schema_is_that_of_the_events():
    assert json.loads(PUBLISHED.read_text()) == json.loads(json.dumps(schema())), "write it again: make man"


def check(line):
    """Check one line with an event against the published schema: its names, and by decoding it strictly, its types."""
    name = line["event"]
    definitions = json.loads(PUBLISHED.read_text())
    row = definitions["$defs"][definitions["discriminator"]["mapping"][name].rpartition("/")[2]]
    assert set(line) == set(row["properties"]) == set(row["required"])
    msgspec.convert({key: value for key, value in line.items() if key != "time"}, LineEvent, strict=True)
    return name


def test_events_of_real_commands_fit_the_schema(tmp_path):
    home = fill(tmp_path / "home", {"disk.img": noise(5 * 2**20), "note": b"a"})
    shell = shell_in(tmp_path)
    targets = [word for site in "abc" for word in ("--target", f"{site}={tmp_path / site}")]
    seen = set()
    for words in (
        ("init", *targets),
        ("backup", "-v", str(home)),
        ("verify", "--level", "full"),
    ):
        lines = [json.loads(line) for line in shell("--json-lines", *words).out.splitlines()]
        seen |= {check(line) for line in lines[:-1]}
        assert "event" not in lines[-1]
    assert {"stage", "progress", "item_changed", "snapshot_stored"} <= seen


@pytest.mark.parametrize("line", [{"event": "warned", "time": "", "message": 5}, {"event": "stage", "time": ""}])
def test_a_wrong_event_does_not_fit(line):
    with pytest.raises((AssertionError, msgspec.ValidationError)):
        check(line)
