"""The result of `status`, and its two kinds of remarks.

Invariants
    A problem is a promise that is broken, or that the next backup cannot keep, until a person acts. A notice needs no
    action.
    `healthy` means that there is no problem. The exit code follows from the same list: it is 0 exactly if `healthy` is
    true.
"""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from drtool.manifest.mirroring import MirrorStatus
from drtool.model import SiteName, TargetName
from drtool.repository.copying import Amount
from drtool.repository.losses import LossReport


class Remark(Struct, frozen=True):
    """One line of `status`."""

    level: Literal["problem", "notice"]
    text: str


def problem(text: str) -> Remark:
    """Return a broken promise, which makes `status` exit with 7."""
    return Remark("problem", text)


def notice(text: str) -> Remark:
    """Return a fact worth knowing that breaks no promise."""
    return Remark("notice", text)


class TargetStatus(Struct, frozen=True, kw_only=True):
    """`state` as in the manifest: active, draining, lost or arbiter, or unknown if only this host's configuration names
    it.
    """

    name: TargetName
    state: str
    reachable: bool
    reason: str | None = None
    writable: bool | None = None
    """Whether it accepted an object just now. None: not tried."""
    objects: int
    bytes: int
    free_bytes: int | None = None
    last_backup_bytes: int | None = None
    """The bytes that the last backup stored there, by the ring's shares."""
    owed: Amount | None = None
    """The copies that it should have and lacks, and that others have. None: it could not be listed."""


class SiteStatus(Struct, frozen=True, kw_only=True):
    name: SiteName
    reachable: bool
    votes: bool
    voter_problem: str | None = None
    """Why its vote does not count at present."""
    targets: list[TargetStatus]


class SourceStatus(Struct, frozen=True, kw_only=True):
    """`copies`: the smallest number of sites of any pack of the newest snapshot, or None if nothing is stored."""

    name: str
    host: str
    newest_snapshot: str | None
    """None: this host's configuration sets objectives for it, but there is no snapshot."""
    age_seconds: float | None
    rpo_seconds: float | None = None
    met: bool | None = None
    """Whether its objectives are met. None: it has none, or it belongs to another host."""
    missed: list[str] = []
    snapshots: int = 0
    last_verified_ns: int | None = None
    """When the reading of all data of the newest proven snapshot was complete."""
    proven_snapshot: str | None = None
    """The newest snapshot that was read whole after it was taken, or None."""
    proven_age_seconds: float | None = None
    copies: int | None


class QuorumStatus(Struct, frozen=True):
    needed: int
    reachable: int


class StatusResult(Struct, frozen=True, kw_only=True):
    """The result, completed by `judged`, which keeps `healthy` and the lists consistent."""

    healthy: bool = True
    quorum: QuorumStatus
    sites: list[SiteStatus]
    sources: list[SourceStatus]
    lost: LossReport = LossReport()
    problems: list[str] = []
    notices: list[str] = []
    sequence: int
    tentative: bool
    catalogue_copies: list[MirrorStatus] = []
    """Copies of the catalogue at storing targets without a voter's register."""

    def judged(self, remarks: Iterable[Remark]) -> "StatusResult":
        """Return the result with these remarks added."""
        listed = list(remarks)
        problems = [*self.problems, *(row.text for row in listed if row.level == "problem")]
        notices = [*self.notices, *(row.text for row in listed if row.level == "notice")]
        return replace(self, healthy=not problems, problems=problems, notices=notices)

    @property
    def exit_code(self) -> int:
        """Return 6 without a quorum, 7 if there is a problem, else 0."""
        if self.quorum.reachable < self.quorum.needed:
            return 6
        return 0 if self.healthy else 7
