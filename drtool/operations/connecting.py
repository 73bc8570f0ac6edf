"""The view of a host that has just been attached: sites and how they are reached, the quorum, the newest snapshots."""

from msgspec import Struct

from drtool.manifest.records import Snapshot
from drtool.model import SiteName, TargetName, site_of
from drtool.repository import Repository
from drtool.repository.targets import UNNAMED


class ReachedTarget(Struct, frozen=True, kw_only=True):
    """One place of the repository. `url` is where this host reached it, else the URL in the manifest."""

    name: TargetName
    url: str
    host: str
    weight: int
    votes_only: bool
    keys: bool
    reachable: bool
    problem: str | None


class ReachedSite(Struct, frozen=True, kw_only=True):
    name: SiteName
    votes: bool
    reachable: bool
    targets: list[ReachedTarget]


class Quorum(Struct, frozen=True):
    needed: int
    reachable: int


class Connected(Struct, frozen=True, kw_only=True):
    """`newest`: one snapshot per host and source. `holds_copies`: whether a storing place was reached."""

    repository_id: str
    label: str
    copies: int
    sequence: int
    quorum: Quorum
    sites: list[ReachedSite]
    newest: list[Snapshot]
    holds_copies: bool


def what_is_there(repository: Repository) -> Connected:
    """Describe the repository as opening it found it. Permanently lost targets are left out."""
    state = repository.view.state
    voters = {voter.site for voter in repository.view.config.voters}
    targets = [
        _target(repository, name) for name, row in sorted(repository.target_rows().items()) if row.state != "lost"
    ]
    quorum = repository.manifest.status().quorum
    return Connected(
        repository_id=repository.id.hex(),
        label=state.label,
        copies=state.policy.copies,
        sequence=repository.view.sequence,
        quorum=Quorum(quorum.needed, quorum.reachable),
        sites=[
            ReachedSite(
                name=site,
                votes=site in voters,
                reachable=any(target.reachable for target in targets if site_of(target.name) == site),
                targets=[target for target in targets if site_of(target.name) == site],
            )
            for site in sorted({site_of(target.name) for target in targets})
        ],
        newest=_newest(repository),
        holds_copies=any(target.reachable and not target.votes_only for target in targets)
        or bool(repository.targets.given_up()),
    )


def _target(repository: Repository, name: TargetName) -> ReachedTarget:
    row, targets = repository.target_rows()[name], repository.targets
    reached = targets.reachable(name)
    return ReachedTarget(
        name=name,
        url=targets.specs[name].url if reached else row.url,
        host=row.host,
        weight=row.weight,
        votes_only=row.votes_only,
        keys=row.keys,
        reachable=reached,
        problem=None if reached else targets.failures.get(name, UNNAMED),
    )


def _newest(repository: Repository) -> list[Snapshot]:
    newest: dict[tuple[str, str], Snapshot] = {}
    for row in repository.view.state.snapshots:
        known = newest.setdefault((row.host, row.source), row)
        if (row.time_ns, row.sequence) > (known.time_ns, known.sequence):
            newest[row.host, row.source] = row
    return sorted(newest.values(), key=lambda row: (row.time_ns, row.sequence))
