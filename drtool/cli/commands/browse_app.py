"""The screen of `browse`. It is the only part that uses Textual.

Invariants
    Only visible rows are drawn, so a directory of 100,000 names costs no more than one of 20.
    Without colours the selected row has a `>`, and a marked row has a `*`.
    No text is interpreted as markup.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from drtool.cli.commands.browse_pages import Page, Row, Trail
from drtool.cli.commands.browse_reader import Job, Reader
from drtool.cli.core.text import count
from drtool.errors import INTERRUPTS
from drtool.escaping import printable

KEYS = "Enter open  ← back  Space mark  / search  i details  r restore  q quit  ? keys"
HELP = """\
Up, Down, PgUp, PgDn, Home, End   select a row
Enter or Right                    open a snapshot, directory or file
Backspace, Left or Esc            go back
Space                             mark an item, or remove its mark
/                                 search, as find does: *.conf, etc/*.conf
i                                 show details and versions of the item
r                                 restore what is marked, after a preview
c                                 remove all marks
F5                                read this page again
q or Ctrl-C                       quit

Press any key to go back."""
_HEAD_CELLS = 4


class Rows(Widget):
    """The visible part of a page."""

    can_focus = True

    def __init__(self, trail: Trail) -> None:
        super().__init__(id="rows")
        self._trail = trail

    def render_line(self, y: int) -> Strip:
        page = self._trail.page
        number = page.top + y
        width = self.size.width
        if number >= len(page.rows):
            return Strip([Segment(set_cell_size(self._filler(page, y), width), Style())], width)
        row = page.rows[number]
        selected = number == page.cursor
        marked = self._trail.marks.covers(row.snapshot, row.path)
        text = f"{'>' if selected else ' '} {'*' if marked else ' '} {printable(row.text)}"
        style = Style(reverse=selected, bold=marked)
        return Strip([Segment(_cut(text, width), style)], width)

    def move(self, by: int) -> None:
        """Move the cursor, and scroll as far as needed to show it."""
        page = self._trail.page
        page.cursor = max(0, min(len(page.rows) - 1, page.cursor + by))
        page.top = max(page.cursor - self.size.height + 1, min(page.top, page.cursor), 0)
        self.refresh()

    @staticmethod
    def _filler(page: Page, y: int) -> str:
        if y or page.rows or page.problem:
            return ""
        return "    nothing here" if page.complete else "    reading ..."


class Browser(App[Literal["restore"]]):
    """One run of the screen. It ends with `restore` or, to quit, with None."""

    CSS = """
    Screen { layout: vertical; }
    #title, #keys { height: 1; text-style: bold; }
    #rows { height: 1fr; }
    #status, #item { height: 1; }
    #help { display: none; height: 1fr; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)"),
        Binding("down,j", "move(1)"),
        Binding("pageup", "move_page(-1)"),
        Binding("pagedown", "move_page(1)"),
        Binding("home", "move(-1_000_000_000)"),
        Binding("end", "move(1_000_000_000)"),
        Binding("enter,right", "open"),
        Binding("backspace,left,escape", "go_back"),
        Binding("space", "mark"),
        Binding("slash", "search"),
        Binding("i", "details"),
        Binding("r", "restore"),
        Binding("c", "clear"),
        Binding("f5", "reload"),
        Binding("question_mark,f1", "help"),
        Binding("q", "leave"),
        Binding("ctrl+c,ctrl+q", "leave", priority=True),
    ]

    def __init__(self, trail: Trail, reader: Reader) -> None:
        super().__init__(ansi_color=True)  # the colours of the terminal, or none with NO_COLOR
        self._trail = trail
        self._reader = reader
        self._loop: asyncio.AbstractEventLoop | None = None
        self._note = ""
        self._pattern: str | None = None
        """The pattern that the user is typing. Keys are not handed to an input field, because keys that are typed ahead
        would not reach it."""
        self._before: dict[int, Any] = {}
        self.interrupted: int | None = None
        """The signal that ended this run."""

    def compose(self) -> ComposeResult:
        yield Static("", id="title", markup=False)
        yield Rows(self._trail)
        yield Static(HELP, id="help", markup=False)
        yield Static("", id="item", markup=False)
        yield Static("", id="status", markup=False)
        yield Static(KEYS, id="keys", markup=False)

    def on_mount(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._catch_signals(self._loop)
        self._rows.focus()
        self._load()

    def on_unmount(self) -> None:
        for number, handler in self._before.items():
            if self._loop is not None:
                self._loop.remove_signal_handler(number)
            signal.signal(number, handler)

    def _catch_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the screen in order on a signal, because an exception from a handler would be lost in the event loop."""

        def end(number: int) -> None:
            self.interrupted = number
            self.exit()

        try:
            for number in INTERRUPTS:
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN:
                    loop.add_signal_handler(number, end, number)
                    self._before[number] = before
        except (RuntimeError, ValueError):  # not in the main thread, where no signal arrives
            return

    @property
    def _rows(self) -> Rows:
        rows: Rows = self.query_one(Rows)
        return rows

    # What the reader delivers

    def _load(self) -> None:
        """Fill the present page, unless it is filled already."""
        page = self._trail.page
        if not page.complete:
            page.rows, page.problem = [], ""
            self._reader.start(Job(lambda fetch: self._trail.rows_of(page, fetch), self._deliver_to(page)))
        else:
            self._reader.cancel()
        self.show()

    def _deliver_to(self, page: Page) -> Callable[[Job, list[Row], str, bool], None]:
        loop = self._loop
        assert loop is not None

        def deliver(job: Job, batch: list[Row], problem: str, done: bool) -> None:
            loop.call_soon_threadsafe(self._take, job, page, batch, problem, done)

        return deliver

    def _take(self, job: Job, page: Page, batch: list[Row], problem: str, done: bool) -> None:
        if self._reader.bug is not None:
            self.exit()
        if job.cancelled.is_set() or page is not self._trail.page:
            return
        page.rows += batch
        page.problem = problem
        page.complete = done and not problem
        self.show()

    def tell(self, text: str) -> None:
        """Show a message in the status line. Any thread may call this."""
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._set_note, text)
            except RuntimeError:  # the screen has ended; the caller keeps the message for afterwards
                return

    def _set_note(self, text: str) -> None:
        self._note = text
        self.show()

    def show(self) -> None:
        """Bring the screen up to date."""
        page, width = self._trail.page, self.size.width
        self._rows.move(0)
        at = f"{page.cursor + 1:,} of " if page.rows else ""
        position = f"{at}{len(page.rows):,}{'' if page.complete or page.problem else ' so far'}"
        self._put("title", f"{_cut(page.title, max(8, width - len(position) - 2))}  {position}")
        path = page.selected.path if page.selected is not None else None
        path = page.path if page.kind == "details" else path or b""
        self._put("item", _tail(printable(os.fsdecode(path)), width))
        text = self._status(page)
        self.query_one("#status", Static).styles.height = min(3, 1 + cell_len(text) // max(1, width))
        self._put("status", text)

    def _status(self, page: Page) -> str:
        marked = len(self._trail.marks.paths)
        if self._pattern is not None:
            text = f"Name or pattern, then Enter: {self._pattern}_"
        elif page.problem:
            text = f"cannot be read: {page.problem}; F5 tries again"
        else:
            text = self._note or (f"{count(marked, 'item')} marked" if marked else "? shows all keys")
        return printable(text)

    def _put(self, name: str, text: str) -> None:
        self.query_one(f"#{name}", Static).update(text)

    # Keys

    def on_key(self, event: events.Key) -> None:
        self._note = ""
        if self.query_one("#help").display:
            self._show_help(shown=False)
        elif self._pattern is not None:
            self._type(event.key, event.character if event.is_printable else None)
        else:
            return
        event.prevent_default()

    def on_paste(self, event: events.Paste) -> None:
        if self._pattern is not None:
            self._pattern += event.text.partition("\n")[0]
            self.show()

    def _type(self, key: str, character: str | None) -> None:
        """Take a key while a pattern is typed."""
        typed = self._pattern or ""
        self._pattern = None
        if key == "enter" and typed:
            self._go(Page(kind="found", snapshot=self._trail.page.snapshot, pattern=typed))
            return
        if key not in ("enter", "escape"):
            self._pattern = typed[:-1] if key == "backspace" else typed + (character or "")
        self.show()

    def on_resize(self) -> None:
        self.show()

    def action_move(self, by: int) -> None:
        self._rows.move(by)
        self.show()

    def action_move_page(self, pages: int) -> None:
        self.action_move(pages * max(1, self._rows.size.height - 1))

    def action_open(self) -> None:
        row, page = self._trail.page.selected, self._trail.page
        if row is None or row.snapshot is None:
            return
        if row.path is None:
            self._go(Page(kind="directory", snapshot=row.snapshot))
        elif row.is_directory:
            self._go(Page(kind="directory", snapshot=row.snapshot, path=row.path))
        elif page.kind == "details":
            self._go(Page(kind="directory", snapshot=row.snapshot, path=row.path.rpartition(b"/")[0] or b"/"))
        else:
            self.action_details()

    def action_details(self) -> None:
        row = self._trail.page.selected
        if row is not None and row.snapshot is not None and row.path is not None:
            self._go(Page(kind="details", snapshot=row.snapshot, path=row.path))

    def action_go_back(self) -> None:
        if len(self._trail.pages) > 1:
            self._trail.pages.pop()
            self._load()
        else:
            self._set_note("q quits")

    def _go(self, page: Page) -> None:
        self._trail.pages.append(page)
        self._load()

    def action_mark(self) -> None:
        row = self._trail.page.selected
        why = self._trail.marks.toggle(row) if row is not None else ""
        if why:
            self._set_note(why)
        else:
            self.action_move(1)

    def action_clear(self) -> None:
        self._trail.marks.clear()
        self.show()

    def action_reload(self) -> None:
        self._trail.page.complete = False
        self._load()

    def action_search(self) -> None:
        self._pattern = ""
        self.show()

    def action_restore(self) -> None:
        if self._trail.marks.paths:
            self.exit("restore")
        else:
            self._set_note("nothing is marked: mark files and directories with Space")

    def action_help(self) -> None:
        self._show_help(shown=True)

    def _show_help(self, *, shown: bool) -> None:
        self.query_one("#help").display = shown
        self._rows.display = not shown
        if not shown:
            self._rows.focus()

    def action_leave(self) -> None:
        self.exit()


def _cut(text: str, width: int) -> str:
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def _tail(text: str, width: int) -> str:
    """Return the end of a path that is too long for the line."""
    if cell_len(text) <= width:
        return text
    kept = text[-(width - 1) :]
    while cell_len(kept) > width - 1:
        kept = kept[1:]
    return "…" + kept
