"""Execution of a change of the voters.

Invariants
    A new place holds its marker and the key slots before the manifest names it.
    Ring and voters change in one commit, so no host sees a voting site without a place, or the reverse.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from drtool.events import Emit, Stage, Warned
from drtool.manifest.facade import View
from drtool.manifest.ops import Op, SetRing
from drtool.manifest.records import Voter
from drtool.manifest.switching import Member
from drtool.model import SiteName, TargetName
from drtool.operations.sites.change import Change, rows_of
from drtool.operations.sites.planning import register_place, successor
from drtool.repository import Repository, TargetSpec
from drtool.repository.admitting import admit
from drtool.repository.founding import row_of
from drtool.repository.recognition import mend_markers
from drtool.repository.registers import register_at
from drtool.repository.session import WriterSession


def carry_out(
    repository: Repository,
    change: Change,
    target: TargetSpec | None,
    emit: Emit,
    session: WriterSession | None = None,
) -> None:
    """Make the change. `target`: the replacement. `Rejected`, with nothing changed, if another change was made
    meanwhile.

    `session`: the mover session under which the change was planned. It ends with the change.
    If there is nothing to change, voters that an earlier run left behind are brought up to date.
    """
    for message in mend_markers(repository):
        emit(Warned(message=message))
    if change.changes_nothing:
        if any(row.reachable and row.problem for row in repository.manifest.status().acceptors):
            repository.adopt(repository.manifest.refresh())
        return
    emit(Stage(name="committing"))
    places = {voter.site: voter for voter in repository.view.config.voters}
    ops: list[Op] = []
    registers = {site: voter.target for site, voter in places.items()}
    admitted = target if change.new_target is not None else None
    if admitted is not None:
        spec = successor(rows_of(repository, change.site), admitted)
        _, target_id = admit(repository, spec)
        repository.manifest.add_site(spec.site, register_at(repository.targets, spec.site))
        registers[spec.site] = spec.name
        ops.append(_ring_with(repository, change, spec, target_id))
    elif change.lost:
        ops.append(_ring_without(repository, change.lost))
    for site in change.fresh:
        if admitted is None:
            registers[site] = register_place(repository, site, emit)
            repository.manifest.add_site(site, repository.targets.register(registers[site]))
    members = [
        _member(repository, site, registers[site], places.get(site), fresh=site in change.fresh)
        for site in change.voters
    ]

    def switch(changes: Sequence[Op]) -> View:
        return repository.manifest.set_voters(members, changes)

    repository.adopt(switch(ops) if session is None else session.close_with(ops, switch))


def _member(repository: Repository, site: SiteName, target: TargetName, voter: Voter | None, *, fresh: bool) -> Member:
    """Return the member. A fresh register uses the update mode that its place offers."""
    mode = repository.targets.register(target).mode if voter is None or fresh else voter.mode
    return Member(site, target, mode=mode, fresh=fresh)


def _ring_with(repository: Repository, change: Change, spec: TargetSpec, target_id: str) -> SetRing:
    """Return the ring with the old site's targets lost and the new one added.

    A target of the same name gets the new id.
    """
    state = repository.view.state
    was_there = any(row.name == spec.name for row in state.targets)
    new = replace(row_of(spec, repository.spec.host), id=target_id if was_there else "")
    rest = [
        replace(row, state="lost") if row.name in change.lost else row for row in state.targets if row.name != spec.name
    ]
    return SetRing(state.ring_epoch + 1, (*rest, new))


def _ring_without(repository: Repository, gone: Sequence[TargetName]) -> SetRing:
    """Return the ring with these given up. While they hold a voter's register they cannot be removed from it."""
    state = repository.view.state
    rows = (replace(row, state="lost") if row.name in gone else row for row in state.targets)
    return SetRing(state.ring_epoch + 1, tuple(rows))
