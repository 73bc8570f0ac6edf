"""The results of `doctor`: findings, and the measurements of each target. Pure."""

from typing import Literal, TypeAlias

from msgspec import Struct

Level: TypeAlias = Literal["ok", "note", "warning", "error"]


class Finding(Struct, frozen=True, kw_only=True):
    """`what`: a short word for scripts. `where`: a target, a site, or a file with its line. `hint`: the remedy."""

    level: Level
    what: str
    where: str
    message: str
    hint: str | None = None


class TargetReport(Struct, frozen=True, kw_only=True):
    """The measurements of one target. None: it failed, or was not attempted.

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
