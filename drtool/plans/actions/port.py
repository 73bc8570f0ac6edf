"""What an action is handed, and what it gives back: the seam between running a plan and doing what its steps say.

    class Wait:                                          # drtool/plans/actions/waiting.py
        def foresee(self, asked: Asked, around: Around) -> Foresight: ...
        def act(self, asked: Asked, around: Around, work: Work) -> Outcome: ...

Invariants
    `foresee` changes nothing, anywhere: it is the dry run, and comes before every real run. What it pins is handed to `act`.
    `act` runs in a thread of its own. It never forks with Python code: the verbs of drtool run as programs (`Around.drtool`), in
    process groups that are killed when time is up. It looks at `work.cancelled` at least every second.
    Nothing that is a secret leaves through an outcome: `around.redact` goes over all of it once more.
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

Foreseen: TypeAlias = Literal["ok", "would change", "cannot run", "deferred"]
Result: TypeAlias = Literal["passed", "failed", "unproven", "aborted"]
Cause: TypeAlias = Literal["", "timeout", "error", "refused", "cancelled"]


class Foresight(Struct, frozen=True, kw_only=True):
    """What a step would do, found out without doing it."""

    verdict: Foreseen
    detail: str = ""
    """`cannot run`: why; `would change`: what; `deferred`: which step it needs; `ok`: what was checked."""
    provable: bool = True
    """False: it would run, but what it would do cannot be known beforehand (a program without `check`)."""
    pins: dict[str, Any] = {}
    """What is decided now and handed to `act` as it is: snapshot ids, seeds, victims. Plain JSON values."""
    outputs: dict[str, Any] = {}
    """Of those outputs that are known already, the values."""
    estimate_s: float | None = None
    evidence: dict[str, Any] = {}


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of an attempt. `outputs` are all that the action knows of (see OUTPUTS); plain JSON values."""

    status: Result
    detail: str = ""
    """One sentence; of a failure: what, where, what next."""
    outputs: dict[str, Any] = {}
    evidence: dict[str, Any] = {}
    """For the report: figures, excerpts, rows. Bounded: a few hundred rows."""
    cause: Cause = ""
    human_s: float = 0.0
    leftovers: tuple[str, ...] = ()
    """What could not be undone or removed, each as a person would look for it."""


class ChildResult(Struct, frozen=True, kw_only=True):
    """A program that ended, or was killed with all its children when time was up or the run was cancelled."""

    exit_code: int
    """Negative: killed by that signal."""
    stdout: bytes
    stderr: str
    """Its last 64 KiB, redacted."""
    seconds: float
    ended_by: Literal["itself", "timeout", "cancelled"] = "itself"
    truncated: bool = False
    """Whether stdout was longer than what is kept (16 MiB)."""


class Answer(Struct, frozen=True, kw_only=True):
    yes: bool
    by: str
    channel: str
    waited_s: float


def nothing_is_known(_: "Expression") -> Maybe:
    """Of a step that is asked outside any run."""
    return Unknown(frozenset())


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The step, with its `with` filled in. While resolving, what is not known yet is a placeholder: `missing` says which steps
    it would come from."""

    key: str
    step: "Step"
    action: Any
    """The struct of `language.actions` that belongs to `uses`."""
    missing: frozenset[str] = frozenset()
    pins: Mapping[str, Any] = field(default_factory=dict)
    evaluate: "Callable[[Expression], Maybe]" = nothing_is_known
    """What a bare expression (`that`, `until`) is worth now, as the step sees it. From any thread. Raises ExpressionError."""


@dataclass(frozen=True, kw_only=True)
class Around:
    """The world of one run, the same for all its steps."""

    run: str
    plan: "Plan"
    live: bool
    started: Moment
    """What `now` means in this run."""
    incident: Moment | None
    folder: Path
    """The run's own, private; files that are evidence may be put there."""
    state_dir: Path
    cache_dir: Path
    scratch_roots: Sequence[Path]
    config_path: Path | None
    environ: Mapping[str, str]
    """What child programs inherit; without the repository's password."""
    redact: Callable[[str], str]
    repository: Callable[[], "AbstractContextManager[Repository]"]
    """Opens it read-only: every store raises on a write. For `foresee` alone; raises DrtoolError."""
    drtool: "Drtool"
    program: "Program"
    ask: "Ask"
    can_ask: Callable[[str | None], str]
    """Why nobody could answer an approval through that channel; empty if somebody can."""
    tell: Callable[[str, str, str], str]
    """(channel, event, message) → why it could not be told; empty if it was."""
    can_tell: Callable[[str], str]
    outputs: Callable[[str], Mapping[str, Any]]
    """What a step that ended gave (its own names, not those of `outputs:`); for `approve`'s `show`, compare."""
    evidence: Callable[[str], Mapping[str, Any]]
    host: str = ""
    """This host, as its snapshots call it."""


@dataclass(kw_only=True)
class Work:
    """One attempt of one step."""

    attempt: int
    ends_at: float
    """By `time.monotonic()`: the step's timeout. Whoever waits passes what is left on to what it waits for."""
    cancelled: Event
    released: Event
    """Of a fault: nobody needs it any more."""
    injected: Callable[[dict[str, Any]], None]
    """Of a fault: it is in force; its outputs."""
    scratch: Callable[[int, int], Path]
    """(bytes, files) → a private empty directory that lasts until the run ends, however it ends. DrtoolError: no room."""
    at_end: Callable[[Callable[[], Sequence[str]]], None]
    """Called when the run ends, last first; what it returns are leftovers. For servers that outlive their step."""
    progress: Callable[[str], None]


class Drtool(Protocol):
    """Runs a command of drtool itself, with this run's configuration and password, and `--json`."""

    def __call__(self, words: Sequence[str], work: Work) -> tuple[ChildResult, dict[str, Any]]:
        """Its document (empty if it printed none). The password is handed over by a pipe, never by a word or the environment."""
        ...


class Program(Protocol):
    """Runs any program: a list of words, in a process group of its own."""

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
        """DrtoolError if it cannot be started: named, with what to install."""
        ...


class Ask(Protocol):
    def __call__(self, key: str, prompt: str, shown: Sequence[str], channel: str | None, work: Work) -> Answer | None:
        """A person's answer; None when time was up or the run was cancelled."""
        ...


class Action(Protocol):
    """One module of this package has one of these for each `uses`."""

    def foresee(self, asked: Asked, around: Around) -> Foresight: ...

    def act(self, asked: Asked, around: Around, work: Work) -> Outcome: ...
