"""`--json-lines`: events as JSON, one object per line, before the final document.

Invariants
    Every line but the last has `event` and `time`. The last one is the document of `--json` and has no `event`.
    Progress is written at most every `INTERVAL_S`. A delayed line is written before the next stage and before the end, so
    its final figures are never missing. No other event is delayed or left out.
"""

import time
from collections.abc import Callable

from msgspec import to_builtins

from drtool.cli.text import as_json, utc
from drtool.events import Event, Progress, Stage

INTERVAL_S = 0.5


class EventLines:
    """The writer of events, one line each."""

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
            self._next_s = self._now_s() + INTERVAL_S
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
