"""The gathered facts as values: filled in by `host`, `targets` and `catalogue`, assessed by `judging`. Pure."""

from msgspec import Struct

Refusal = tuple[str, str, str | None]
"""An error's kind, its message and its hint."""


class DirectoryFacts(Struct, frozen=True, kw_only=True):
    """A directory of drtool's own.

    `mode` is None if it does not exist: the other fields are then of its nearest parent.
    """

    role: str
    path: str
    mode: int | None
    writable: bool
    free_bytes: int | None
    problem: str | None = None


class FileFacts(Struct, frozen=True, kw_only=True):
    """A required file. `secret`: only this user may read it. `mode` is None if it cannot be inspected."""

    role: str
    path: str
    secret: bool
    mode: int | None
    problem: str | None = None


class SourceFacts(Struct, frozen=True, kw_only=True):
    """One path of a source. `contains`: the parts of drtool's own data that lie in it."""

    name: str
    path: str
    exists: bool
    contains: tuple[str, ...]


class UncapturableFacts(Struct, frozen=True, kw_only=True):
    """A source other than plain files that cannot be captured at present, and why."""

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
    """The facts about one target. They grow step by step, so that a target that hangs keeps the earlier results.

    `place` names the device or server with which it would be lost. `step` is the current attempt.
    """

    name: str
    url: str
    kind: str
    place: str | None = None
    mounted_at: str | None = None
    """The mount point of a directory's file system."""
    step: str | None = None
    refusal: Refusal | None = None
    """Why the target cannot be used."""
    foreign: str | None = None
    """Why this is not the expected target."""
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
    """One voter's own report."""

    site: str
    target: str
    vouched: bool
    """Whether the configuration says `vote: true` there."""
    reachable: bool
    lag: int | None
    problem: str | None


class CatalogueFacts(Struct, frozen=True, kw_only=True):
    """`refusal`: why the catalogue could not be opened.

    `unknown`: configured targets that it lacks. `unnamed`: the reverse.
    """

    refusal: Refusal | None = None
    repository: str = ""
    needed: int = 0
    reachable: int = 0
    voters: tuple[VoterFacts, ...] = ()
    unknown: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    """Targets that opening did not accept, and why."""
    twins: tuple[tuple[str, str, str], ...] = ()
    """Targets that answer at two places: the name, the fault, and the remedy."""
    unmarked: tuple[tuple[str, str], ...] = ()
    """Targets that were recognised by their contents only, and what is wrong with their markers."""
    problems: tuple[str, ...] = ()
    losses: tuple[tuple[str, str, bool], ...] = ()
    """Losses that would take the quorum: the event, the remedy, and whether a copy of the catalogue would remain
    elsewhere.
    """
    copies_damaged: tuple[str, ...] = ()
    copies_behind: tuple[str, ...] = ()
    """Copies of the catalogue at targets without a register, each described in a sentence."""
    mover: tuple[str, str, bool] | None = None
    """The repair or rebalance that removes copies: its description, the hint, and whether it shows no sign of life."""


class Facts(Struct, frozen=True, kw_only=True):
    """All facts. `catalogue` is None if it was not inspected. `overlaps`: pairs of targets in the same place.

    `beyond`: targets that this host reached at a URL that the configuration does not name: the target, that URL, and
    the configured one.
    """

    config_path: str | None
    config_problems: tuple[tuple[str, str, str | None], ...]
    password: tuple[str, str | None, str | None]
    """Where it comes from, why it could not be obtained, and the hint."""
    host: HostFacts
    targets: tuple[TargetFacts, ...]
    overlaps: tuple[tuple[str, str], ...]
    catalogue: CatalogueFacts | None
    read_only: bool
    beyond: tuple[tuple[str, str, str | None], ...] = ()
