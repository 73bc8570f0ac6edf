"""`--json-lines`: events as JSON, one object a line, before the document that ends the run.

Invariants
    Every line but the last has `event` and `time`; the last is the very document of `--json`, and has no `event`.
    Progress comes at most every `INTERVAL_S`; what was held back of it comes before the next stage and before the end,
    so that its last figures are never missing. Nothing else is held back or left out.
"""

import time
from collections.abc import Callable

from msgspec import to_builtins

from drtool.cli.text import as_json, utc
from drtool.events import Event, Progress, Stage

INTERVAL_S = 0.5


class EventLines:
    """Writes events with `write`, one line each."""

    def __init__(self, write: Callable[[str], None], now_s: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._now_s = now_s
        self._held: tuple[int, Progress] | None = None
        self._next_s = now_s()

    def take(self, event: Event) -> None:
        """Writes `event`, now or with the next that is due."""
        at_ns = time.time_ns()
        if isinstance(event, Progress):
            if self._now_s() < self._next_s:
                self._held = at_ns, event
                return
            self._held = None
            self._next_s = self._now_s() + INTERVAL_S
        elif isinstance(event, Stage):
            self.end()
        self._line(at_ns, event)

    def end(self) -> None:
        """Writes what was held back."""
        held, self._held = self._held, None
        if held is not None:
            self._line(*held)

    def _line(self, at_ns: int, event: Event) -> None:
        facts = to_builtins(event)
        self._write(as_json({"event": facts.pop("event"), "time": utc(at_ns), **facts}))
