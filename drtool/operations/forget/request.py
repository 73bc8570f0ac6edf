"""The request and the result of `forget`."""

from msgspec import Struct

from drtool.operations.retention import DEFAULT_GROUPING, Rules
from drtool.operations.retention.groups import Grouping
from drtool.operations.selection import Narrowing


class ForgetRequest(Struct, frozen=True, kw_only=True):
    """Either `rules` or `snapshots` by name. Snapshots after `now_ns` are in the future."""

    now_ns: int
    rules: Rules | None = None
    snapshots: tuple[str, ...] = ()
    narrowing: Narrowing = Narrowing()
    by: tuple[Grouping, ...] = DEFAULT_GROUPING
    allow_empty: bool = False
    """Proceed even if a group loses its last snapshot."""
    yes: bool = False
    """Proceed even if there is an alarm."""
    dry_run: bool = False
    go_on_as_if: bool = False
    """After a dry run, leave the view as if it had been a real run, so that the next step can be previewed as well."""


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
    """A snapshot that stays. `as_oldest`: the reasons that hold only because it is its group's oldest."""

    reasons: list[str]
    as_oldest: list[str]
    future: bool


class Objection(Struct, frozen=True, kw_only=True):
    """Why nothing is removed, and what to do next."""

    message: str
    hint: str


class ForgetResult(Struct, frozen=True, kw_only=True):
    """The snapshots that stay and go, group by group, oldest first. By name, only those that go.

    `grace_until_ns`: no other host's prune removes their data before then, or None if nothing is removed.
    `objections`: in a dry run, each would have stopped the real run.
    """

    keep: list[KeptRow]
    remove: list[SnapshotRow]
    policy: str | None
    timezone: str
    grace_until_ns: int | None
    objections: list[Objection]
    dry_run: bool
