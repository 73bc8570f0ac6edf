"""`target remove`: removes a target from the ring, once no needed data is only there.

No run may write there between the inspection and the removal. The target is drained first, so runs that start later
write elsewhere. Runs that started earlier must end, or be expired.

Invariants
    Refused while the target has, or may have, the only copy of anything, or holds a voter's register.
    No copy is removed between the inspection and the change, since the mover session is held meanwhile.
    Existing objects are left in place.
"""

from collections.abc import Iterator
from contextlib import nullcontext

from msgspec.structs import replace

from drtool.errors import Refused, UsageError
from drtool.events import Emit, Stage, Warned
from drtool.manifest.records import Session, Target
from drtool.manifest.state import State
from drtool.model import TargetName
from drtool.operations.placing.change import TargetChange, change_of
from drtool.operations.placing.committing import set_rows
from drtool.repository import Repository
from drtool.repository.ending import end_dead_sessions
from drtool.repository.holdings import Holdings, holdings
from drtool.repository.identity import gone, identify
from drtool.repository.membership import Rows, check_register, drained, row_named, without
from drtool.repository.movers import movers_away
from drtool.repository.session import WriterSession

WRITERS = ("backup", "prune")
RING_CHANGES = ("set-ring", "found")


def remove_target(
    repository: Repository, name: TargetName, *, gone_for_good: bool, dry_run: bool, emit: Emit
) -> TargetChange:
    """Remove a target from the ring. `Refused` if anything would be lost.

    `gone_for_good`: it is unreachable for ever, and copies that only it had are lost already.
    """
    state = repository.view.state
    row = row_named(state.targets, name)
    check_register(repository.view.config, name)
    without(state.targets, name, state.policy.copies)
    if gone_for_good and repository.targets.reachable(name):
        raise UsageError(
            f"{name} is reachable, at {repository.targets.specs[name].url}", hint="repeat this without --gone"
        )
    if row.state != "lost" and not row.votes_only:
        if not dry_run:
            emit(Stage(name="draining"))
            _stop_writing_there(repository, name)
        _check_writers(repository, row, dry_run=dry_run)
    with nullcontext() if dry_run or row.votes_only else movers_away(repository) as session:
        held = _judged(repository, row, gone_for_good=gone_for_good, emit=emit)
        if not dry_run:
            _forget(repository, row, emit, session)
    change = change_of(
        repository,
        "remove",
        row,
        changed=True,
        dry_run=dry_run,
        holds=held.all,
        below_copies=held.below,
        advice=list(_advice(repository, row, held.below)),
    )
    steps = 2 if row.state == "active" and not row.votes_only else 1
    to_epoch = state.ring_epoch + steps if dry_run else repository.view.state.ring_epoch
    return replace(change, from_epoch=state.ring_epoch, to_epoch=to_epoch, state="removed")


def _judged(repository: Repository, row: Target, *, gone_for_good: bool, emit: Emit) -> Holdings:
    """Return what the target holds. `Refused` if something would be lost without it."""
    if row.votes_only or (row.state == "lost" and not repository.targets.reachable(row.name)):
        return Holdings()
    emit(Stage(name="listing"))
    held = holdings(repository, (row.name,))
    _check_only_copies(repository, row, held, gone_for_good=gone_for_good, emit=emit)
    return held


def _forget(repository: Repository, row: Target, emit: Emit, session: WriterSession | None = None) -> None:
    """Remove it from the ring on which its objects were judged. If the ring has changed since, refuse."""
    epoch = repository.view.state.ring_epoch

    def rows_after(state: State) -> Rows:
        if state.ring_epoch != epoch:
            raise Refused(f"the ring changed while {row.name} was being inspected", hint="run the same command again")
        check_register(state.config, row.name)
        return without(state.targets, row.name, state.policy.copies)

    emit(Stage(name="committing"))
    set_rows(repository, rows_after, session)


def _stop_writing_there(repository: Repository, name: TargetName) -> None:
    """Drain the target and end the sessions of dead processes, so that neither writes there from now on."""
    end_dead_sessions(repository)
    set_rows(repository, lambda state: drained(state.targets, name, state.policy.copies))


def _check_writers(repository: Repository, row: Target, *, dry_run: bool) -> None:
    """Refuse while a session is open that began before the drain: it may still write there."""
    for session in _older_writers(repository, whenever=dry_run and row.state == "active"):
        raise Refused(
            f"a {session.kind} on {session.host} (process {session.pid}) began before {row.name} was drained, "
            "and may still store there",
            hint=f"wait until it is done; if it is gone for good: drtool session expire {session.id.hex()[:8]}",
        )


def _older_writers(repository: Repository, *, whenever: bool) -> Iterator[Session]:
    """Yield the writers that began before the last change of the ring, or all with `whenever`."""
    view = repository.view
    dead = set(gone(view.state.sessions, identify(repository)))
    writers = [row for row in view.state.sessions if row.kind in WRITERS and row.id not in dead]
    if not writers or whenever:
        yield from writers
        return
    entries = repository.manifest.log(view, view.sequence - min(row.opened for row in writers) + 1)
    changed = max((entry.sequence for entry in entries if entry.kind in RING_CHANGES), default=0)
    yield from (row for row in writers if row.opened < changed)


def _check_only_copies(repository: Repository, row: Target, held: Holdings, *, gone_for_good: bool, emit: Emit) -> None:
    name = row.name
    if not held.only.objects:
        return
    if gone_for_good:
        emit(
            Warned(
                message=f"{held.only.objects} objects may have been only on {name}: drtool verify lists what is missing"
            )
        )
        return
    if held.condemned == held.only.objects:
        raise Refused(
            f"{name} has the only copy of {held.condemned} packs that prune has condemned but may take back",
            hint="drtool prune resolves that",
        )
    if repository.targets.reachable(name):
        empty = "drtool repair" if row.state == "lost" else f"drtool target drain {name} && drtool rebalance"
        raise Refused(
            f"{name} has the only good copy of {held.only.objects} objects ({held.only.bytes} bytes)",
            hint=f"{empty} copies them elsewhere, then remove it",
        )
    raise Refused(
        f"{name} cannot be reached, and may have the only copy of {held.only.objects} objects ({held.only.bytes} bytes)",
        hint=f"bring it back, or give it and those copies up for good: drtool target remove {name} --gone",
    )


def _advice(repository: Repository, row: Target, below: int) -> Iterator[str]:
    if below:
        yield "drtool repair then makes the missing copies"
    if repository.targets.reachable(row.name):
        yield f"the data at {row.url} is left in place, including the key slots: wipe it before you give it away"
    if any(spec.name == row.name for spec in repository.spec.targets):
        yield f"the configuration still names {row.name}: remove it there"
