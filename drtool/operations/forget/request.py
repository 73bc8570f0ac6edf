"""What `forget` is asked, and what it answers."""

from msgspec import Struct

from drtool.operations.retention import DEFAULT_GROUPING, Rules
from drtool.operations.retention.groups import Grouping
from drtool.operations.selection import Narrowing


class ForgetRequest(Struct, frozen=True, kw_only=True):
    """Either `rules`, or `snapshots` by name. `now_ns` says what lies in the future."""

    now_ns: int
    rules: Rules | None = None
    snapshots: tuple[str, ...] = ()
    narrowing: Narrowing = Narrowing()
    by: tuple[Grouping, ...] = DEFAULT_GROUPING
    allow_empty: bool = False
    """Also if a group loses its last snapshot."""
    yes: bool = False
    """Also if there is an alarm."""
    dry_run: bool = False
    go_on_as_if: bool = False
    """After a dry run the repository looks as if that had been done, so that what comes next can be previewed as well."""


class SnapshotRow(Struct, frozen=True, kw_only=True):
    """A snapshot that goes."""

    id: str
    time_ns: int
    group: str
    host: str
    source: str
    paths: list[str]
    tags: list[str]


class KeptRow(SnapshotRow, frozen=True, kw_only=True):
    """A snapshot that stays; `as_oldest`: reasons that hold only because it is its group's oldest."""

    reasons: list[str]
    as_oldest: list[str]
    future: bool


class Objection(Struct, frozen=True, kw_only=True):
    """Why nothing is removed, and what to do next."""

    message: str
    hint: str


class ForgetResult(Struct, frozen=True, kw_only=True):
    """What stays and what goes, group by group, oldest first. By name, only what goes.

    `grace_until_ns`: until then no other host's prune takes what the removed snapshots held; None: nothing is removed.
    `objections` are a dry run's: each would have stopped the act.
    """

    keep: list[KeptRow]
    remove: list[SnapshotRow]
    policy: str | None
    timezone: str
    grace_until_ns: int | None
    objections: list[Objection]
    dry_run: bool
