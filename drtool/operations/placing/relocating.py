"""The move of a target to another address: a moved directory, or the chosen one of two copies.

Invariants
    A target's address changes only to a place where this very target is found, and only if it is not found at the old
    one, unless a person gives up the copy there.
    A voter's register starts a new incarnation at its new address, in a new configuration. So a copy left elsewhere
    holds a register that has ended.
"""

from drtool.config.urls import Access
from drtool.errors import DrtoolError, Refused
from drtool.manifest.names import acceptor_prefix
from drtool.manifest.ops import SetRing
from drtool.manifest.records import Target
from drtool.manifest.switching import Member
from drtool.model import TargetName, site_of
from drtool.repository import Repository, TargetSpec
from drtool.repository.marker import Marker
from drtool.repository.membership import Rows
from drtool.repository.places import full_url, open_in_time
from drtool.repository.relocation import MovedRegister, drop_stale_registers


def check_moved_there(repository: Repository, row: Target, url: str, access: Access, *, gone: bool) -> None:
    """Raise `Refused` if it still answers at its old address, unless `gone`, and DrtoolError if it is not at `url`."""
    targets = repository.targets
    if not gone and targets.reachable(row.name) and full_url(targets.specs[row.name].url) != full_url(url):
        raise Refused(
            f"{row.name} is still at {targets.specs[row.name].url}: so it cannot be at {url} as well",
            hint="move the directory or unmount the old one, or give up the copy at the old address if it is out of date:"
            f" drtool target set {row.name} --url {url} --gone",
        )
    store = open_in_time(TargetSpec(name=row.name, url=url, access=access), overlays=targets.overlays)
    try:
        marker = Marker.read(store)
    finally:
        store.close()
    if (
        not marker.authentic(repository.keyring)
        or marker.repository_id != repository.id
        or marker.target != row.name
        or (row.id and marker.target_id != row.id)
    ):
        raise DrtoolError(
            f"the contents of {url} are not {row.name} of this repository",
            hint="name the place that holds its drtool.json, or add an empty place: drtool target add SITE/NAME URL",
        )


def relocate(repository: Repository, name: TargetName, url: str, access: Access, rows: Rows) -> None:
    """Commit `rows` with the target's new address. A voter's register starts as a new incarnation there, in the same commit."""
    state, targets = repository.view.state, repository.targets
    ring = SetRing(state.ring_epoch + 1, rows)
    voter = next((voter for voter in state.config.voters if voter.target == name), None)
    if voter is None:
        repository.adopt(repository.manifest.commit(ring).view)
        return
    old = targets.take_register(name) if _answers_elsewhere(repository, name, url) else None
    if not targets.extend(TargetSpec(name=name, url=url, access=access), repository.id):
        raise DrtoolError(f"{name} cannot be used at {url}: {targets.failures[name]}")
    site = site_of(name)
    new = targets.register(name)
    mode = new.mode
    if old is None:
        repository.manifest.add_site(site, new)
    else:
        drop_stale_registers(new, state.config.place)
        ended = acceptor_prefix(state.config.generation, state.config.number, state.config.recovery)
        repository.manifest.add_site(site, MovedRegister(old, new, ended))
    members = [
        Member(row.site, row.target, mode if row.site == site else row.mode, fresh=row.site == site)
        for row in state.config.voters
    ]
    repository.adopt(repository.manifest.set_voters(members, [ring]))


def _answers_elsewhere(repository: Repository, name: TargetName, url: str) -> bool:
    targets = repository.targets
    return targets.reachable(name) and full_url(targets.specs[name].url) != full_url(url)
