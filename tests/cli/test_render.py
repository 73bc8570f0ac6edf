"""The output of documents, quiet runs, pipes and terminals."""

import io
import json
import os
import pty
import time

import pytest
from rich.cells import cell_len

from drtool.cli.core.progress import Pace, ProgressDisplay, eta
from drtool.cli.core.render import EventLines, Form, Screen
from drtool.cli.core.view import Cell, line, table, view
from drtool.config.units import time_ns_of
from drtool.errors import Interrupted, NoQuorum
from drtool.events import ItemFailed, Progress, SnapshotStored, Stage, TargetFailed, Warned

RESULT = view(line(Cell("found ", "good"), "it"), table("NAME SIZE>", [("a", "1"), ("bbb", "200")]), summary="one line")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(out: io.StringIO | None = None, err: io.StringIO | None = None, **form) -> Screen:
    return Screen(Form(**form), out or io.StringIO(), err or io.StringIO())


def test_a_pipe_gets_the_summary_and_no_control_codes():
    out = io.StringIO()
    screen(out).show({}, RESULT)
    assert out.getvalue() == "one line\n"


def test_a_pipe_gets_a_line_for_each_of_several_results_and_no_control_codes():
    out = io.StringIO()
    screen(out).show({}, view(summary=("snapshot 1", "snapshot \x1b2\nsnapshot 3")))
    assert out.getvalue() == "snapshot 1\nsnapshot \\x1b2\\x0asnapshot 3\n"


def test_a_terminal_gets_everything(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    screen(out).show({}, RESULT)
    assert "\x1b[32mfound \x1b[0mit" in out.getvalue()
    assert out.getvalue().endswith("a        1\nbbb    200\n")


@pytest.mark.parametrize(("term", "form"), [("dumb", {}), ("", {}), ("xterm", {"color": False})])
def test_a_terminal_without_colours_gets_none(monkeypatch, term, form):
    monkeypatch.setenv("TERM", term)
    out = Terminal()
    screen(out, **form).show({}, RESULT)
    assert "\x1b" not in out.getvalue()


def test_quiet_prints_nothing_on_success_and_everything_on_failure():
    for failed in (False, True):
        out, err = io.StringIO(), io.StringIO()
        quiet = screen(out, err, quiet=True)
        quiet.emit(Warned(message="careful"))
        quiet.emit(ItemFailed(path="/a", message="denied"))
        quiet.show({}, RESULT, failed=failed)
        quiet.finish()
        assert bool(out.getvalue()) == failed
        assert ("careful" in err.getvalue() and "/a: denied" in err.getvalue()) == failed


def test_a_target_that_failed_is_named_even_when_quiet():
    err = io.StringIO()
    screen(err=err, quiet=True).emit(TargetFailed(target="paris/nas", reason="disk full"))
    assert "paris/nas: disk full" in err.getvalue()


def test_json_is_one_document():
    out = io.StringIO()
    machine = screen(out, json=True)
    machine.emit(Stage(name="opening"))
    machine.emit(Warned(message="careful"))
    machine.show({"snapshots": ["\udcff"]}, RESULT)
    assert out.getvalue() == '{"snapshots": ["\\udcff"]}\n'


def test_a_failure_is_a_document_too():
    out, err = io.StringIO(), io.StringIO()
    screen(out, err, json=True).fail(NoQuorum("too few", hint="try this"))
    assert json.loads(out.getvalue()) == {"error": {"kind": "no_quorum", "message": "too few", "hint": "try this"}}
    assert err.getvalue() == ""


def test_a_failure_after_the_document_adds_no_second_one():
    out = io.StringIO()
    machine = screen(out, json=True)
    machine.show({"a": 1}, RESULT)
    machine.fail(NoQuorum("late"))
    assert json.loads(out.getvalue()) == {"a": 1}


def test_json_lines_are_events_and_then_the_document():
    out = io.StringIO()
    machine = screen(out, json_lines=True)
    machine.emit(Stage(name="opening"))
    machine.emit(Progress(files=3))
    machine.show({"done": True}, RESULT)
    rows = [json.loads(row) for row in out.getvalue().splitlines()]
    assert [row.get("event") for row in rows] == ["stage", "progress", None]
    assert rows[-1] == {"done": True}


def test_json_lines_hold_progress_to_a_bounded_rate_and_end_with_its_last_figures():
    clock, written = iter(range(1000)), []
    lines = EventLines(lambda text: written.append(json.loads(text)), lambda: next(clock) / 100)
    lines.take(Stage(name="storing"))
    for number in range(300):
        lines.take(Progress(files=number))
        if number == 150:
            lines.take(ItemFailed(path="/\udcff", message="denied"))
    lines.take(Stage(name="committing"))
    lines.end()
    progress = [row["files"] for row in written if row["event"] == "progress"]
    assert 2 <= len(progress) <= 8
    assert progress == sorted(progress)
    assert [row["event"] for row in written[-2:]] == ["progress", "stage"]
    assert progress[-1] == 299
    assert [row["path"] for row in written if row["event"] == "item_failed"] == ["/\udcff"]
    assert all(time_ns_of(row["time"]) for row in written)


def test_json_lines_end_with_the_failure_and_nothing_follows_it():
    out, err = io.StringIO(), io.StringIO()
    machine = screen(out, err, json_lines=True)
    machine.emit(Progress(files=1))
    machine.emit(Progress(files=2))
    machine.emit(TargetFailed(target="paris/nas", reason="disk full"))
    machine.fail(NoQuorum("too few"))
    machine.emit(Warned(message="late"))
    machine.finish()
    rows = [json.loads(row) for row in out.getvalue().splitlines()]
    assert [row.get("event") for row in rows] == ["progress", "target_failed", "progress", None]
    assert rows[-1]["error"]["kind"] == "no_quorum"


def test_many_failed_items_are_counted_and_not_all_shown():
    err = io.StringIO()
    shown = screen(err=err)
    for number in range(50):
        shown.emit(ItemFailed(path=f"/{number}", message="denied"))
    shown.finish()
    assert err.getvalue().count("denied") == 20
    assert "30 more" in err.getvalue()


def test_a_name_cannot_colour_the_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    err = Terminal()
    screen(err=err).emit(ItemFailed(path="/\x1b[2Jx\udcff", message="a\rb"))
    assert "\x1b[2J" not in err.getvalue()
    assert "\\x1b[2Jx\\xff" in err.getvalue()
    assert "\r" not in err.getvalue()


def test_wide_letters_keep_columns_straight():
    out = io.StringIO()
    screen(out).show({}, view(table("NAME SIZE>", [("日本", "1"), ("ab", "22")])))
    assert out.getvalue().splitlines()[1:] == ["日本     1", "ab      22"]


def test_a_reader_that_leaves_is_not_a_failure():
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as out:
        gone = Screen(Form(), out, io.StringIO())
        gone.show({}, view(*(line("x" * 100) for _ in range(5000))))
        gone.finish()


def test_progress_is_drawn_without_a_thread_and_leaves_nothing_behind(monkeypatch):
    import threading

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("drtool.cli.core.progress.INTERVAL_S", 0.0)
    main, side = pty.openpty()
    with open(side, "w", encoding="utf-8") as err:
        shown = Screen(Form(), io.StringIO(), err)
        before = threading.active_count()
        shown.emit(Stage(name="storing"))
        shown.emit(
            Progress(files=3, total_files=10, processed_bytes=2**20, total_bytes=2**21, added_bytes=5, stored_bytes=9)
        )
        assert threading.active_count() == before
        shown.emit(Warned(message="careful"))
        shown.finish()
        drawn = ""
        while "careful\r\n" not in drawn:
            drawn += os.read(main, 65_536).decode()
    os.close(main)
    for words in ("storing", "3 of 10 files", "scanned 1.0 MiB", "new 5 B", "stored 9 B", " 50 %", "careful"):
        assert words in drawn
    assert drawn.rstrip().endswith("careful")


def test_progress_is_drawn_at_most_ten_times_a_second():
    class Counting(ProgressDisplay):
        frames = 0

        def _draw(self, now_s: float) -> None:
            self.frames += 1

    display = Counting(io.StringIO(), color=False)
    before = time.monotonic()
    for files in range(20_000):
        display.update(Progress(files=files))
    assert display.frames <= (time.monotonic() - before) * 10 + 1


def test_the_eta_is_a_range_between_the_two_rates():
    pace = Pace(0.0)
    for second in range(1, 61):
        pace.note(float(second), second * 100 if second <= 40 else 4000 + (second - 40) * 50)
    low, high = pace.remaining_s(10_000)
    assert low == pytest.approx((10_000 - 5000) / (5000 / 60))
    assert high > low
    assert "to" in eta((low, high))
    assert Pace(0.0).remaining_s(10) is None
    assert eta(None) == ""


def test_an_interruption_names_the_snapshots_that_are_stored():
    out, err = io.StringIO(), io.StringIO()
    stopped = screen(out, err)
    stopped.emit(SnapshotStored(snapshot="3f2a" * 8, source="home"))
    stopped.fail(Interrupted(2))
    assert f"stored: snapshot {'3f2a' * 8} of home" in err.getvalue()
    machine = screen(out, json=True)
    machine.emit(SnapshotStored(snapshot="3f2a" * 8, source=""))
    machine.fail(Interrupted(15))
    document = json.loads(out.getvalue())
    assert document["stored"] == ["3f2a" * 8]
    assert document["error"]["kind"] == "interrupted"


def frame_of(stage, event, columns=80):
    from rich.console import Console

    display = ProgressDisplay(io.StringIO(), color=False)
    display.update(Stage(name=stage))
    display.update(event)
    console = Console(file=io.StringIO(), width=columns, color_system=None)
    console.print(display._frame(display._started_s + 3))
    return console.file.getvalue()


def test_a_frame_fits_80_columns_and_names_what_is_in_work_and_who_is_slow():
    event = Progress(
        source="documents",
        item="/home/" + "very-long-directory/" * 8 + "日本/report.pdf",
        files=1_234_567,
        total_files=9_876_543,
        processed_bytes=999 * 2**30,
        total_bytes=5 * 2**40,
        added_bytes=999 * 2**30,
        stored_bytes=1999 * 2**30,
        total_is_estimate=True,
        waiting_s={"nas/main": 12.4, "office/main": 3.0},
    )
    frame = frame_of("storing", event)
    assert max(map(cell_len, frame.splitlines())) <= 80
    words = (
        "of about 9,876,543 files",
        "~19 %",
        "日本/report.pdf",
        "documents: /home/",
        "nas/main (12 s), office/main (3.0 s)",
        "stored 2.0 TiB",
    )
    for word in words:
        assert word in frame, frame


def test_other_commands_have_one_figure():
    frame = frame_of("copying", Progress(processed_bytes=2**20, total_bytes=2**21))
    assert "1.0 MiB of 2.0 MiB" in frame
    assert "stored" not in frame
    assert "1 of 2 packs" in frame_of("reading", Progress(counted="pack", files=1, total_files=2))
