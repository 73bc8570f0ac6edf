"""What doctor tells: findings, and what was measured of each target. PURE."""

from typing import Literal, TypeAlias

from msgspec import Struct

Level: TypeAlias = Literal["ok", "note", "warning", "error"]


class Finding(Struct, frozen=True, kw_only=True):
    """`what` is a short word that scripts may look for; `where` a target, a site, a file with its line; `hint` what to do."""

    level: Level
    what: str
    where: str
    message: str
    hint: str | None = None


class TargetReport(Struct, frozen=True, kw_only=True):
    """What was measured of one target; None: it could not be, or was not to be tried.

    `clock_skew_seconds`: how far its clock is ahead of this host's. `votes`: whether the catalogue has a voter there.
    """

    name: str
    reachable: bool
    latency_seconds: float | None
    conditional_writes: bool | None
    clock_skew_seconds: float | None
    free_bytes: int | None
    votes: bool | None


class Diagnosis(Struct, frozen=True, kw_only=True):
    """`healthy`: no finding is an error."""

    healthy: bool
    findings: list[Finding]
    targets: list[TargetReport]
