"""The only module that draws: results to stdout, and progress, warnings and failures to stderr.

Invariants
    `--json` puts exactly one document on stdout. `--json-lines` puts events and then that document. Nothing else goes there.
    A pipe gets no control codes. Every cell, summary and message passes `printable`, so none moves a cursor or ends a line.
    No thread draws, because a backup forks while the progress is on the screen.
    If the reader of stdout goes away (`| head`), the rest is dropped silently and the exit code stays the same. If stdout is
    full, an error is shown, and a success becomes a failure.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TextIO

from msgspec import Struct, to_builtins

from drtool.cli.core.layout import arranged, width
from drtool.cli.core.progress import ProgressDisplay
from drtool.cli.core.streams import occupy
from drtool.cli.core.text import as_json, brief, utc
from drtool.cli.core.view import Cell, Line, Style, Table, View
from drtool.errors import ConfigError, DrtoolError, Interrupted
from drtool.escaping import printable
from drtool.events import (
    Emit,
    Event,
    ItemChanged,
    ItemFailed,
    Progress,
    SnapshotStored,
    Stage,
    StepNoted,
    TargetFailed,
    Warned,
)

_SGR: dict[Style, str] = {"good": "32", "bad": "1;31", "warn": "33", "dim": "2", "strong": "1"}
_ITEMS_SHOWN = 20
_PROBLEMS_SHOWN = 4
_LINES_SHOWN = 3
_Items = Literal["collected", "dropped", "printed", "traced"]
_FIRST_LINES = 100


class Form(Struct, frozen=True, kw_only=True):
    """The output form of this run."""

    json: bool = False
    json_lines: bool = False
    quiet: bool = False
    verbose: bool = False
    traces: bool = False
    """Whether to show the protocols' steps."""
    color: bool = True

    @property
    def documents(self) -> bool:
        return self.json or self.json_lines


class Screen:
    """The output of one run."""

    def __init__(self, form: Form, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self.form = form
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr
        self._held: list[Event] = []
        self._stored: list[SnapshotStored] = []
        self._told: set[Event] = set()
        """The warnings that were shown. A fault that concerns ten sources is shown once."""
        self._failed_items = 0
        self._progress: ProgressDisplay | None = None
        self._lines = EventLines(self._write) if form.json_lines else None
        self._document_written = False
        self._items: _Items = "dropped"
        self.changes: list[ItemChanged] = []
        """The items that this command changed, for its document."""
        self.failure = ""
        """The reason why the command failed, in one sentence."""
        self.lost = False
        self._diverted: Emit | None = None
        self._unread = False
        """Whether stdout refused data although its reader is still there."""

    @property
    def draws(self) -> bool:
        """Whether the result goes to a terminal that understands control codes."""
        return _draws(self._stdout)

    @property
    def shows_progress(self) -> bool:
        """Whether progress appears anywhere."""
        form = self.form
        return form.json_lines or not (form.quiet or form.documents or not _draws(self._stderr))

    def emit(self, event: Event) -> None:
        """Take an operation's event and draw it, print it as JSON, or drop it, as the form requires."""
        if self._diverted is not None:
            self._diverted(event)
            return
        if self._lines is not None and not self._document_written:
            self._lines.take(event)
        if isinstance(event, SnapshotStored):
            self._stored.append(event)
        elif isinstance(event, Stage | Progress):
            self._advance(event)
        elif isinstance(event, ItemChanged):
            self._name(event)
        elif self.form.quiet and not isinstance(event, TargetFailed):
            self._held.append(event)
        else:
            self._tell(event)

    @contextmanager
    def diverted(self, take: Emit) -> Iterator[None]:
        """Pass events to `take` while another program part draws on the terminal."""
        self._diverted = take
        try:
            yield
        finally:
            self._diverted = None

    def name_items(self, *, dry_run: bool) -> bool:
        """Handle each `ItemChanged` from now on as the form requires. Return whether they appear anywhere.

        In a dry run, they are the result. In other runs, `--verbose` shows them beside the result.
        """
        if self.form.documents:
            self._items = "collected" if dry_run or self.form.verbose else "dropped"
        elif dry_run and not self.form.quiet:
            self._items = "printed"
        elif self.form.verbose:
            self._items = "traced"
        return self._items != "dropped"

    def show(self, document: object, view: View, *, failed: bool = False) -> None:
        """Show the result, as the document or the text. With `--quiet`, show it only if something is wrong."""
        self.end_progress()
        if self.form.documents:
            self._write(as_json(document))
            self._document_written = True
        elif not self.form.quiet or failed:
            self._draw(view)
        if failed:
            self._release()

    def stream(self, lines: Iterable[Line]) -> None:
        """Print a text result that may be long, line by line."""
        self.end_progress()
        if self.form.quiet:
            return
        for number, each in enumerate(lines):
            if self._unread:
                return
            self._write(self._line(each))
            if number < _FIRST_LINES:  # a person waits for the first lines
                self.flush()

    def fail(self, error: DrtoolError | Interrupted) -> None:
        """Show a failure: the error document, and on stderr a sentence with a hint."""
        self.end_progress()
        self._release()
        self.failure = error.message
        if self.form.documents:
            if not self._document_written:
                document: dict[str, object] = {"kind": error.kind, "message": error.message, "hint": error.hint}
                stored = {"stored": [row.snapshot for row in self._stored]} if self._stored else {}
                self._write(as_json({"error": document, **stored}))
                self._document_written = True
            return
        problems = self._first(error.problems) if isinstance(error, ConfigError) else (error.message,)
        self._say("bad", "drtool: ", *problems)
        for row in self._stored:
            self._say("good", "stored: ", f"snapshot {row.snapshot}{f' of {row.source}' if row.source else ''}")
        if error.hint:
            self._say("dim", "hint: ", error.hint)

    def _first(self, problems: Sequence[str]) -> Sequence[str]:
        """Return as many problems as a person reads at once. A log, or `--verbose`, gets all of them."""
        if len(problems) <= _PROBLEMS_SHOWN or self.form.verbose or not is_terminal(self._stderr):
            return problems
        shown = problems[: _PROBLEMS_SHOWN - 1]
        return (*shown, f"… and {len(problems) - len(shown)} more problems (-v shows all)")

    @property
    def stored(self) -> tuple[str, ...]:
        """Return the ids of the snapshots that this command stored."""
        return tuple(row.snapshot for row in self._stored)

    def complain(self, text: str) -> None:
        """Show a warning that comes after the result, in any form of output."""
        self.end_progress()
        self._say("warn", "warning: ", text)

    def say(self, text: str) -> None:
        """Print a text of drtool's own on stderr, beside the result."""
        self.end_progress()
        if not self.form.quiet:
            self._say("", "", *text.split("\n"))

    def text(self, text: str) -> None:
        """Print a prepared text on stdout: help or a version."""
        self._write(text)

    def trace(self, text: str) -> None:
        """Print a line that only `--verbose` shows."""
        if self.form.verbose:
            self._clear()
            self._say("dim", "", text)

    def trace_lines(self, text: str) -> None:
        """Print several such lines, for example a traceback."""
        for each in text.split("\n"):
            self.trace(each)

    def end_progress(self) -> None:
        if self._progress is not None:
            self._progress.close()
            self._progress = None
        if self._lines is not None and not self._document_written:
            self._lines.end()

    def finish(self) -> None:
        """Write everything out. A reader that has gone is not a failure."""
        self.end_progress()
        if self._failed_items > _ITEMS_SHOWN and not self.form.documents:
            self._say("warn", "", f"… and {self._failed_items - _ITEMS_SHOWN} more (--json lists every one)")
        self.flush()

    def _advance(self, event: Stage | Progress) -> None:
        if self.form.quiet or self.form.documents or not _draws(self._stderr):
            return
        if self._progress is None:
            self._progress = ProgressDisplay(self._stderr, color=self.form.color)
        self._progress.update(event)

    def _clear(self) -> None:
        """Remove the progress from the screen, so that a line can be written in its place."""
        if self._progress is not None:
            self._progress.clear()

    def _release(self) -> None:
        held, self._held = self._held, []
        for event in held:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        if isinstance(event, Warned | TargetFailed):
            if event in self._told and not self.form.verbose:
                return
            self._told.add(event)
        self._clear()
        if isinstance(event, Warned):
            self._say("warn", "warning: ", self._short(event.message))
        elif isinstance(event, TargetFailed):
            self._say(
                "warn",
                "warning: ",
                f"target {event.target}: {self._short(event.reason)}; "
                "once it can be used, `repair` copies the missing objects to it",
            )
        elif isinstance(event, StepNoted):
            if is_terminal(self._stderr):
                detail = brief(event.detail) if event.status in ("passed", "tolerated") else event.detail
                self._say("dim", f"{event.step}: ", event.status + (f" ({detail})" if detail else ""))
        elif isinstance(event, ItemFailed):
            self._failed_items += 1
            if self._failed_items <= _ITEMS_SHOWN or self.form.verbose:
                self._say("warn", f"{event.path or 'drtool'}: ", event.message)

    def _short(self, text: str) -> str:
        """Return at most three lines of a terminal, up to the end of a word. A log, or `--verbose`, gets the whole text."""
        columns = None if self.form.verbose else _columns(self._stderr)
        if columns is None or width(text) <= _LINES_SHOWN * columns:
            return text
        more = " … (-v shows all)"
        return text[: _LINES_SHOWN * columns - len(more) - columns // 4].rpartition(" ")[0] + more

    def _name(self, event: ItemChanged) -> None:
        if self._items == "collected":
            self.changes.append(event)
        elif self._items == "printed" and not self._unread:
            self._clear()
            self._write(printable(_words_of(event)))
        elif self._items == "traced":
            self.trace(_words_of(event))

    def _say(self, style: Style, head: str, *texts: str) -> None:
        """Write each text as a line of its own, the first one after `head`."""
        lines = [printable(text) for text in texts]
        lines[0] = self._styled(Cell(head, style), self._stderr) + lines[0]
        try:
            self._stderr.write("\n".join(lines) + "\n")
            self._stderr.flush()
        except OSError:  # a message that cannot be shown must not end the work that it is about
            _abandon(self._stderr)

    def _draw(self, view: View) -> None:
        if view.summary is not None and not is_terminal(self._stdout):
            lines = (view.summary,) if isinstance(view.summary, str) else view.summary
            self._write("\n".join(map(printable, lines)))
            return
        for part in view.parts:
            self._write(self._line(part) if isinstance(part, Line) else self._table(part))

    def _line(self, line: Line) -> str:
        return "".join(self._styled(cell, self._stdout) for cell in line.cells)

    def _table(self, table: Table) -> str:
        lines = arranged(table, _columns(self._stdout))
        return "\n".join("".join(self._styled(cell, self._stdout) for cell in line) for line in lines)

    def _styled(self, cell: Cell, stream: TextIO) -> str:
        text = printable(cell.text)
        code = _SGR.get(cell.style)
        return f"\x1b[{code}m{text}\x1b[0m" if code and text and self.form.color and _draws(stream) else text

    def _write(self, text: str) -> None:
        try:
            self._stdout.write(text + "\n")
            if self.form.json_lines:
                self._stdout.flush()
        except OSError as error:
            self._give_up(error)

    def flush(self) -> None:
        """Write out what is buffered. A reader that has gone is not a failure. A full disk sets `lost`."""
        try:
            self._stdout.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Stop writing: the reader has gone, which is not a failure, or the result cannot be stored, which is one."""
        _abandon(self._stdout)
        self._unread = True
        if not isinstance(error, BrokenPipeError) and not self.lost:
            self.lost = True
            self.failure = self.failure or f"the result cannot be written to stdout: {error.strerror}"
            self._say("bad", "drtool: ", f"the result cannot be written to stdout: {error.strerror}")


def _words_of(event: ItemChanged) -> str:
    sign = "-" if event.change == "removed" else "+"
    return " ".join((f"{event.change:8}", event.path, *(f"{sign}{part}" for part in event.what)))


def _abandon(stream: TextIO) -> None:
    """Send buffered and later output to /dev/null, as Python's documentation advises."""
    occupy(stream.fileno())


def is_terminal(stream: TextIO) -> bool:
    return stream.isatty()


def _draws(stream: TextIO) -> bool:
    """Return whether `stream` is a terminal that understands control codes."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def _columns(stream: TextIO) -> int | None:
    """Return the width of a terminal, or None if `stream` is none or does not know its width."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


_EVENT_INTERVAL_S = 0.5


class EventLines:
    """`--json-lines`: events as JSON, one object per line, before the final document.

    Every line but the last has `event` and `time`. The last one is the document of `--json` and has no `event`. Progress is
    written at most every half second. A delayed line is written before the next stage and before the end, so its final
    figures are never missing. No other event is delayed or left out.
    """

    def __init__(self, write: Callable[[str], None], now_s: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._now_s = now_s
        self._held: tuple[int, Progress] | None = None
        self._next_s = now_s()

    def take(self, event: Event) -> None:
        """Write `event` now, or delay it until the next one is due."""
        at_ns = time.time_ns()
        if isinstance(event, Progress):
            if self._now_s() < self._next_s:
                self._held = at_ns, event
                return
            self._held = None
            self._next_s = self._now_s() + _EVENT_INTERVAL_S
        elif isinstance(event, Stage):
            self.end()
        self._line(at_ns, event)

    def end(self) -> None:
        """Write the delayed event."""
        held, self._held = self._held, None
        if held is not None:
            self._line(*held)

    def _line(self, at_ns: int, event: Event) -> None:
        facts = to_builtins(event)
        self._write(as_json({"event": facts.pop("event"), "time": utc(at_ns), **facts}))
