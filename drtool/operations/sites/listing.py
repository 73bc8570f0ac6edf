"""`site list`: every site in the manifest, whether it votes, and the state of its register."""

from msgspec import Struct

from drtool.manifest.inspect import AcceptorStatus
from drtool.model import SiteName, TargetName, site_of
from drtool.operations.sites.change import rows_of, voter_of
from drtool.repository import Repository
from drtool.repository.targets import UNNAMED
from drtool.repository.voters import even_number


class Site(Struct, frozen=True, kw_only=True):
    """One row of `site list`. `register`: the target that holds it. `problem`: its fault, or why it is unreachable."""

    name: SiteName
    votes: bool
    stores: bool
    register: TargetName | None
    incarnation: str | None
    targets: list[TargetName]
    lost: list[TargetName]
    reachable: bool
    problem: str | None


class Sites(Struct, frozen=True, kw_only=True):
    """`tolerates`: how many voters may be lost while writing remains possible."""

    sites: list[Site]
    generation: int
    config: int
    needed: int
    tolerates: int
    advice: str | None


def sites(repository: Repository) -> Sites:
    """Return every site in the manifest, with the state of its voter."""
    config = repository.view.config
    status = repository.manifest.status()
    acceptors = {row.site: row for row in status.acceptors}
    names = sorted(
        {site_of(row.name) for row in repository.view.state.targets} | {voter.site for voter in config.voters}
    )
    return Sites(
        sites=[_site(repository, name, acceptors.get(name)) for name in names],
        generation=config.generation,
        config=config.number,
        needed=config.quorum,
        tolerates=len(config.voters) - config.quorum,
        advice=even_number(len(config.voters)),
    )


def _site(repository: Repository, site: SiteName, acceptor: AcceptorStatus | None) -> Site:
    rows = rows_of(repository, site)
    present = [row for row in rows if row.state != "lost"]
    voter = voter_of(repository, site)
    reached = any(repository.targets.reachable(row.name) for row in present)
    problem = acceptor.problem if acceptor is not None else None
    if not present:
        problem = "its targets are lost"
    elif not reached:
        problem = repository.targets.reason_for(site) or problem or UNNAMED
    return Site(
        name=site,
        votes=voter is not None,
        stores=any(not row.votes_only for row in present),
        register=voter.target if voter else None,
        incarnation=voter.incarnation.hex() if voter else None,
        targets=[row.name for row in present],
        lost=[row.name for row in rows if row.state == "lost"],
        reachable=reached,
        problem=problem,
    )
