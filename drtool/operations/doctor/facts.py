"""What was found, as values: gathered by `host`, `targets` and `catalogue`, judged by `judging`. PURE."""

from msgspec import Struct

Refusal = tuple[str, str, str | None]
"""An error's kind, its message, what to do."""


class DirectoryFacts(Struct, frozen=True, kw_only=True):
    """A directory of drtool's own; `mode` is None while it does not exist, and the rest is of the nearest one that does."""

    role: str
    path: str
    mode: int | None
    writable: bool
    free_bytes: int | None
    problem: str | None = None


class FileFacts(Struct, frozen=True, kw_only=True):
    """A file that should be there; `secret`: for this user's eyes only. `mode` is None if it cannot be looked at."""

    role: str
    path: str
    secret: bool
    mode: int | None
    problem: str | None = None


class SourceFacts(Struct, frozen=True, kw_only=True):
    """One path of a source; `contains`: what of drtool lies in it."""

    name: str
    path: str
    exists: bool
    contains: tuple[str, ...]


class UncapturableFacts(Struct, frozen=True, kw_only=True):
    """A source that is more than files and could not be captured now, and why."""

    name: str
    problem: str
    hint: str | None


class HostFacts(Struct, frozen=True, kw_only=True):
    directories: tuple[DirectoryFacts, ...]
    files: tuple[FileFacts, ...]
    sources: tuple[SourceFacts, ...]
    missing_programs: tuple[tuple[str, str], ...]
    missing_libraries: tuple[tuple[str, str], ...]
    keyless: tuple[str, ...]
    """SSH targets for which this host has neither a named key, nor one of the usual files, nor an agent."""
    files_max: int
    core_bytes_max: int
    """-1: unlimited."""
    versions: tuple[tuple[str, str], ...]
    uncapturable: tuple[UncapturableFacts, ...] = ()


class TargetFacts(Struct, frozen=True, kw_only=True):
    """What is known of one target so far; it grows step by step, so that what hangs leaves what came before.

    `place` stands for what is lost at once with it, such as a device or a server; `step` is what is being tried.
    """

    name: str
    url: str
    kind: str
    place: str | None = None
    step: str | None = None
    refusal: Refusal | None = None
    """Why it cannot be used at all."""
    foreign: str | None = None
    """Why it is not the target that it should be."""
    unmarked: bool = False
    repository: str | None = None
    reached: bool = False
    latency_s: float | None = None
    free_bytes: int | None = None
    skew_s: float | None = None
    write_refusal: Refusal | None = None
    delete_refusal: Refusal | None = None
    write_tried: bool = False
    can_vote: bool | None = None
    vote_reason: str = ""
    keeps_versions: bool | None = None
    keeps_locked: bool | None = None
    leftovers: int = 0


class VoterFacts(Struct, frozen=True, kw_only=True):
    """One voter, as it says itself."""

    site: str
    target: str
    vouched: bool
    """Whether the configuration says `vote: true` there."""
    reachable: bool
    lag: int | None
    problem: str | None


class CatalogueFacts(Struct, frozen=True, kw_only=True):
    """`refusal`: why it could not be opened; `unknown`: configured targets that it does not know; `unnamed`: the reverse."""

    refusal: Refusal | None = None
    repository: str = ""
    needed: int = 0
    reachable: int = 0
    voters: tuple[VoterFacts, ...] = ()
    unknown: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    """Targets that opening did not accept, and why."""
    problems: tuple[str, ...] = ()
    losses: tuple[tuple[str, str, bool], ...] = ()
    """Losses that take the quorum: what would happen, what to do, whether a copy of the catalogue is left elsewhere."""
    copies_damaged: tuple[str, ...] = ()
    copies_behind: tuple[str, ...] = ()
    """Of the catalogue, at targets without a register; each in a sentence."""
    mover: tuple[str, str, bool] | None = None
    """The repair or rebalance that takes copies away: who, what to do, and whether it shows no sign of life."""


class Facts(Struct, frozen=True, kw_only=True):
    """Everything. `catalogue` is None where it was not looked at; `overlaps`: pairs of targets that are one place.

    `beyond`: targets that this host reached where the configuration does not lead, with the place, and what it says of them.
    """

    config_path: str | None
    config_problems: tuple[tuple[str, str, str | None], ...]
    password: tuple[str, str | None, str | None]
    """Where it comes from, why it could not be had, what to do."""
    host: HostFacts
    targets: tuple[TargetFacts, ...]
    overlaps: tuple[tuple[str, str], ...]
    catalogue: CatalogueFacts | None
    read_only: bool
    beyond: tuple[tuple[str, str, str | None], ...] = ()
