"""Each site and its targets: whether they are reachable and writable, their contents and free space."""

from collections.abc import Mapping

from drtool.errors import StoreError
from drtool.model import SiteName, TargetName, site_of
from drtool.operations.status.result import SiteStatus, TargetStatus
from drtool.operations.status.room import Need
from drtool.repository import Repository
from drtool.repository.copying import Amount
from drtool.repository.inventory import Inventory
from drtool.repository.readiness import Readiness, reason_of


def sites_of(
    repository: Repository,
    inventory: Inventory,
    ready: Readiness,
    needs: Mapping[TargetName, Need],
    owed: Mapping[TargetName, Amount],
) -> list[SiteStatus]:
    """Return every site in the manifest and in this host's configuration, by name."""
    voters = {voter.site for voter in repository.view.config.voters}
    names = sorted({*repository.target_rows(), *repository.targets.specs})
    rows = [_target(repository, inventory, ready, needs, owed, name) for name in names]
    return [
        _site(site, [row for row in rows if site_of(row.name) == site], ready, votes=site in voters)
        for site in sorted({site_of(name) for name in names})
    ]


def _site(site: SiteName, targets: list[TargetStatus], ready: Readiness, *, votes: bool) -> SiteStatus:
    return SiteStatus(
        name=site,
        reachable=any(row.reachable for row in targets),
        votes=votes,
        voter_problem=ready.voters.get(site),
        targets=targets,
    )


def _target(
    repository: Repository,
    inventory: Inventory,
    ready: Readiness,
    needs: Mapping[TargetName, Need],
    owed: Mapping[TargetName, Amount],
    name: TargetName,
) -> TargetStatus:
    row = repository.target_rows().get(name)
    state = "unknown" if row is None else "arbiter" if row.votes_only and row.state == "active" else row.state
    objects = inventory.objects.get(name)
    free_bytes, reason = _room(repository, inventory, name)
    refusal = ready.refusals.get(name)
    need = needs.get(name)
    return TargetStatus(
        name=name,
        state=state,
        reachable=reason is None,
        reason=reason or (reason_of(refusal) if refusal else None),
        writable=name not in ready.refusals if name in ready.tried else None,
        objects=len(objects or ()),
        bytes=sum((objects or {}).values()),
        free_bytes=free_bytes,
        last_backup_bytes=need.last_bytes if need else None,
        owed=owed.get(name, Amount()) if objects is not None else None,
    )


def _room(repository: Repository, inventory: Inventory, name: TargetName) -> tuple[int | None, str | None]:
    """Return the free space, or why the target cannot be reached."""
    targets = repository.targets
    if name not in inventory.objects and name in targets.storing():
        return None, inventory.unlisted.get(name, "not in this host's configuration")
    try:
        return targets.store(name).free_bytes(), None
    except StoreError as error:
        return None, targets.failures.get(name, error.message)
