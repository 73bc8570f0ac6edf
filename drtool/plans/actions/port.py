"""The port of actions: the seam between running a plan and performing its steps.

    class Wait:                                          # drtool/plans/actions/waiting.py
        def preview(self, step_context: StepContext, run_context: RunContext) -> Preview: ...
        def act(self, step_context: StepContext, run_context: RunContext, work: Work) -> Outcome: ...

Invariants
    `preview` changes nothing, anywhere: it is the dry run, and precedes every real run. Its pins are passed to `act`.
    `act` runs in a thread of its own. It never forks with Python code: the commands of drtool run as programs
    (`RunContext.drtool`), in process groups that are killed when the time is up. It checks `work.cancelled` every second.
    No secret leaves through an outcome: `run_context.redact` is applied to all of it once more.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from msgspec import Struct

from drtool.plans.language.values import Maybe, Moment, Unknown

if TYPE_CHECKING:
    from drtool.plans.language.model import Plan, Step
    from drtool.plans.language.syntax import Expression
    from drtool.repository import Repository

PreviewVerdict: TypeAlias = Literal["ok", "would change", "cannot run", "deferred"]
Result: TypeAlias = Literal["passed", "failed", "unproven", "aborted"]
Cause: TypeAlias = Literal["", "timeout", "error", "refused", "cancelled"]


class Preview(Struct, frozen=True, kw_only=True):
    """The preview of a step's effect, obtained without performing it."""

    verdict: PreviewVerdict
    detail: str = ""
    """`cannot run`: the reason; `would change`: the changes; `deferred`: the needed step; `ok`: what was checked."""
    provable: bool = True
    """False: it would run, but its effect cannot be known in advance (a program without `check`)."""
    pins: dict[str, Any] = {}
    """Choices made now and passed to `act` unchanged: snapshot ids, seeds, victims. Plain JSON values."""
    outputs: dict[str, Any] = {}
    """The values of outputs that are already known."""
    estimate_s: float | None = None
    evidence: dict[str, Any] = {}


class Outcome(Struct, frozen=True, kw_only=True):
    """The outcome of an attempt. `outputs` are all outputs of the action (see OUTPUTS), as plain JSON values."""

    status: Result
    detail: str = ""
    """One sentence. For a failure: what, where, what next."""
    outputs: dict[str, Any] = {}
    evidence: dict[str, Any] = {}
    """For the report: figures, excerpts, rows. Bounded to a few hundred rows."""
    cause: Cause = ""
    human_s: float = 0.0
    leftovers: tuple[str, ...] = ()
    """Anything that could not be undone or removed, each with its location."""


class ChildResult(Struct, frozen=True, kw_only=True):
    """The result of a program that ended, or was killed with all its children by a timeout or a cancellation."""

    exit_code: int
    """Negative if it was killed by that signal."""
    stdout: bytes
    stderr: str
    """The last 64 KiB, redacted."""
    seconds: float
    ended_by: Literal["itself", "timeout", "cancelled"] = "itself"
    truncated: bool = False
    """Whether stdout was longer than the part that is kept (16 MiB)."""


class Answer(Struct, frozen=True, kw_only=True):
    yes: bool
    by: str
    channel: str
    waited_s: float


def nothing_is_known(_: "Expression") -> Maybe:
    """Evaluate an expression outside any run: it is unknown."""
    return Unknown(frozenset())


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """A step with its `with` filled in.

    During the dry run, a value that is not known yet is a placeholder, and `missing` holds the steps that will supply it.
    """

    key: str
    step: "Step"
    action: Any
    """The struct of `language.actions` that belongs to `uses`."""
    missing: frozenset[str] = frozenset()
    pins: Mapping[str, Any] = field(default_factory=dict)
    evaluate: "Callable[[Expression], Maybe]" = nothing_is_known
    """Evaluate a bare expression (`that`, `until`) as the step sees it now. Thread-safe. Raises ExpressionError."""


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The environment of one run, shared by all its steps."""

    run: str
    plan: "Plan"
    live: bool
    started: Moment
    """The meaning of `now` in this run."""
    incident: Moment | None
    folder: Path
    """The run's own private folder, which may hold files of evidence."""
    state_dir: Path
    cache_dir: Path
    scratch_roots: Sequence[Path]
    config_path: Path | None
    environ: Mapping[str, str]
    """The environment of child programs, without the repository's password."""
    redact: Callable[[str], str]
    repository: Callable[[], "AbstractContextManager[Repository]"]
    """Open it read-only: every store raises on a write. Only for `preview`. Raises DrtoolError."""
    drtool: "Drtool"
    program: "Program"
    ask: "Ask"
    can_ask: Callable[[str | None], str]
    """Return why no person can answer an approval through that channel, or an empty string."""
    tell: Callable[[str, str, str], str]
    """(channel, event, message) to the reason why it was not sent, or an empty string."""
    can_tell: Callable[[str], str]
    outputs: Callable[[str], Mapping[str, Any]]
    """The outputs of an ended step, under the action's own names. Used by `show` of `approve`, and by compare."""
    evidence: Callable[[str], Mapping[str, Any]]
    host: str = ""
    """The name of this host in its snapshots."""


@dataclass(kw_only=True)
class Work:
    """One attempt of one step."""

    attempt: int
    ends_at: float
    """The step's deadline, by `time.monotonic()`. Pass the remaining time on to anything that is waited for."""
    cancelled: Event
    released: Event
    """For a fault: its dependents have ended."""
    injected: Callable[[dict[str, Any]], None]
    """For a fault: report that it is active, with its outputs."""
    scratch: Callable[[int, int], Path]
    """(bytes, files) to a private empty directory that lasts until the end of the run. Raises DrtoolError without room."""
    at_end: Callable[[Callable[[], Sequence[str]]], None]
    """Register a call for the end of the run, in reverse order. It returns leftovers. For servers that outlive their step."""
    progress: Callable[[str], None]


class Drtool(Protocol):
    """Runs a command of drtool with this run's configuration and password, and `--json`."""

    def __call__(self, words: Sequence[str], work: Work) -> tuple[ChildResult, dict[str, Any]]:
        """Return its document, or an empty one if it printed none. The password is passed through a pipe, never in arguments."""
        ...


class Program(Protocol):
    """Runs any program, given as a list of words, in a process group of its own."""

    def __call__(
        self,
        argv: Sequence[str],
        *,
        ends_at: float,
        cancelled: Event | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: bytes | None = None,
        user: str | None = None,
    ) -> ChildResult:
        """Run a program. Raises DrtoolError if it cannot be started, with its name and what to install."""
        ...


class Ask(Protocol):
    def __call__(self, key: str, prompt: str, shown: Sequence[str], channel: str | None, work: Work) -> Answer | None:
        """Return a person's answer, or None if the time ran out or the run was cancelled."""
        ...


class Action(Protocol):
    """The interface of an action. Each module of this package implements it for one `uses`."""

    def preview(self, step_context: StepContext, run_context: RunContext) -> Preview: ...

    def act(self, step_context: StepContext, run_context: RunContext, work: Work) -> Outcome: ...
