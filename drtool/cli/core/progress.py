"""The progress of a long operation on a terminal: its figures, the item in work, slow targets, and the time left as a range.

Invariants
    It is redrawn only by `update`, at most ten times a second. No thread runs, so the process may fork at any time.
    Rich is imported when the first frame is due, not before.
"""

import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from drtool.cli.core.layout import width
from drtool.cli.core.text import count, duration, size
from drtool.escaping import printable
from drtool.events import Progress, Stage

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

INTERVAL_S = 0.1
WINDOW_S = 15.0
FIRST_ETA_S = 2.0
COLUMNS = 80


class Pace:
    """The overall and the recent rate, and the remaining time that follows from them."""

    def __init__(self, started_s: float) -> None:
        self._started_s = started_s
        self._recent: deque[tuple[float, int]] = deque([(started_s, 0)])

    def note(self, now_s: float, done_bytes: int) -> None:
        self._recent.append((now_s, done_bytes))
        while len(self._recent) > 2 and now_s - self._recent[0][0] > WINDOW_S:
            self._recent.popleft()

    def rate(self) -> float:
        """Return the recent rate in bytes per second."""
        (first_s, first_bytes), (last_s, last_bytes) = self._recent[0], self._recent[-1]
        return (last_bytes - first_bytes) / (last_s - first_s) if last_s > first_s else 0.0

    def remaining_s(self, total_bytes: int) -> tuple[float, float] | None:
        """Return the shortest and longest time left by the recent and the overall rate, or None if it is too early."""
        last_s, done = self._recent[-1]
        elapsed_s = last_s - self._started_s
        overall = done / elapsed_s if elapsed_s > 0 else 0.0
        rates = (overall, self.rate())
        if elapsed_s < FIRST_ETA_S or min(rates) <= 0:
            return None
        left = max(0, total_bytes - done)
        return left / max(rates), left / min(rates)


def eta(span_s: tuple[float, float] | None) -> str:
    """Return `2-4 min left`, or one figure if both ends read the same."""
    if span_s is None:
        return ""
    low, high = (duration(round(end) if end >= 10 else end) for end in span_s)
    return f"{low} left" if low == high else f"{low} to {high} left"


class ProgressDisplay:
    """A progress display on one terminal, until it is closed."""

    def __init__(self, stream: TextIO, *, color: bool) -> None:
        self._stream = stream
        self._color = color
        self._live: Live | None = None
        self._stage = ""
        self._facts = Progress()
        self._started_s = self._drawn_s = time.monotonic()
        self._pace = Pace(self._started_s)

    def update(self, event: Stage | Progress) -> None:
        now_s = time.monotonic()
        if isinstance(event, Stage):
            self._stage = event.name
        else:
            self._facts = event
            self._pace.note(now_s, event.processed_bytes)
        if now_s - self._drawn_s >= INTERVAL_S:
            self._drawn_s = now_s
            self._draw(now_s)

    def clear(self) -> None:
        """Clear the display. The next update draws it again."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    close = clear

    def _draw(self, now_s: float) -> None:
        frame = self._frame(now_s)
        if self._live is None:
            self._live = self._begin()
        self._live.update(frame, refresh=True)

    def _begin(self) -> "Live":
        from rich.console import Console
        from rich.live import Live

        console = Console(file=self._stream, no_color=not self._color, highlight=False, markup=False, emoji=False)
        live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
        live.start()
        return live

    def _frame(self, now_s: float) -> "Table":
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        facts = self._facts
        frame = Table.grid(padding=(0, 2))
        heading = Text(printable(self._stage), "bold")
        frame.add_row(heading, Text(self._done()), Text(duration(now_s - self._started_s), "dim"))
        if facts.processed_bytes:
            figures = _figures(self._stage, facts)
            frame.add_row("", Text(figures), Text(f"{size(self._pace.rate())}/s", "dim"))
        if facts.total_bytes:
            bar = ProgressBar(total=facts.total_bytes, completed=facts.processed_bytes, width=40)
            left = eta(self._pace.remaining_s(facts.total_bytes))
            frame.add_row(Text(percent(facts)), bar, Text(left, "dim"))
        whole = Table.grid()
        whole.add_row(frame)
        for text in (in_work(facts), waiting(facts.waiting_s)):
            if text:
                whole.add_row(Text(fitted(printable(text), self._columns()), "dim"))
        return whole

    def _columns(self) -> int:
        return self._live.console.width if self._live is not None else COLUMNS

    def _done(self) -> str:
        """Return how many files or other items are done."""
        facts = self._facts
        if facts.total_files is not None:
            about = "about " if facts.total_is_estimate else ""
            return f"{facts.files:,} of {about}{count(facts.total_files, facts.counted)}"
        return count(facts.files, facts.counted) if facts.files else ""


def in_work(facts: Progress) -> str:
    """Return the source and the item in work, without a path that says the same twice."""
    if not facts.item or facts.item.startswith(facts.source):
        return facts.item or facts.source
    return f"{facts.source}: {facts.item}"


def percent(facts: Progress) -> str:
    """Return the share of the bytes that is done. A share of an estimated total says so."""
    assert facts.total_bytes
    return f"{'~' if facts.total_is_estimate else ''}{100 * facts.processed_bytes // facts.total_bytes} %".rjust(6)


def waiting(waits_s: Mapping[str, float]) -> str:
    """Return in words which targets are slow to answer."""
    rows = (f"{target} ({duration(round(wait_s))})" for target, wait_s in sorted(waits_s.items()))
    return f"waiting for {', '.join(rows)}" if waits_s else ""


def fitted(text: str, columns: int) -> str:
    """Return `text`, shortened in the middle so that it takes at most so many columns. Its end names the file."""
    if width(text) <= columns:
        return text
    head, tail = "", ""
    for letter in text[: columns // 3]:
        if width(head + letter) > columns // 3:
            break
        head += letter
    for letter in reversed(text):
        if width(letter + tail) + width(head) + 1 > columns:
            break
        tail = letter + tail
    return f"{head}…{tail}"


def _figures(stage: str, facts: Progress) -> str:
    """Name the figures: a backup stores new data, a restore writes data that differs, other commands have one figure."""
    done = size(facts.processed_bytes)
    if stage == "storing":
        return f"scanned {done}   new {size(facts.added_bytes)}   stored {size(facts.stored_bytes)}"
    if stage == "restoring":
        return f"in place {done}   written {size(facts.stored_bytes)}"
    return f"{done} of {size(facts.total_bytes)}" if facts.total_bytes else done
