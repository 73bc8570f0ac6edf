"""A plan as frozen values: what the file says, defaults filled in, quantities in their units.

Invariants
    Every key of the language is a field here, and the schema for editors is made of these structs.
    A `Plan` is complete: files that it includes are merged, every timeout is finite, every reference exists.
"""

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct, field

from drtool.config.document import read_as
from drtool.plans.language.actions import Action
from drtool.plans.language.parts import (
    Bare,
    Count,
    CronField,
    Duration,
    Filled,
    ForEach,
    Id,
    NeedField,
    OptionalBare,
    OptionalDuration,
    OptionalShare,
    OptionalSize,
    OptionalSpan,
    Positive,
    Share,
    Span,
    VarName,
    WindowText,
    Words,
    Zone,
)

DEFAULT_TIMEOUT_S = 3600.0
OnFailure: TypeAlias = Literal["fail", "continue", "tolerate"]
Scope: TypeAlias = Literal["scratch", "live"]
VarType: TypeAlias = Literal["string", "int", "bool", "duration", "size", "path", "list", "timestamp"]
EventName: TypeAlias = Literal["start", "approval", "pass", "fail", "cleanup", "objective", "missed", "end"]
Verdict: TypeAlias = Literal["passed", "failed", "unproven", "skipped", "tolerated", "blocked", "aborted", "simulated"]
"""Of a step; `unproven` is never `passed`."""


class Var(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that a run is given; `default`, `enum` are as in the file, and checked against `type`."""

    type: VarType
    default: Any = None
    enum: tuple[Any, ...] = ()
    pattern: Filled | None = None
    required: bool = False
    description: str = ""


class SecretRef(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a secret is: exactly one of these."""

    env: Filled | None = None
    file: Filled | None = None
    command: Words = ()
    systemd_credential: Filled | None = field(name="systemd-credential", default=None)


class SiteNeed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a site must be, before anything runs."""

    state: Literal["online", "degraded", "offline", "any"] = "online"
    min_free_bytes: OptionalSize = field(name="min_free", default=None)
    immutable: bool = False


class Objectives(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rto_s: OptionalDuration = field(name="rto", default=None)
    rpo_s: OptionalDuration = field(name="rpo", default=None)
    wrt_s: OptionalDuration = field(name="wrt", default=None)
    mtpd_s: OptionalDuration = field(name="mtpd", default=None)
    detection_s: OptionalDuration = field(name="detection", default=None)
    confidence: OptionalShare = None
    clock: Literal["run", "incident"] = "run"
    """From when RTO counts: the run's start, or `--incident-at`."""


class Guards(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    max_duration_s: OptionalSpan = field(name="max_duration", default=None)
    """Of the run, and of each fault."""
    kill_switch: Filled | None = None
    """A file that ends the run by existing."""
    only_sites: Words | None = None
    never_sites: Words = ()
    max_sites_affected: Count | None = None
    min_healthy_copies: Count = 1
    max_objects: Count | None = None
    max_bytes: OptionalSize = None
    windows: tuple[WindowText, ...] = ()
    abort_if: tuple[Bare, ...] = ()
    quorum_may_be_lost: bool = False


class Retry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    attempts: Annotated[int, Meta(ge=1, le=100)] = 1
    """The first one included."""
    backoff_s: Duration = field(name="backoff", default=1.0)
    factor: Annotated[float, Meta(ge=1, le=100)] = 2.0
    max_s: Span = field(name="max", default=300.0)
    jitter: Share = 0.0
    only: tuple[Literal["timeout", "error", "failed", "unproven"], ...] = ("timeout", "error")


class Defaults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    timeout_s: Span = field(name="timeout", default=DEFAULT_TIMEOUT_S)
    on_failure: OnFailure = "fail"
    retry: Retry = Retry()


class Concurrency(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    group: Filled | None = None
    """A second run of the same group ends with 75. May hold expressions over `vars`."""
    max_parallel: Annotated[int, Meta(ge=1, le=64)] = 4


class Schedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    cron: CronField
    timezone: Zone = "UTC"
    jitter_s: Duration = field(name="jitter", default=0.0)
    must_pass_every_s: OptionalSpan = field(name="must_pass_every", default=None)


class Report(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    formats: tuple[Literal["html", "junit", "json"], ...] = ("html", "json")
    keep_s: OptionalSpan = field(name="keep", default=None)


class Notification(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    events: Annotated[tuple[EventName, ...], Meta(min_length=1)]
    channel: Filled


class Include(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another file, relative to this one, not outside the plan's directory; `sha256` pins what it must be."""

    file: Filled
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None


def _list(value: object) -> object:
    """One mapping alone needs no brackets."""
    return [value] if isinstance(value, dict) else value


def _mapping(key: str) -> Meta:
    """A word alone stands for `{key: word}`."""
    return read_as(lambda value: {key: value} if isinstance(value, str) else value)


class StepFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a step says besides its action."""

    id: Id
    uses: str
    name: str = ""
    needs: tuple[NeedField, ...] = ()
    condition: OptionalBare = field(name="if", default=None)
    foreach: ForEach = None
    """A list, or an expression that gives one; the step sees each as `item`."""
    max_parallel: Positive = 1
    """Of `foreach`'s items."""
    reason: Filled | None = None
    optional: bool = False
    """Where it cannot run, that is listed as not proven, and the run goes on."""
    on_resume: Literal["retry", "confirm", "ask", "skip"] | None = None
    """None: as the action's nature has it."""
    outputs: dict[str, str] = {}
    """Name here → name among the action's results."""
    milestone: Literal["detected", "recovered", "validated"] | None = None
    estimate_s: OptionalDuration = field(name="estimate", default=None)


class StepForm(StepFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step as it stands in a file; `with_` is read by what it uses."""

    with_: dict[str, Any] = field(name="with", default={})
    timeout_s: OptionalSpan = field(name="timeout", default=None)
    retry: Retry | None = None
    on_failure: OnFailure | None = None
    compensate: Annotated[tuple["StepForm", ...], read_as(_list)] = ()
    confirm: "StepForm | None" = None


class Place(Struct, frozen=True):
    """Where something stands."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Step(StepFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step, ready to be planned with. `action` is what is known before the run: `filling.fill` gives the rest."""

    action: Action
    inputs: dict[str, Any]
    """`with` as it was written, expressions and all."""
    timeout_s: float
    retry: Retry
    on_failure: OnFailure
    compensate: tuple["Step", ...] = ()
    """Undo; armed before the step starts, run in reverse."""
    confirm: "Step | None" = None
    """For `on_resume: confirm`: passes if the step had done its work."""
    place: Place


class SteadyFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    title: str = ""
    when: tuple[Literal["before", "during", "after"], ...] = ("before", "during", "after")
    every_s: Span = field(name="every", default=30.0)
    allow_failing: Share = 0.0
    """The share of answers that may be bad while it is looked at."""


class SteadyStateForm(SteadyFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    probes: Annotated[tuple[StepForm, ...], Meta(min_length=1)]


class SteadyState(SteadyFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must hold before, while and after; its probes change nothing."""

    probes: tuple[Step, ...]


class PlanFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a plan says besides its steps."""

    version: Literal[1]
    id: Id
    title: Filled
    description: str = ""
    owner: str = ""
    tags: Words = ()
    exercise: Literal["checklist", "tabletop", "component", "parallel", "full"] = "component"
    scope: Scope = "scratch"
    objectives: Objectives = Objectives()
    vars: dict[VarName, Var] = {}
    secrets: dict[VarName, SecretRef] = {}
    sites: dict[str, Annotated[SiteNeed, _mapping("state")]] = {}
    guards: Guards = Guards()
    defaults: Defaults = Defaults()
    concurrency: Concurrency = Concurrency()
    schedule: Schedule | None = None
    report: Report = Report()
    notify: tuple[Notification, ...] = ()


def kept_off_sites(plan: PlanFields) -> frozenset[str]:
    """Those that a plan does without: `never_sites`, and what it expects to be offline."""
    offline = (site for site, need in plan.sites.items() if need.state == "offline")
    return frozenset((*plan.guards.never_sites, *offline))


class PlanForm(PlanFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan as its file has it."""

    include: tuple[Annotated[Include, _mapping("file")], ...] = ()
    preconditions: tuple[StepForm, ...] = ()
    steady_state: SteadyStateForm | None = None
    steps: tuple[StepForm, ...] = ()
    always: tuple[StepForm, ...] = ()


class FragmentForm(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that others include: parts of a plan, no plan by itself."""

    version: Literal[1]
    title: str = ""
    description: str = ""
    vars: dict[VarName, Var] = {}
    secrets: dict[VarName, SecretRef] = {}
    sites: dict[str, Annotated[SiteNeed, _mapping("state")]] = {}
    include: tuple[Annotated[Include, _mapping("file")], ...] = ()
    preconditions: tuple[StepForm, ...] = ()
    steps: tuple[StepForm, ...] = ()
    always: tuple[StepForm, ...] = ()
    notify: tuple[Notification, ...] = ()


class Digest(Struct, frozen=True, kw_only=True):
    """A file that the plan was read from: its path relative to the plan's directory, and the hash of its bytes."""

    file: str
    sha256: str


class Plan(PlanFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    preconditions: tuple[Step, ...] = ()
    steady_state: SteadyState | None = None
    steps: tuple[Step, ...]
    always: tuple[Step, ...] = ()
    var_places: dict[str, Place] = {}
    """Where each variable is declared."""
    files: tuple[Digest, ...]
    """The plan's own file first, then what it includes."""

    @property
    def digest(self) -> str:
        """One hash over all the files: which plan it was that ran."""
        from hashlib import sha256

        return sha256("".join(f"{each.sha256} {each.file}\n" for each in self.files).encode()).hexdigest()
