"""What a verification is asked to look at, and its document."""

from typing import Literal

from msgspec import Struct

from drtool.manifest.records import Snapshot
from drtool.model import SiteName, TargetName
from drtool.repository.losses import LossReport

Level = Literal["structure", "sample", "full"]
SAMPLE_SHARE = 0.05


class Sample(Struct, frozen=True, kw_only=True):
    """How much of a round to read at level `sample`: whatever is reached first; nothing given: a twentieth of all copies."""

    share: float | None = None
    """Of all copies, 0 to 1."""
    copies: int | None = None
    size_bytes: int | None = None
    time_s: float | None = None


class VerifyRequest(Struct, frozen=True, kw_only=True):
    level: Level = "structure"
    sample: Sample = Sample()
    site: str | None = None
    snapshot: Snapshot | None = None
    objects: frozenset[str] | None = None
    """Only these, by their names below a target."""
    seed: str | None = None
    """At level `sample`: drawn by this from all copies, and no part of a round."""
    workers: int = 2
    now_ns: int | None = None
    """When this is, in place of the clock."""

    @property
    def partial(self) -> bool:
        """Whether it is no part of a round, and does not count as having read a site whole."""
        return self.snapshot is not None or self.objects is not None or self.seed is not None


class Missing(Struct, frozen=True):
    target: TargetName
    object: str


class Damaged(Struct, frozen=True):
    target: TargetName
    object: str
    reason: str


class Affected(Struct, frozen=True):
    """A path of a snapshot that cannot be restored from what was found."""

    snapshot: str
    path: str


class Checked(Struct, frozen=True):
    packs: int
    bytes: int


class LookedAt(Struct, frozen=True):
    """Packs, and the bytes of all their copies; `catalogue`: copies of pages, register records, key slots and markers.

    `segments`, `segments_read`: how many index segments there are, and how many could be read. The packs that the others alone
    name were not looked at.
    """

    packs: int
    bytes: int
    catalogue: int
    segments: int
    segments_read: int


class OfflineTarget(Struct, frozen=True):
    target: TargetName
    reason: str


class UnableVoter(Struct, frozen=True):
    """A voter whose site answers and whose vote does not count."""

    site: SiteName
    reason: str


class Bound(Struct, frozen=True):
    """At 95 % confidence at most `bad_fraction` of the `of` copies is bad; None where nothing was read. `read` of them were
    drawn and read, `bad` of these were. At level `full` all are read, and the fraction is exact.
    """

    bad_fraction: float | None
    read: int
    bad: int
    of: int


class RoundStatus(Struct, frozen=True, kw_only=True):
    """How far a site's round has come, this run included. `before_ns`: when the site was last read whole, if it ever was:
    what this round has not read yet was last read then.
    """

    site: SiteName
    round: int
    read_bytes: int
    total_bytes: int
    finished: bool
    before_ns: int | None


class Restored(Struct, frozen=True):
    """A snapshot that was restored for a trial."""

    snapshot: str
    files: int
    bytes: int
    restore_seconds: float


class Differing(Struct, frozen=True):
    """A path that did not come back as the snapshot has it."""

    snapshot: str
    path: str
    reason: str


class VerifyResult(Struct, frozen=True, kw_only=True):
    """`degraded`: some object is on fewer sites than promised, counting only what was found whole."""

    level: str
    checked: LookedAt
    missing: list[Missing]
    damaged: list[Damaged]
    affected: list[Affected]
    repaired: list[Missing] = []
    unrepairable: list[Missing]
    lost: LossReport = LossReport()
    """What no good copy is left of, and what may bring it back."""
    bound_95: Bound
    wall_seconds: float
    offline: list[OfflineTarget]
    refusing: list[OfflineTarget] = []
    """Targets that can be read and take no object."""
    voters: list[UnableVoter] = []
    misplaced: int
    """Objects with all their copies, but not all where the ring wants them."""
    owed: int
    """Trees and index segments that a site should have as well, beyond the promised copies."""
    unreferenced: Checked
    """Packs that no live segment names: left by runs that died; prune removes them."""
    degraded: bool
    rounds: list[RoundStatus]
    """At level `sample`."""
    restored: list[Restored] = []
    """At level `restore`."""
    differing: list[Differing] = []
    recorded: bool
    """Whether what was covered stands in the manifest, for the next run to go on from."""
    tentative: bool = False


class ChosenCopy(Struct, frozen=True):
    """One object at one target, to be read."""

    target: TargetName
    object: str


class Prospect(Struct, frozen=True, kw_only=True):
    """What a verification would look at: `copies` are listed with their right size, `read` of them would be read.

    `bound_if_clean`: what could be said at 95 % confidence if all of those are good.
    """

    copies: int
    read: list[ChosenCopy]
    read_bytes: int
    bound_if_clean: float | None
    offline: list[OfflineTarget]
