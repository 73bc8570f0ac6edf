"""The events that a long operation reports while it runs: frozen values, passed to one callable.

Operations neither draw nor log. They emit events, `cli` renders the events, and tests collect them.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeAlias

import msgspec


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag=_snake):
    """The base of every event. In `--json-lines` each is one object with its name in `event`, such as `item_failed`."""


class Stage(Event, frozen=True, kw_only=True):
    """The operation entered another stage: `opening`, `scanning`, `storing`, `committing`."""

    name: str


class Progress(Event, frozen=True, kw_only=True):
    """The progress so far. All figures are totals, and `total_*` is None until known."""

    source: str = ""
    """The source that is being backed up: its name, or the paths that were given as arguments."""
    item: str = ""
    """The file, database, table or target in work."""
    counted: Literal["file", "pack", "snapshot", "target"] = "file"
    """The things that `files` and `total_files` count."""
    files: int = 0
    total_files: int | None = None
    processed_bytes: int = 0
    total_bytes: int | None = None
    added_bytes: int = 0
    stored_bytes: int = 0
    """The bytes written so far: of a backup, all copies at all targets."""
    total_is_estimate: bool = False
    """Whether the totals are those of the previous snapshot."""
    waiting_s: Mapping[str, float] = {}
    """Targets that are slow to answer, and the seconds since each last answered."""


class ItemFailed(Event, frozen=True, kw_only=True):
    """One file or object could not be handled. The rest continues."""

    path: str
    message: str


class ItemChanged(Event, frozen=True, kw_only=True):
    """One item changed, or would change in a dry run. `change` is `new`, `changed`, `removed`, ….

    `what` names the parts of a changed item that differ: `content`, `owner`, `mode`, ….
    """

    path: str
    change: str
    what: tuple[str, ...] = ()

    @classmethod
    def of(cls, path: bytes, change: str, what: Iterable[str] = ()) -> "ItemChanged":
        """Return the event for a path of a file system."""
        return cls(path=os.fsdecode(path), change=change, what=tuple(what))


class TargetFailed(Event, frozen=True, kw_only=True):
    """A target refused or failed. The missing objects are owed to it."""

    target: str
    reason: str


class SnapshotStored(Event, frozen=True, kw_only=True):
    """A snapshot is in the catalogue. It can be restored, whatever happens to the rest of the run."""

    snapshot: str
    source: str


class Warned(Event, frozen=True, kw_only=True):
    """A warning for people, in one sentence."""

    message: str


class StepNoted(Event, frozen=True, kw_only=True):
    """A step of a plan began (`status` is `began`), is in force (`injected`) or ended."""

    step: str
    status: str
    detail: str = ""


Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Ignore an event, for callers that do not watch."""


LineEvent: TypeAlias = Stage | Progress | ItemFailed | ItemChanged | TargetFailed | SnapshotStored | Warned | StepNoted


def schema() -> dict[str, object]:
    """Return the JSON Schema of the events of `--json-lines`. Each line also has the `time` at which it was emitted."""
    document = msgspec.json.schema(LineEvent)
    for event in document["$defs"].values():
        event["properties"]["time"] = {"type": "string", "format": "date-time"}
        event["required"] = ["event", "time", *(name for name in event["properties"] if name not in ("event", "time"))]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Events of drtool --json-lines",
        **document,
    }
