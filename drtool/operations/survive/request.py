"""The request and the result of `survive`."""

from msgspec import Struct

from drtool.model import TargetName


class SurviveRequest(Struct, frozen=True, kw_only=True):
    """`lose`: sites and targets as the user names them. Empty: try each site and each pair of sites."""

    lose: tuple[str, ...] = ()


class Outlook(Struct, frozen=True):
    """One snapshot after a loss. `missing_packs`: packs that it needs and that no target would have."""

    id: str
    host: str
    source: str
    time_ns: int
    restorable: bool
    missing_packs: int


class QuorumLeft(Struct, frozen=True):
    """`reachable`: the remaining voters. With fewer than `needed` nothing can be changed until `manifest recover`."""

    needed: int
    reachable: int


class Tally(Struct, frozen=True):
    restorable: int
    total: int


class Scenario(Struct, frozen=True, kw_only=True):
    """One loss. `reasons`: why nothing could be restored, in words. `promised`: it loses no more sites than the promise
    allows.

    `catalogue_copies`: remaining targets that have no voter but a copy of the catalogue.
    """

    lost: list[str]
    quorum: QuorumLeft
    catalogue_copies: int = 0
    summary: Tally
    newest_restorable_ns: int | None
    reasons: list[str]
    promised: bool


class Away(Struct, frozen=True):
    """A target that could not be inspected. It counts as lost."""

    target: TargetName
    reason: str


class SurviveResult(Struct, frozen=True, kw_only=True):
    """`snapshots` and `summary` assume the loss of `lost`. `scenarios`: each site and each pair, if nothing was named."""

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
