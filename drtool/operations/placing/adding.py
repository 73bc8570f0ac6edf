"""`target add`: a new place for copies, prepared before the manifest names it.

Invariants
    A place holds its marker and the key slots before the ring places anything there.
    The configuration is never edited. The manifest holds the URL, and this host reads it from there.
"""

from msgspec.structs import replace

from drtool.config.urls import NO_ACCESS
from drtool.errors import Refused, UsageError
from drtool.events import Emit, Stage
from drtool.manifest.records import Target
from drtool.manifest.state import State
from drtool.model import site_of
from drtool.operations.placing.change import TargetChange, change_of
from drtool.operations.placing.committing import set_rows
from drtool.repository import Repository, TargetSpec
from drtool.repository.admitting import admit, look_at_place
from drtool.repository.founding import row_of
from drtool.repository.membership import Rows, with_row
from drtool.repository.places import full_url, overlap


def add_target(
    repository: Repository, target: TargetSpec, weight: int | None, *, dry_run: bool, emit: Emit
) -> TargetChange:
    """Add `target` to the ring. `UsageError` if its name is taken, `Refused` if its place is not free."""
    spec = _as_configured(repository, target, weight)
    row = row_of(spec, repository.spec.host)
    there = repository.target_rows().get(row.name)
    if there is not None and there.state != "lost" and (there.url, there.host) == (row.url, row.host):
        return change_of(repository, "add", there, changed=False, dry_run=dry_run, advice=_known(there, weight))
    _check_name(there)
    _check_apart(repository, spec)
    look_at_place(repository, spec)
    change = change_of(repository, "add", row, changed=True, dry_run=dry_run, advice=_advice(repository, row))
    if dry_run:
        return change
    emit(Stage(name="preparing"))
    _, target_id = admit(repository, spec)

    def rows_after(state: State) -> Rows:
        before = next((known for known in state.targets if known.name == row.name), None)
        if before is not None and before.state != "lost":
            if (before.url, before.host) == (row.url, row.host):
                return state.targets  # a concurrent run has done the same
            _check_name(before)
        # a target that reuses an earlier name is distinguished by its marker
        return with_row(state.targets, replace(row, id=target_id if before is not None else ""))

    emit(Stage(name="committing"))
    set_rows(repository, rows_after)
    epoch = repository.view.state.ring_epoch
    return replace(change, from_epoch=epoch - 1, to_epoch=epoch)


def _as_configured(repository: Repository, target: TargetSpec, weight: int | None) -> TargetSpec:
    """Return the target with the settings of this host's configuration, if it is named there."""
    known = next((spec for spec in repository.spec.targets if spec.name == target.name), None)
    if known is None:
        return replace(target, weight=weight or 1)
    was_lost = any(row.name == target.name and row.state == "lost" for row in repository.view.state.targets)
    if full_url(known.url) != full_url(target.url) and not was_lost:
        raise UsageError(
            f"this host's configuration says that {target.name} is at {known.url}",
            hint="correct it there, or choose another name: target add SITE/NAME URL",
        )
    if known.vote == "only":
        raise UsageError(
            f"this host's configuration says that {target.name} only votes", hint="`site replace` makes an arbiter"
        )
    access = known.access if target.access == NO_ACCESS else target.access
    return replace(target, weight=weight or known.weight, keys=known.keys, vote=known.vote, access=access)


def _known(there: Target, weight: int | None) -> list[str]:
    if there.state == "draining":
        return [f"it is being drained; drtool target set {there.name} --active takes it into use again"]
    if weight is not None and weight != there.weight:
        return [f"its weight is {there.weight}; drtool target set {there.name} --weight {weight} changes that"]
    return []


def _check_name(there: Target | None) -> None:
    if there is not None and there.state != "lost":
        raise UsageError(
            f"target {there.name} already exists, at {there.url}",
            hint=f"choose another name, or drain and remove that one first: drtool target drain {there.name}",
        )


def _check_apart(repository: Repository, target: TargetSpec) -> None:
    """Refuse overlapping targets: one inside another would hold the other's objects, or count as one of them."""
    for name, spec in repository.targets.specs.items():
        if repository.targets.reachable(name) and name != target.name and overlap(target.url, spec.url):
            raise Refused(
                f"{target.url} for {target.name} overlaps with {name} at {spec.url}", hint="name a place of its own"
            )


def _advice(repository: Repository, row: Target) -> list[str]:
    state = repository.view.state
    words = []
    if site_of(row.name) not in {site_of(known.name) for known in state.targets if known.state != "lost"}:
        words.append(
            f"{site_of(row.name)} is a new site: it stores but does not vote until drtool site add {site_of(row.name)}"
        )
    words.append("drtool rebalance moves the target's share of the old data there, and new backups use it at once")
    words.append(f"other hosts reach it once their configurations name {row.name}")
    return words
