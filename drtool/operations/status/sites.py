"""Each site and its targets: reachable or not, what they hold, how much room is left."""

from drtool.errors import StoreError
from drtool.model import SiteName, TargetName, site_of
from drtool.operations.status.result import SiteStatus, TargetStatus
from drtool.repository import Repository
from drtool.repository.inventory import Inventory


def sites_of(repository: Repository, inventory: Inventory) -> list[SiteStatus]:
    voters = {voter.site for voter in repository.view.config.voters}
    names = sorted({site_of(name) for name in (*repository.target_rows(), *repository.targets.specs)})
    return [_site(repository, inventory, site, site in voters) for site in names]


def _site(repository: Repository, inventory: Inventory, site: SiteName, votes: bool) -> SiteStatus:
    names = sorted({*repository.target_rows(), *repository.targets.specs})
    targets = [_target(repository, inventory, name) for name in names if site_of(name) == site]
    return SiteStatus(name=site, reachable=any(t.reachable for t in targets), votes=votes, targets=targets)


def _target(repository: Repository, inventory: Inventory, name: TargetName) -> TargetStatus:
    targets, row = repository.targets, repository.target_rows().get(name)
    state = "unknown" if row is None else "arbiter" if row.votes_only and row.state == "active" else row.state
    objects = inventory.objects.get(name)
    reason = None
    free_bytes = None
    if objects is None and name in targets.storing():
        reason = inventory.unlisted.get(name, "not in this host's configuration")
    else:
        try:
            free_bytes = targets.store(name).free_bytes()
        except StoreError as error:
            reason = targets.failures.get(name, error.message)
    return TargetStatus(
        name=name,
        state=state,
        reachable=reason is None,
        reason=reason,
        objects=len(objects or ()),
        bytes=sum((objects or {}).values()),
        free_bytes=free_bytes,
    )
