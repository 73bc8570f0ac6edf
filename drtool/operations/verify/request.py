"""The request and the result of `verify`."""

from typing import Literal

from msgspec import Struct

from drtool.manifest.records import Snapshot
from drtool.model import SiteName, TargetName
from drtool.repository.losses import LossReport

Level = Literal["structure", "sample", "full"]
SAMPLE_SHARE = 0.05


class Sample(Struct, frozen=True, kw_only=True):
    """How much of a round to read at level `sample`: up to the first limit reached. Default: a twentieth of all copies."""

    share: float | None = None
    """A fraction of all copies, 0 to 1."""
    copies: int | None = None
    size_bytes: int | None = None
    time_s: float | None = None


class VerifyRequest(Struct, frozen=True, kw_only=True):
    level: Level = "structure"
    sample: Sample = Sample()
    site: str | None = None
    snapshot: Snapshot | None = None
    objects: frozenset[str] | None = None
    """Only these objects, by their names below a target."""
    seed: str | None = None
    """At level `sample`: draw from all copies with this seed, outside any round."""
    workers: int = 2
    now_ns: int | None = None
    """The current time, in place of the clock."""

    @property
    def partial(self) -> bool:
        """Return whether the run is outside any round, and does not count as having read a site whole."""
        return self.snapshot is not None or self.objects is not None or self.seed is not None


class Missing(Struct, frozen=True):
    target: TargetName
    object: str


class Damaged(Struct, frozen=True):
    target: TargetName
    object: str
    reason: str


class Affected(Struct, frozen=True):
    """A path of a snapshot that cannot be restored, given the findings."""

    snapshot: str
    path: str


class Checked(Struct, frozen=True):
    packs: int
    bytes: int


class LookedAt(Struct, frozen=True):
    """Packs, and the bytes of all their copies. `catalogue`: copies of pages, register records, key slots and markers.

    `segments`, `segments_read`: the number of index segments, and of readable ones. Packs that only unreadable segments
    name were not checked.
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
    """A voter whose site is reachable but whose vote does not count."""

    site: SiteName
    reason: str


class Bound(Struct, frozen=True):
    """At 95 % confidence at most `bad_fraction` of the `of` copies is bad, or None if nothing was read.

    `read` of them were drawn and read, and `bad` of these were bad. At level `full` all are read, and the fraction is
    exact.
    """

    bad_fraction: float | None
    read: int
    bad: int
    of: int


class RoundStatus(Struct, frozen=True, kw_only=True):
    """The progress of a site's round, including this run.

    `before_ns`: when the site was last read whole, if ever. The part that this round has not read yet was last read
    then.
    """

    site: SiteName
    round: int
    read_bytes: int
    total_bytes: int
    finished: bool
    before_ns: int | None


class Restored(Struct, frozen=True):
    """A snapshot that was restored as a test."""

    snapshot: str
    files: int
    bytes: int
    restore_seconds: float


class Differing(Struct, frozen=True):
    """A path that was not restored as in the snapshot."""

    snapshot: str
    path: str
    reason: str


class VerifyResult(Struct, frozen=True, kw_only=True):
    """`degraded`: some object is on fewer sites than promised, counting only whole copies."""

    level: str
    checked: LookedAt
    missing: list[Missing]
    damaged: list[Damaged]
    affected: list[Affected]
    repaired: list[Missing] = []
    unrepairable: list[Missing]
    lost: LossReport = LossReport()
    """The data without a good copy, and what may bring it back."""
    bound_95: Bound
    wall_seconds: float
    offline: list[OfflineTarget]
    refusing: list[OfflineTarget] = []
    """Targets that can be read but not written."""
    voters: list[UnableVoter] = []
    misplaced: int
    """Objects with all their copies, but not all where the ring places them."""
    owed: int
    """Trees and index segments that a site should also have, beyond the promised copies."""
    unreferenced: Checked
    """Packs that no live segment names. Dead runs left them, and prune removes them."""
    degraded: bool
    rounds: list[RoundStatus]
    """At level `sample`."""
    restored: list[Restored] = []
    """At level `restore`."""
    differing: list[Differing] = []
    recorded: bool
    """Whether the coverage is recorded in the manifest, so that the next run can continue."""
    tentative: bool = False


class ChosenCopy(Struct, frozen=True):
    """One copy to read: an object at a target."""

    target: TargetName
    object: str


class Prospect(Struct, frozen=True, kw_only=True):
    """What a verification would read. `copies`: listed with their right size. `read`: those that would be read.

    `bound_if_clean`: the bound at 95 % confidence if all of those are good.
    """

    copies: int
    read: list[ChosenCopy]
    read_bytes: int
    bound_if_clean: float | None
    offline: list[OfflineTarget]
