"""The journal of a run: appended lines are there, cut-off lines are not, and changed lines are detected."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drtool.errors import DrtoolError, FormatError, Refused
from drtool.plans.journal.events import Began, Cancelled, Ended, RunBegan
from drtool.plans.journal.file import GENESIS, JOURNAL_FILE, Journal, is_written, parse, read, read_damaged

BEGAN = RunBegan(
    at="2026-01-01T00:00:00Z", run="r1", plan="p", digest="d", host="h", user="u", version="0", scope="scratch"
)


def events(count):
    for number in range(count):
        yield Began(at="2026-01-01T00:00:01Z", key=f"s{number}", uses="wait", elapsed_s=number)
        yield Ended(at="2026-01-01T00:00:02Z", key=f"s{number}", status="passed", outputs={"n": number, "t": "ä"})


def written(folder, count=3):
    with Journal.create(folder) as journal:
        journal.append(BEGAN)
        for event in events(count):
            journal.append(event)
        return list(journal.events), journal.head


def test_a_journal_is_read_and_continued(tmp_path):
    there, head = written(tmp_path / "r1")
    assert read(tmp_path / "r1") == (there, head)
    assert (tmp_path / "r1").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "r1" / JOURNAL_FILE).stat().st_mode & 0o777 == 0o600
    with Journal.resume(tmp_path / "r1") as journal:
        assert journal.events == there
        journal.append(Cancelled(at="2026-01-01T00:00:03Z", reason="Ctrl-C"))
    assert read(tmp_path / "r1")[0][:-1] == there


def test_cut_anywhere_it_is_a_prefix_and_can_be_written_on(tmp_path):
    there, _ = written(tmp_path / "r1", 2)
    path = tmp_path / "r1" / JOURNAL_FILE
    data = path.read_bytes()
    for cut in range(0, len(data), 7):
        path.write_bytes(data[:cut])
        found = read(tmp_path / "r1")[0]
        assert found == there[: len(found)]
        assert len(found) == data[:cut].count(b"\n")
        with Journal.resume(tmp_path / "r1") as journal:
            journal.append(BEGAN)
        assert read(tmp_path / "r1")[0] == [*found, BEGAN]


@pytest.mark.parametrize("change", ["flipped", "left out", "twice", "swapped", "appended"])
def test_a_changed_journal_is_detected(tmp_path, change):
    written(tmp_path / "r1")
    path = tmp_path / "r1" / JOURNAL_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    if change == "flipped":
        lines[2] = lines[2].replace(b"passed", b"failed")
    elif change == "left out":
        del lines[2]
    elif change == "twice":
        lines.insert(2, lines[2])
    elif change == "swapped":
        lines[2], lines[3] = lines[3], lines[2]
    else:
        lines.append(b'{"prev": "00", "event": "cancelled", "at": "x", "reason": "y"}\n')
    path.write_bytes(b"".join(lines))
    with pytest.raises(FormatError, match=r"journal\.jsonl:[0-9]+: this line does not match"):
        read(tmp_path / "r1")
    with pytest.raises(FormatError):
        Journal.resume(tmp_path / "r1")


@given(st.binary(max_size=400))
def test_no_bytes_are_anything_but_events_or_an_error_of_ours(data):
    from pathlib import Path

    try:
        found, _, whole = parse(data, Path("journal"))
    except FormatError:
        return
    assert not found
    assert not whole


def test_one_writes_at_a_time_also_across_processes(tmp_path):
    folder = tmp_path / "r1"
    with Journal.create(folder):
        with pytest.raises(Refused, match="in progress in another process"):
            Journal.resume(folder)
        assert is_written(folder)
        code = f"from pathlib import Path; from drtool.plans.journal.file import Journal; Journal.resume(Path({str(folder)!r}))"
        assert b"Refused" in subprocess.run([sys.executable, "-c", code], capture_output=True).stderr
    assert not is_written(folder)
    with pytest.raises(FileExistsError):
        Journal.create(folder)


def test_a_disk_that_is_full_leaves_whole_lines(tmp_path, monkeypatch):
    plain, written_bytes = os.write, []

    def fills_up(descriptor, data):
        if written_bytes:
            raise OSError(28, "No space left on device")
        written_bytes.append(plain(descriptor, data[:10]))
        return 10

    with Journal.create(tmp_path / "r1") as journal:
        journal.append(BEGAN)
        monkeypatch.setattr(os, "write", fills_up)
        with pytest.raises(OSError, match="No space"):
            journal.append(Cancelled(at="2026-11-23T14:05:00Z", reason="y"))
        monkeypatch.undo()
        assert journal.events == [BEGAN]
        journal.append(Cancelled(at="2026-11-23T14:05:00Z", reason="z"))
    assert [type(event).__name__ for event in read(tmp_path / "r1")[0]] == ["RunBegan", "Cancelled"]


def test_no_run_is_one_sentence(tmp_path):
    with pytest.raises(DrtoolError, match="there is no run r9"):
        read(tmp_path / "r9")


def test_the_lines_before_a_changed_one_are_still_readable(tmp_path):
    there, head = written(tmp_path / "r1", 2)
    assert read_damaged(tmp_path / "r1") == (there, head, "")
    path = tmp_path / "r1" / JOURNAL_FILE
    path.write_bytes(path.read_bytes().replace(b'"key":"s1"', b'"key":"s9"'))
    events_before, _, problem = read_damaged(tmp_path / "r1")
    assert 0 < len(events_before) < len(there)
    assert events_before == there[: len(events_before)]
    assert f"{JOURNAL_FILE}:{len(events_before) + 2}" in problem
    path.write_bytes(b"{}\n")
    assert read_damaged(tmp_path / "r1")[:2] == ([], GENESIS)


def test_names_that_are_not_text_are_recorded(tmp_path):
    with Journal.create(tmp_path / "r1") as journal:
        journal.append(Cancelled(at="2026-11-23T14:05:00Z", reason="caf\udce9 and \u00e9"))
    (event,), _ = read(tmp_path / "r1")
    assert event.reason == "caf\\xe9 and \u00e9"


def test_an_invalid_time_is_reported(tmp_path):
    with Journal.create(tmp_path / "r1") as journal:
        journal.append(Cancelled(at="yesterday", reason="z"))
    with pytest.raises(FormatError, match="'yesterday' is not a time"):
        read(tmp_path / "r1")
