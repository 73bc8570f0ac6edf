"""A plan as frozen values: the contents of its file, with defaults filled in and quantities in their units.

Invariants
    Every key of the language is a field here, and the schema for editors is generated from these structs.
    A `Plan` is complete: included files are merged, every timeout is finite, and every reference exists.
"""

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct, field

from drtool.config.document import read_as
from drtool.plans.language.actions import Action
from drtool.plans.language.field_types import (
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
"""The verdict of a step. `unproven` is never `passed`."""


class Var(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A variable of a plan. `default` and `enum` are as written in the file, and are checked against `type`."""

    type: VarType
    default: Any = None
    enum: tuple[Any, ...] = ()
    pattern: Filled | None = None
    required: bool = False
    description: str = ""


class SecretRef(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The location of a secret. Exactly one field is set."""

    env: Filled | None = None
    file: Filled | None = None
    command: Words = ()
    systemd_credential: Filled | None = field(name="systemd-credential", default=None)


class SiteNeed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The state that a site must be in before anything runs."""

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
    """The start of the RTO clock: the beginning of the run, or `--incident-at`."""


class Guards(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    max_duration_s: OptionalSpan = field(name="max_duration", default=None)
    """The longest duration of the run, and of each fault."""
    kill_switch: Filled | None = None
    """A file whose existence ends the run."""
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
    """The number of attempts, including the first."""
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
    """A second run in the same group exits with 75. May contain expressions over `vars`."""
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
    """Another file, relative to this one and inside the plan's directory. `sha256` pins its contents."""

    file: Filled
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None


def _list(value: object) -> object:
    """Wrap a single mapping in a list, so that it needs no brackets."""
    return [value] if isinstance(value, dict) else value


def _mapping(key: str) -> Meta:
    """Read a single word as `{key: word}`."""
    return read_as(lambda value: {key: value} if isinstance(value, str) else value)


class StepFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a step other than those of its action."""

    id: Id
    uses: str
    name: str = ""
    needs: tuple[NeedField, ...] = ()
    condition: OptionalBare = field(name="if", default=None)
    foreach: ForEach = None
    """A list, or an expression that evaluates to one. The step sees each element as `item`."""
    max_parallel: Positive = 1
    """How many items of `foreach` run at the same time."""
    reason: Filled | None = None
    optional: bool = False
    """If the step cannot run, it is listed as not proven, and the run continues."""
    on_resume: Literal["retry", "confirm", "ask", "skip"] | None = None
    """None: the default of the action."""
    outputs: dict[str, str] = {}
    """Output name to the name of one of the action's results."""
    milestone: Literal["detected", "recovered", "validated"] | None = None
    estimate_s: OptionalDuration = field(name="estimate", default=None)


class StepForm(StepFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step as written in a file. The type of `with_` depends on `uses`."""

    with_: dict[str, Any] = field(name="with", default={})
    timeout_s: OptionalSpan = field(name="timeout", default=None)
    retry: Retry | None = None
    on_failure: OnFailure | None = None
    compensate: Annotated[tuple["StepForm", ...], read_as(_list)] = ()
    confirm: "StepForm | None" = None


class Place(Struct, frozen=True):
    """A position in a file."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Step(StepFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A complete step. `action` holds the values known before the run; `filling.fill` supplies the rest."""

    action: Action
    inputs: dict[str, Any]
    """`with` as written, including expressions."""
    timeout_s: float
    retry: Retry
    on_failure: OnFailure
    compensate: tuple["Step", ...] = ()
    """Undo steps. They are armed before the step starts, and run in reverse order."""
    confirm: "Step | None" = None
    """The check of `on_resume: confirm`. It passes if the step had finished its work."""
    place: Place


class SteadyFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    title: str = ""
    when: tuple[Literal["before", "during", "after"], ...] = ("before", "during", "after")
    every_s: Span = field(name="every", default=30.0)
    allow_failing: Share = 0.0
    """The share of samples that may fail while steps run."""


class SteadyStateForm(SteadyFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    probes: Annotated[tuple[StepForm, ...], Meta(min_length=1)]


class SteadyState(SteadyFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The conditions that must hold before, during and after the steps. Its probes change nothing."""

    probes: tuple[Step, ...]


class PlanFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a plan other than its steps."""

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
    """Return the sites that the plan does not use: `never_sites`, and those it expects to be offline."""
    offline = (site for site, need in plan.sites.items() if need.state == "offline")
    return frozenset((*plan.guards.never_sites, *offline))


class PlanForm(PlanFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan as written in its file."""

    include: tuple[Annotated[Include, _mapping("file")], ...] = ()
    preconditions: tuple[StepForm, ...] = ()
    steady_state: SteadyStateForm | None = None
    steps: tuple[StepForm, ...] = ()
    always: tuple[StepForm, ...] = ()


class FragmentForm(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file for inclusion: parts of a plan, but not a complete plan."""

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
    """A file of the plan: its path relative to the plan's directory, and the hash of its bytes."""

    file: str
    sha256: str


class Plan(PlanFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    preconditions: tuple[Step, ...] = ()
    steady_state: SteadyState | None = None
    steps: tuple[Step, ...]
    always: tuple[Step, ...] = ()
    var_places: dict[str, Place] = {}
    """The place where each variable is declared."""
    files: tuple[Digest, ...]
    """The plan's own file first, then the included files."""

    @property
    def digest(self) -> str:
        """One hash over all files, which identifies the version of the plan that ran."""
        from hashlib import sha256

        return sha256("".join(f"{each.sha256} {each.file}\n" for each in self.files).encode()).hexdigest()
