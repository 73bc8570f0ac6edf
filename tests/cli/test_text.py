"""Values in text and JSON."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drtool.cli.core.text import as_json, brief, count, document_of, duration, local, size, utc
from drtool.config.units import time_ns_of
from drtool.escaping import printable


@pytest.mark.parametrize(
    ("count_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (2**20, "1.0 MiB"),
        (2**20 - 1, "1.0 MiB"),
        (5 * 2**60, "5.0 EiB"),
    ],
)
def test_sizes(count_bytes, text):
    assert size(count_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (42, "42 s"), (185, "3 min 05 s"), (7800, "2 h 10 min"), (97_200, "1 d 3 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (-62_135_596_800 * 10**9, "0001-01-01T00:00:00.000000000Z"),
        (253_402_300_799 * 10**9, "9999-12-31T23:59:59.000000000Z"),
        (253_402_300_800 * 10**9 + 5, "@253402300800.000000005"),
        (-(10**20), "@-100000000000.000000000"),
    ],
)
def test_times_in_json(time_ns, text):
    assert utc(time_ns) == text


@given(st.integers(-62_135_596_800 * 10**9, 253_402_300_800 * 10**9 - 1))
def test_a_printed_time_is_read_back_unchanged(time_ns):
    assert time_ns_of(utc(time_ns)) == time_ns


def test_a_time_with_an_offset():
    assert utc(time_ns_of("2026-01-31T22:30:00.25+02:00")) == "2026-01-31T20:30:00.250000000Z"
    with pytest.raises(ValueError, match="offset"):
        time_ns_of("2026-01-31T22:30:00")


@pytest.mark.parametrize(
    "text", ["@99999999999.0", "0001-01-01T00:00:00.000000000Z", "9999-12-31T23:59:59.999999999Z", ""]
)
def test_a_terminal_shows_any_time(text):
    assert isinstance(local(text), str)


def test_bytes_that_are_not_text():
    name = b"caf\xe9\n\x1b[31m".decode("utf-8", "surrogateescape")
    assert printable(name) == "caf\\xe9\\x0a\\x1b[31m"
    assert '"caf\\udce9\\n\\u001b[31m"' in as_json({"path": name})
    assert json.loads(as_json({"path": name}))["path"] == name


@given(st.binary(max_size=30))
def test_nothing_from_outside_moves_the_cursor(name):
    shown = printable(name.decode("utf-8", "surrogateescape"))
    assert shown.isprintable()
    shown.encode("utf-8")  # no surrogate is left that would raise an error


def test_a_document_has_times_for_people_and_programs():
    document = document_of({"time_ns": 0, "rows": ({"mtime_ns": None, "wall_seconds": 1.5},)})
    assert document == {"time": utc(0), "rows": [{"mtime": None, "wall_seconds": 1.5}]}


def test_counting():
    assert [count(1, "file"), count(2000, "file"), count(2, "directory", "directories")] == [
        "1 file",
        "2,000 files",
        "2 directories",
    ]


def test_a_text_that_was_cut_shows_that():
    assert brief("abc", 3) == "abc"
    assert brief("abcd", 3) == "ab…"


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("UTC", "2026-12-01 23:39:25+00:00"),
        ("XXX-5:30", "2026-12-02 05:09:25+05:30"),
        ("YYY8", "2026-12-01 15:39:25-08:00"),
    ],
)
def test_a_local_time_has_its_offset(monkeypatch, zone, shown):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert local("2026-12-01T23:39:25.000000001Z") == shown
    finally:
        monkeypatch.undo()
        time.tzset()
