"""The `with` of each `uses`, as one frozen struct each.

Invariants
    Words that decide what is changed (levels, kinds, `overwrite`) are written out. Names, texts and numbers may come
    from expressions. While such a value is unknown, a text is a `Placeholder` and a number has its default.
"""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from drtool.plans.language.field_types import (
    Bare,
    Count,
    Filled,
    OptionalBare,
    OptionalDuration,
    OptionalRate,
    OptionalShare,
    OptionalSize,
    OptionalSpan,
    OptionalWhen,
    Positive,
    Words,
)
from drtool.plans.language.probes import Probe
from drtool.plans.language.values import ValueKind

Engine: TypeAlias = Literal["postgresql", "mysql", "sqlite", "redis", "system"]


class SnapshotChoice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The choice of a snapshot. It is pinned to one id (or one per source) before anything runs."""

    id: Filled | None = None
    source: Filled | None = None
    select: Literal["latest", "latest-verified", "at", "random", "point-in-time"] = "latest"
    at: OptionalWhen = None
    within_s: OptionalSpan = field(name="within", default=None)
    host: Filled | None = None
    tags: Words = ()


class RestoreTo(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The destination: scratch, a path, or a DSN. With an engine, the server that the dump is loaded into."""

    scratch: bool = False
    path: Filled | None = None
    dsn: Filled | None = None
    stream: Literal["stdout"] | None = None
    engine: Engine | None = None


class Backup(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: Filled
    tags: Words = ()


class Restore(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    snapshot: SnapshotChoice = SnapshotChoice()
    paths: Words = ()
    exclude: Words = ()
    to: RestoreTo
    verify: Literal["none", "hash"] = "hash"
    overwrite: Literal["never", "if-changed", "always"] | None = None
    """None: refuse to start if the destination already exists."""
    delete: bool = False
    from_sites: Words = ()


class Sample(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    fraction: OptionalShare = None
    count: Positive | None = None
    min_count: Count = 0
    max_bytes: OptionalSize = None


class Tolerance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many of the checked objects may be missing or damaged."""

    missing: Count = 0
    damaged: Count = 0


class Verify(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    level: Literal["structure", "sample", "full", "restore"]
    sample: Sample = Sample()
    tolerance: Tolerance = Tolerance()
    snapshot: SnapshotChoice | None = None
    sites: Words = ()
    objects: Words | None = None
    """None: all objects. An empty list: none."""
    seed: Filled | None = None


class Repair(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    site: Filled | None = None
    objects: Words | None = None
    max_objects: Positive | None = None
    max_bytes: OptionalSize = None


class Rebalance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    max_objects: Positive | None = None
    max_bytes: OptionalSize = None


class RunExpect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    exit_codes: tuple[int, ...] = (0,)
    stdout_contains: str | None = None
    stdout_matches: str | None = None


class Run(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program as a list of words. With `shell`, `argv` is instead a single line for a shell."""

    argv: Words
    shell: bool = False
    env: dict[str, str] = {}
    cwd: Filled | None = None
    stdin: str | None = None
    user: Filled | None = None
    check: Words = ()
    """A program that changes nothing and exits 0 if `argv` would work. The dry run runs it."""
    changes: Literal["nothing", "scratch", "live"] = "live"
    idempotent: bool = False
    expect: RunExpect = RunExpect()


class Compare(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each side is a path, a DSN, `live:PATH`, `recorded:SOURCE` or `snapshot:ID[:PATH]`."""

    left: Filled
    right: Filled
    what: tuple[Literal["tree", "hash", "metadata", "rowcount", "schema", "packages", "units"], ...]
    exclude: Words = ()


class FaultTarget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    site: Filled | None = None
    target: Filled | None = None
    object: Filled | None = None
    """An object's name, or `random:5`, `random:5:index/`."""


class FaultAmount(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    bytes: Positive = 1
    latency_s: OptionalDuration = field(name="latency", default=None)
    rate_bytes_s: OptionalRate = field(name="rate", default=None)


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: Literal["offline", "corrupt", "slow", "full", "read-only"]
    target: FaultTarget
    amount: FaultAmount = FaultAmount()
    duration_s: OptionalSpan = field(name="duration", default=None)
    """Always given. None only while it is unknown."""
    seed: Filled | None = None


class Approve(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    prompt: Filled
    show: Words = ()
    """Ids of steps whose evidence is shown with the question."""
    expected_s: OptionalSpan = field(name="expected", default=None)
    """The expected time until a person answers. It counts as human time."""
    channel: Filled | None = None


class Notify(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    channel: Filled
    message: Filled


class Wait(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Wait for a duration, or until an expression holds, which is evaluated repeatedly."""

    duration_s: OptionalSpan = field(name="duration", default=None)
    until: OptionalBare = None
    every_s: OptionalSpan = field(name="every", default=None)


class Assert(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    that: Annotated[tuple[Bare, ...], Meta(min_length=1)]
    message: Filled | None = None


class NestedPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another plan's file, relative to this plan's directory, with values for its variables as given by `--var`."""

    file: Filled
    vars: dict[str, str] = {}


Action: TypeAlias = (
    Backup
    | Restore
    | Verify
    | Repair
    | Rebalance
    | Run
    | Probe
    | Compare
    | Fault
    | Approve
    | Notify
    | Wait
    | Assert
    | NestedPlan
)

KINDS: dict[str, object] = {
    "backup": Backup,
    "restore": Restore,
    "verify": Verify,
    "repair": Repair,
    "rebalance": Rebalance,
    "run": Run,
    "probe": Probe,
    "compare": Compare,
    "fault": Fault,
    "approve": Approve,
    "notify": Notify,
    "wait": Wait,
    "assert": Assert,
    "plan": NestedPlan,
}
"""From `uses` to the type of `with`."""

RESULTS: dict[str, dict[str, ValueKind]] = {
    "backup": {
        "snapshot_id": "text",
        "time": "timestamp",
        "files": "number",
        "bytes": "size",
        "added_bytes": "size",
        "stored_bytes": "size",
        "degraded": "bool",
    },
    "restore": {
        "snapshot_id": "text",
        "consistent_at": "timestamp",
        "path": "text",
        "dsn": "text",
        "engine": "text",
        "server_version": "text",
        "programs": "text",
        "file_count": "number",
        "not_captured": "number",
        "bytes": "size",
    },
    "verify": {
        "checked": "number",
        "checked_bytes": "size",
        "bad_objects": "list",
        "missing": "number",
        "damaged": "number",
        "upper_bound_bad_fraction": "number",
        "snapshot_id": "text",
    },
    "repair": {"copied": "number", "rebuilt": "number", "removed": "number", "unrepairable": "list"},
    "rebalance": {"copied": "number", "removed": "number", "moved_bytes": "size"},
    "run": {"exit_code": "number", "stdout": "text"},
    "probe": {"value": "any", "status": "number", "seconds": "number", "attempts": "number"},
    "compare": {"equal": "bool", "differences": "number", "paths": "list"},
    "fault": {"objects": "list", "targets": "list", "ends": "timestamp"},
    "approve": {"by": "text", "at": "timestamp"},
    "notify": {},
    "wait": {"seconds": "number"},
    "assert": {},
    "plan": {"run_id": "text", "verdict": "text"},
}
"""The results of each `uses`, by name and kind. `outputs` chooses from these."""
