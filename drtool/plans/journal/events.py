"""The events of a journal: one frozen struct for each kind of line.

A *key* names a piece of work: `fetch`, `fetch[2]` (an item of `foreach`), `undo:fetch` (a second undo: `undo:fetch.2`),
`confirm:fetch`. Secrets are redacted from outputs and details before they get here.

Invariants
    An intent (`Began`) is durable before the work begins, and an outcome (`Ended`) before anything follows from it.
    New fields are added only at the end, with a default. An unknown event is refused, because its meaning is unknown.
"""

from typing import Any, Literal, TypeAlias

from msgspec import Struct

Status: TypeAlias = Literal["passed", "failed", "unproven", "skipped", "tolerated", "blocked", "aborted", "simulated"]
Phase: TypeAlias = Literal["preconditions", "steps", "undo", "always"]
Verdict: TypeAlias = Literal["passed", "failed", "unproven", "aborted", "missed", "leftovers", "simulated"]


class Line(Struct, frozen=True, kw_only=True, tag_field="event"):
    at: str
    """RFC 3339, by the wall clock, for readers."""
    elapsed_s: float = 0.0
    """Seconds since the run began, including system sleep. A resumed run counts the gap by the wall clock."""


class RunBegan(Line, frozen=True, kw_only=True, tag="run-began"):
    run: str
    plan: str
    digest: str
    """SHA-256 of the plan's file and its includes, in their order."""
    host: str
    user: str
    version: str
    scope: str
    live: bool = False
    dry_run: bool = False
    incident_at: str | None = None
    variables: dict[str, Any] = {}
    sources: dict[str, str] = {}
    """The digest of each file."""
    title: str = ""
    exercise: str = ""
    started: str = ""
    """The meaning of `now` in this run, to the nanosecond."""
    config: str = ""
    """The configuration of the repository in which the run is recorded."""
    must_pass_every_s: float | None = None


class Pinned(Line, frozen=True, kw_only=True, tag="pinned"):
    """Choices resolved once, at the start: snapshot ids, times, seeds. By step key."""

    values: dict[str, dict[str, Any]]


class Resumed(Line, frozen=True, kw_only=True, tag="resumed"):
    host: str
    user: str


class Began(Line, frozen=True, kw_only=True, tag="began"):
    key: str
    uses: str
    attempt: int = 1
    inputs: dict[str, Any] = {}


class Expanded(Line, frozen=True, kw_only=True, tag="expanded"):
    """The items of a `foreach`, resolved once."""

    key: str
    items: tuple[Any, ...]


class Injected(Line, frozen=True, kw_only=True, tag="injected"):
    """A fault is active: its outputs are known, and its dependents may begin."""

    key: str
    outputs: dict[str, Any] = {}


class Ended(Line, frozen=True, kw_only=True, tag="ended"):
    key: str
    status: Status
    attempt: int = 1
    seconds: float = 0.0
    human_s: float = 0.0
    """How much of `seconds` was spent waiting for a person."""
    outputs: dict[str, Any] = {}
    detail: str = ""
    evidence: dict[str, Any] = {}
    retry_at_s: float | None = None
    """Set if the attempt failed and will be retried at this elapsed time."""
    leftovers: tuple[str, ...] = ()
    cause: Literal["", "timeout", "error", "refused", "cancelled", "doubt"] = ""


class Sampled(Line, frozen=True, kw_only=True, tag="sampled"):
    """A probe of the steady state."""

    probe: str
    when: Literal["before", "during", "after"]
    passed: bool
    detail: str = ""


class Answered(Line, frozen=True, kw_only=True, tag="answered"):
    """A person's answer to an approval."""

    key: str
    yes: bool
    by: str
    channel: str = "terminal"


class Reached(Line, frozen=True, kw_only=True, tag="reached"):
    milestone: Literal["detected", "recovered", "validated"]
    key: str


class Cancelled(Line, frozen=True, kw_only=True, tag="cancelled"):
    reason: str
    cause: Literal["interrupt", "terminate", "timeout", "abort_if", "window", "kill-switch", "steady-state"] = (
        "interrupt"
    )


class Measured(Line, frozen=True, kw_only=True, tag="measured"):
    """The objectives of the run, in seconds. None: not measured."""

    values: dict[str, dict[str, Any]]


class RunEnded(Line, frozen=True, kw_only=True, tag="run-ended"):
    verdict: Verdict
    exit_code: int
    leftovers: tuple[str, ...] = ()
    reason: str = ""
    unproven: tuple[str, ...] = ()


Event: TypeAlias = (
    RunBegan
    | Pinned
    | Resumed
    | Expanded
    | Began
    | Injected
    | Ended
    | Sampled
    | Answered
    | Reached
    | Cancelled
    | Measured
    | RunEnded
)
