"""`target set` and `target drain`: another weight, another address, out of use and back into use.

Invariants
    A target's address changes only to where this very target is found, and only when it is not found at the old one: of a
    copy, nobody could say which of the two is the one that was written to last.
"""

from collections.abc import Callable

from msgspec.structs import replace

from drtool.config.urls import NO_ACCESS, Access
from drtool.errors import DrtoolError, Refused
from drtool.events import Emit, Stage
from drtool.manifest.records import Target
from drtool.manifest.state import State
from drtool.model import TargetName
from drtool.operations.placing.change import TargetChange, change_of
from drtool.operations.placing.committing import set_rows
from drtool.repository import Repository, TargetSpec
from drtool.repository.founding import row_of
from drtool.repository.marker import Marker
from drtool.repository.membership import Rows, drained, storing_row, with_row
from drtool.repository.places import full_url, open_in_time

REBALANCE = "drtool ring preview shows what that moves, drtool rebalance moves it"


def set_target(
    repository: Repository,
    name: TargetName,
    *,
    weight: int | None = None,
    url: str | None = None,
    access: Access = NO_ACCESS,
    active: bool = False,
    dry_run: bool,
    emit: Emit,
) -> TargetChange:
    """Another weight, another address; `active` ends a drain."""
    before = storing_row(repository.view.state.targets, name)
    if url is not None and full_url(url) != full_url(before.url):
        _check_moved_there(repository, before, url, access)

    def altered(row: Target) -> Target:
        row = replace(row, weight=row.weight if weight is None else weight, state="active" if active else row.state)
        if url is None:
            return row
        there = row_of(TargetSpec(name=name, url=url), repository.spec.host)
        return replace(row, url=there.url, host=there.host)

    advice = (
        [] if altered(before) == replace(before, url=altered(before).url, host=altered(before).host) else [REBALANCE]
    )
    if url is not None:
        advice += _advice_on_moving(repository, name, url)
    return _change(
        repository,
        "set",
        name,
        lambda state: with_row(state.targets, altered(storing_row(state.targets, name))),
        advice,
        dry_run=dry_run,
        emit=emit,
    )


def drain_target(repository: Repository, name: TargetName, *, dry_run: bool, emit: Emit) -> TargetChange:
    """Nothing new goes there from now on; `rebalance` empties it. `Refused` if the rest has no room for all copies."""

    def rows_after(state: State) -> Rows:
        return drained(state.targets, name, state.policy.copies)

    advice = [f"drtool rebalance empties it, then drtool target remove {name} takes it out"]
    return _change(repository, "drain", name, rows_after, advice, dry_run=dry_run, emit=emit)


def _change(
    repository: Repository,
    verb: str,
    name: TargetName,
    rows_after: Callable[[State], Rows],
    advice: list[str],
    *,
    dry_run: bool,
    emit: Emit,
) -> TargetChange:
    state = repository.view.state
    rows = rows_after(state)
    changed = set(rows) != set(state.targets)
    row = next(row for row in rows if row.name == name)
    change = change_of(repository, verb, row, changed=changed, dry_run=dry_run, advice=advice if changed else [])
    if not changed or dry_run:
        return change
    emit(Stage(name="committing"))
    set_rows(repository, rows_after)
    epoch = repository.view.state.ring_epoch
    return replace(change, from_epoch=epoch - 1, to_epoch=epoch)


def _check_moved_there(repository: Repository, row: Target, url: str, access: Access) -> None:
    if repository.targets.reachable(row.name):
        raise Refused(
            f"{row.name} is still at {repository.targets.specs[row.name].url}: it cannot be at {url} as well",
            hint="move the directory, or unmount the old one; to use another disk, drtool target add and target drain",
        )
    spec = TargetSpec(name=row.name, url=url, access=access)
    store = open_in_time(spec, overlays=repository.targets.overlays)
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
            f"what lies at {url} is not {row.name} of this repository",
            hint="name the place that holds its drtool.json; for an empty one: drtool target add SITE/NAME URL",
        )


def _advice_on_moving(repository: Repository, name: TargetName, url: str) -> list[str]:
    known = next((spec for spec in repository.spec.targets if spec.name == name), None)
    if known is None or full_url(known.url) == full_url(url):
        return []
    return [f"this host's configuration still says that {name} is at {known.url}: change it there too"]
