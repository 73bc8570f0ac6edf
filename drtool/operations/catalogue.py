"""The replicated catalogue itself: the state of its voters, its soundness, and its recovery when most voters are lost.

A forced recovery starts as a plan. The plan that was shown and consented to is the one that is carried out.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from drtool.errors import Refused, UsageError
from drtool.events import Emit
from drtool.manifest.compacting import Compacted
from drtool.manifest.inspect import AcceptorStatus, ManifestStatus, QuorumStatus
from drtool.model import SiteName, TargetName
from drtool.operations.standing import stand, voters_after
from drtool.paxos import majority
from drtool.repository import Repository, TargetSpec
from drtool.repository.lost_lists import take_back_lost_lists
from drtool.repository.readiness import medium_mismatch
from drtool.repository.voters import even_number

Phase: TypeAlias = Literal["prepare", "accept", "decide", "confirm"]
"""How far an acceptor is with its newest ballot, in the textbook's terms: it promised it, it accepted it, a quorum
accepted the same ballot, and this host saw that confirmed."""


class Acceptor(Struct, frozen=True, kw_only=True):
    """One voter. `lag`: changes behind the newest head, or None if the acceptor cannot be read."""

    site: SiteName
    reachable: bool
    phase: Phase | None
    promised: str | None
    accepted: str | None
    version: int | None
    lag: int | None
    problem: str | None


class Status(Struct, frozen=True, kw_only=True):
    """The state of the register. `agreed`: a quorum has the head.

    `recovery`: the id of the forced recovery that began this generation, if one did.
    """

    generation: int
    recovery: str
    config: int
    sequence: int
    digest: str
    agreed: bool
    acceptors: list[Acceptor]
    quorum: QuorumStatus
    problem: str | None


class Checked(Struct, frozen=True, kw_only=True):
    """The result of `manifest check`: the sites that were inspected, and the problems found."""

    generation: int
    config: int
    sequence: int
    sites: list[SiteName]
    problems: list[dict[str, str]]


class CopyRead(Struct, frozen=True):
    """A copy of the catalogue that a recovery continues from, and when its newest change was made."""

    site: SiteName
    time_ns: int


class Recovery(Struct, frozen=True, kw_only=True):
    """What a forced recovery keeps and gives up. `lost_changes`: a lower bound, from the changes this host has seen."""

    survivors: list[SiteName]
    given_up: list[SiteName]
    sequence: int
    sequences: dict[SiteName, int]
    confirmed_by_this_host: int
    lost_changes: int
    snapshots: int
    generation_before: int
    generation: int
    recovery: str
    needed: int
    advice: str | None
    brought_back: int
    dry_run: bool
    voters: dict[SiteName, TargetName | None] = {}
    """The voters after the recovery.

    A site whose register is new maps to its target, and one that has a register to None.
    """
    copies: list[CopyRead] = []
    """The sites that contribute a copy of the catalogue but no register."""


def status(repository: Repository) -> Status:
    """Return what each acceptor reports about itself."""
    found = repository.manifest.status()
    chosen = _chosen(found)
    confirmed = repository.view.confirmed_sequence >= found.sequence and not repository.view.tentative
    return Status(
        generation=found.generation,
        recovery=repository.view.config.recovery.hex(),
        config=found.config,
        sequence=found.sequence,
        digest=found.digest,
        agreed=found.agreed,
        acceptors=[_acceptor(row, _phase(row, chosen, confirmed=confirmed)) for row in found.acceptors],
        quorum=found.quorum,
        problem=found.problem or (repository.uncertain.message if repository.uncertain else None),
    )


def _chosen(found: ManifestStatus) -> str | None:
    """Return the ballot that a quorum accepted, or None if none is seen."""
    counts = Counter(row.accepted for row in found.acceptors if row.accepted and row.problem is None)
    ballot, votes = max(counts.items(), key=lambda item: item[1], default=(None, 0))
    return ballot if votes >= found.quorum.needed else None


def _phase(row: AcceptorStatus, chosen: str | None, *, confirmed: bool) -> Phase | None:
    if not row.reachable or row.accepted is None:
        return None
    if row.promised != row.accepted:
        return "prepare"
    if row.accepted != chosen:
        return "accept"
    return "confirm" if confirmed else "decide"


def _acceptor(row: AcceptorStatus, phase: Phase | None) -> Acceptor:
    return Acceptor(
        site=row.site,
        reachable=row.reachable,
        phase=phase,
        promised=row.promised,
        accepted=row.accepted,
        version=row.version,
        lag=row.lag,
        problem=row.problem,
    )


def check(repository: Repository) -> Checked:
    """Check every record, chain, digest, page and witness at every site that answers."""
    problems = repository.manifest.check()
    silent = {row.site for row in problems if row.kind == "unreachable"}
    config = repository.view.config
    return Checked(
        generation=config.generation,
        config=config.number,
        sequence=repository.view.sequence,
        sites=[voter.site for voter in config.voters if voter.site not in silent],
        problems=[{"site": row.site, "kind": row.kind, "message": row.message} for row in problems],
    )


def compact(repository: Repository, *, dry_run: bool) -> Compacted:
    """Delete the manifest objects that no head refers to any more, at every voter that answers."""
    return repository.manifest.compact(dry_run=dry_run)


def plan_recovery(
    repository: Repository, names: Sequence[str], arbiters: Sequence[TargetSpec] = (), *, dry_run: bool
) -> Recovery:
    """Return what a recovery from these sites would keep. `arbiters` are new places that vote.

    `Refused` while a quorum answers.
    """
    if not names:
        raise UsageError("no surviving site is named", hint="drtool manifest recover --from SITE --from SITE …")
    config = repository.view.config
    unsuited = [voter.site for voter in config.voters if medium_mismatch(repository, voter.site) is not None]
    may_decide = len(config.voters) - len(unsuited) >= config.quorum
    if repository.uncertain is None and not repository.view.tentative and may_decide:
        raise Refused(
            f"{config.quorum} of {len(config.voters)} voters agree: nothing needs to be recovered",
            hint="a single site that is gone is replaced: drtool site replace OLD NEW=URL",
        )
    sites = [SiteName(name) for name in dict.fromkeys(names)]
    known = repository.targets.sites()
    for site in sites:
        if site not in known:
            raise UsageError(f"--from {site}: there is no such site", hint=f"there are {', '.join(known)}")
    found = repository.manifest.survivors(sites)
    voters = voters_after(repository, found, arbiters)
    state, confirmed = found.learned.state, repository.view.confirmed_sequence
    return Recovery(
        survivors=sites,
        given_up=sorted({voter.site for voter in state.config.voters} - set(sites)),
        voters=voters,
        copies=[CopyRead(site, time_ns) for site, time_ns in sorted(found.mirrored.items())],
        sequence=state.sequence,
        sequences=dict(found.sequences),
        confirmed_by_this_host=confirmed,
        lost_changes=max(0, confirmed - state.sequence),
        snapshots=len(state.snapshots),
        generation_before=state.config.generation,
        generation=state.config.generation + 1,
        recovery="",
        needed=majority(len(voters)),
        advice=even_number(len(voters)),
        brought_back=0,
        dry_run=dry_run,
    )


def recover(repository: Repository, plan: Recovery, emit: Emit, arbiters: Sequence[TargetSpec] = ()) -> Recovery:
    """Carry out the recovery, then redo this host's own changes that were given up, as far as its journal has them."""
    modes = {site: repository.targets.register(name).mode for site, name in _registers(repository).items()}
    more = stand(repository, plan.voters, arbiters)
    try:
        view = repository.manifest.recover(plan.survivors, modes, more)
    except Refused:  # a quorum answers: that of an attempt which was killed after its recovery was chosen?
        view = repository.manifest.read()
        if view.config.generation <= plan.generation_before:
            raise
    repository.adopt(view)
    brought_back = repository.manifest.settle()
    if brought_back:
        repository.adopt(repository.manifest.read())
    take_back_lost_lists(repository, emit)
    view = repository.view
    return replace(
        plan,
        sequence=view.sequence,
        snapshots=len(view.state.snapshots),
        generation=view.config.generation,
        recovery=view.config.recovery.hex(),
        brought_back=brought_back,
    )


def _registers(repository: Repository) -> dict[SiteName, TargetName]:
    """Return the reachable targets that hold a voter's register."""
    rows = repository.view.config.voters
    return {row.site: row.target for row in rows if repository.targets.reachable(row.target)}
