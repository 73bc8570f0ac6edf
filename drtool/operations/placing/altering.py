"""`target set` and `target drain`: changes of weight, address (`relocating.py`) and state."""

from collections.abc import Callable

from msgspec.structs import replace

from drtool.config.urls import NO_ACCESS, Access
from drtool.events import Emit, Stage
from drtool.manifest.records import Target
from drtool.manifest.state import State
from drtool.model import TargetName
from drtool.operations.placing.change import TargetChange, change_of
from drtool.operations.placing.committing import set_rows
from drtool.operations.placing.relocating import check_moved_there, relocate
from drtool.repository import Repository, TargetSpec
from drtool.repository.founding import row_of
from drtool.repository.membership import Rows, drained, row_named, storing_row, with_row
from drtool.repository.places import full_url

REBALANCE = "drtool ring preview shows what that moves, drtool rebalance moves it"


def set_target(
    repository: Repository,
    name: TargetName,
    *,
    weight: int | None = None,
    url: str | None = None,
    access: Access = NO_ACCESS,
    gone: bool = False,
    active: bool = False,
    dry_run: bool,
    emit: Emit,
) -> TargetChange:
    """Change a target's weight or address. `active` ends a drain. `gone` gives up a copy at the old address.

    An arbiter's place has an address but neither weight nor state.
    """
    rows = repository.view.state.targets
    only_moves = url is not None and weight is None and not active
    before = row_named(rows, name) if only_moves else storing_row(rows, name)
    moves = url is not None and full_url(url) != full_url(before.url)
    if url is not None and moves:
        check_moved_there(repository, before, url, access, gone=gone)

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

    def commit(rows_after: Callable[[State], Rows]) -> None:
        if url is not None and moves:
            relocate(repository, name, url, access, rows_after(repository.view.state))
        else:
            set_rows(repository, rows_after)

    return _change(
        repository,
        "set",
        name,
        lambda state: with_row(state.targets, altered(row_named(state.targets, name))),
        advice,
        commit,
        dry_run=dry_run,
        emit=emit,
    )


def drain_target(repository: Repository, name: TargetName, *, dry_run: bool, emit: Emit) -> TargetChange:
    """Stop placing objects there, so that `rebalance` can empty it. `Refused` if the rest has no room for all copies."""

    def rows_after(state: State) -> Rows:
        return drained(state.targets, name, state.policy.copies)

    advice = [f"drtool rebalance empties it, then drtool target remove {name} removes it"]

    def commit(rows: Callable[[State], Rows]) -> None:
        set_rows(repository, rows)

    return _change(repository, "drain", name, rows_after, advice, commit, dry_run=dry_run, emit=emit)


def _change(
    repository: Repository,
    verb: str,
    name: TargetName,
    rows_after: Callable[[State], Rows],
    advice: list[str],
    commit: Callable[[Callable[[State], Rows]], None],
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
    commit(rows_after)
    epoch = repository.view.state.ring_epoch
    return replace(change, from_epoch=epoch - 1, to_epoch=epoch)


def _advice_on_moving(repository: Repository, name: TargetName, url: str) -> list[str]:
    known = next((spec for spec in repository.spec.targets if spec.name == name), None)
    if known is None or full_url(known.url) == full_url(url):
        return []
    return [f"this host's configuration still says that {name} is at {known.url}: change it there too"]
