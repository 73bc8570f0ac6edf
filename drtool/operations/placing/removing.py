"""`target remove`: a target is forgotten, once nothing that is needed lies there alone.

Nobody is to write there between the look at what it holds and its end: it is drained first, so that whoever begins from then on
writes elsewhere; whoever began before must be done, or be ended.

Invariants
    Refused while the target has the only copy of anything, may have it, or holds a voter's register.
    No copy is taken away between the look and the change: the mover session is held meanwhile.
    What lies there is not touched.
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
    """Takes a target out of the ring. `Refused` if anything would be lost by that.

    `gone_for_good`: it cannot be reached and never will be; what only it had is lost already.
    """
    state = repository.view.state
    row = row_named(state.targets, name)
    check_register(repository.view.config, name)
    without(state.targets, name, state.policy.copies)
    if gone_for_good and repository.targets.reachable(name):
        raise UsageError(f"{name} is there, at {repository.targets.specs[name].url}", hint="repeat this without --gone")
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
    """Return what the target holds; `Refused` if something would be lost without it."""
    if row.votes_only or (row.state == "lost" and not repository.targets.reachable(row.name)):
        return Holdings()
    emit(Stage(name="listing"))
    held = holdings(repository, (row.name,))
    _check_only_copies(repository, row, held, gone_for_good=gone_for_good, emit=emit)
    return held


def _forget(repository: Repository, row: Target, emit: Emit, session: WriterSession | None = None) -> None:
    """Takes it out of the ring that its objects were judged by; a ring that changed since is for another run."""
    epoch = repository.view.state.ring_epoch

    def rows_after(state: State) -> Rows:
        if state.ring_epoch != epoch:
            raise Refused(f"the ring changed while {row.name} was being inspected", hint="run the same command again")
        check_register(state.config, row.name)
        return without(state.targets, row.name, state.policy.copies)

    emit(Stage(name="committing"))
    set_rows(repository, rows_after, session)


def _stop_writing_there(repository: Repository, name: TargetName) -> None:
    """Drains the target, and ends the sessions of dead processes: neither writes there from here on."""
    end_dead_sessions(repository)
    set_rows(repository, lambda state: drained(state.targets, name, state.policy.copies))


def _check_writers(repository: Repository, row: Target, *, dry_run: bool) -> None:
    """Who began before the target was drained may still write there, and what is written is not known before the end."""
    for session in _older_writers(repository, whenever=dry_run and row.state == "active"):
        raise Refused(
            f"a {session.kind} on {session.host} (process {session.pid}) began before {row.name} was drained, "
            "and may still store there",
            hint=f"wait until it is done; if it is gone for good: drtool session expire {session.id.hex()[:8]}",
        )


def _older_writers(repository: Repository, *, whenever: bool) -> Iterator[Session]:
    """The writers that are at work since before the last change of the ring; or `whenever` they began."""
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
                message=f"{held.only.objects} objects were perhaps on {name} alone: drtool verify says what is missing"
            )
        )
        return
    if held.condemned == held.only.objects:
        raise Refused(
            f"{name} has the only copy of {held.condemned} packs that prune has condemned, and may take back",
            hint="drtool prune ends that",
        )
    if repository.targets.reachable(name):
        empty = "drtool repair" if row.state == "lost" else f"drtool target drain {name} && drtool rebalance"
        raise Refused(
            f"{name} has the only good copy of {held.only.objects} objects ({held.only.bytes} bytes)",
            hint=f"{empty} copies them elsewhere; then remove it",
        )
    raise Refused(
        f"{name} cannot be reached, and may have the only copy of {held.only.objects} objects ({held.only.bytes} bytes)",
        hint=f"bring it back; if it is gone for good, with what only it had: drtool target remove {name} --gone",
    )


def _advice(repository: Repository, row: Target, below: int) -> Iterator[str]:
    if below:
        yield "drtool repair makes the copies that are missing then"
    if repository.targets.reachable(row.name):
        yield f"what lies at {row.url} is not touched, the key slots there neither: wipe it before it leaves your hands"
    if any(spec.name == row.name for spec in repository.spec.targets):
        yield f"the configuration still names {row.name}: take it out there"
