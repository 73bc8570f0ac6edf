"""The state of a run: the fold of its journal's events. PURE.

Invariants
    The same events give the same state. A resumed run has all the state of the first process.
"""

from collections.abc import Iterable
from typing import Any

from drtool.plans.journal.events import (
    Answered,
    Began,
    Cancelled,
    Ended,
    Event,
    Expanded,
    Injected,
    Pinned,
    Reached,
    RunBegan,
    RunEnded,
    Sampled,
    Status,
)

GOOD = frozenset({"passed", "tolerated", "simulated"})
BAD = frozenset({"failed", "blocked", "aborted"})


class RunState:
    """The mutable state. `apply` takes each event once, in order."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.run: RunBegan | None = None
        self.pinned: dict[str, dict[str, Any]] = {}
        self.order: list[str] = []
        """Keys, in the order of their first beginning."""
        self.running: dict[str, Began] = {}
        self.injected: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, Ended] = {}
        """The final outcome of each key."""
        self.attempts: dict[str, list[Ended]] = {}
        self.retry_at_s: dict[str, float] = {}
        self.items: dict[str, list[Any]] = {}
        self.answers: dict[str, Answered] = {}
        self.cancelled: Cancelled | None = None
        self.reached: dict[str, Reached] = {}
        self.samples: list[Sampled] = []
        self.over: RunEnded | None = None
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        match event:
            case Began(key=key):
                self._begin(event, key)
            case Injected(key=key, outputs=outputs):
                self.injected[key] = outputs
            case Ended():
                self._end(event)
            case Expanded(key=key, items=items):
                self.items[key] = list(items)
            case Answered(key=key):
                self.answers[key] = event
            case Sampled():
                self.samples.append(event)
            case _:
                self._note(event)

    def _note(self, event: Event) -> None:
        """Record an event that concerns the whole run. `Resumed` and `Measured` do not change the state."""
        match event:
            case RunBegan():
                self.run = event
            case Pinned(values=values):
                self.pinned |= values
            case Cancelled():
                self.cancelled = self.cancelled or event
            case Reached(milestone=milestone):
                self.reached.setdefault(milestone, event)
            case RunEnded():
                self.over = event

    def _begin(self, event: Began, key: str) -> None:
        if key not in self.order:
            self.order.append(key)
        self.running[key] = event
        self.retry_at_s.pop(key, None)

    def _end(self, event: Ended) -> None:
        self.running.pop(event.key, None)
        self.attempts.setdefault(event.key, []).append(event)
        if event.retry_at_s is None:
            self.ended[event.key] = event
            self.retry_at_s.pop(event.key, None)
        else:
            self.retry_at_s[event.key] = event.retry_at_s
        if event.cause == "doubt":
            self.injected.pop(event.key, None)  # the process that held it is gone

    def status(self, key: str) -> Status | None:
        """Return the final status of a key, or None while it has none."""
        ended = self.ended.get(key)
        return ended.status if ended else None

    def outputs(self, key: str) -> dict[str, Any] | None:
        """Return the known outputs of a key. Those of a fault are known once it is injected."""
        if key in self.ended:
            return {**self.injected.get(key, {}), **self.ended[key].outputs}
        return self.injected.get(key)

    def attempt(self, key: str) -> int:
        """Return the number of the next attempt."""
        return len(self.attempts.get(key, ())) + 1
