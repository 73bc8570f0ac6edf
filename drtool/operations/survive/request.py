"""What is imagined to be lost, and what would be left: the document of `survive`."""

from msgspec import Struct

from drtool.model import TargetName


class SurviveRequest(Struct, frozen=True, kw_only=True):
    """`lose`: sites and targets, as a person names them; empty: each site and each pair of sites is tried."""

    lose: tuple[str, ...] = ()


class Outlook(Struct, frozen=True):
    """One snapshot after a loss. `missing_packs`: packs that it needs and nobody would have."""

    id: str
    host: str
    source: str
    time_ns: int
    restorable: bool
    missing_packs: int


class QuorumLeft(Struct, frozen=True):
    """`reachable`: voters that would be left. With fewer than `needed` nothing can be changed, until `manifest recover`."""

    needed: int
    reachable: int


class Tally(Struct, frozen=True):
    restorable: int
    total: int


class Scenario(Struct, frozen=True, kw_only=True):
    """One loss. `reasons`: what stands in the way of everything, in words; `promised`: no more sites than may be lost.

    `catalogue_copies`: targets without a voter that would be left with a copy of the catalogue.
    """

    lost: list[str]
    quorum: QuorumLeft
    catalogue_copies: int = 0
    summary: Tally
    newest_restorable_ns: int | None
    reasons: list[str]
    promised: bool


class Away(Struct, frozen=True):
    """A target that could not be looked at: it counts as lost."""

    target: TargetName
    reason: str


class SurviveResult(Struct, frozen=True, kw_only=True):
    """`snapshots` and `summary` are after losing `lost`; `scenarios` are each site and each pair, where nothing was named."""

    lost: list[str]
    quorum: QuorumLeft
    catalogue_copies: int = 0
    snapshots: list[Outlook]
    summary: Tally
    reasons: list[str]
    scenarios: list[Scenario]
    away: list[Away]
    tentative: bool
    wall_seconds: float
