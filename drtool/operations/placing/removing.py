"""`target remove`: a target is forgotten, once nothing that is needed lies there alone.

Nobody is to write there between the look at what it holds and its end: it is drained first, so that whoever begins from then on
writes elsewhere; whoever began before must be done, or be ended.

Invariants
    Refused while the target has the only copy of anything, may have it, or holds a voter's register.
    What lies there is not touched.
"""

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from drtool.errors import Refused, UsageError
from drtool.events import Emit, Stage, Warned
from drtool.manifest.records import Session, Target
from drtool.manifest.state import State
from drtool.model import TargetName, pack_object
from drtool.operations.placing.change import TargetChange, change_of
from drtool.operations.placing.committing import set_rows
from drtool.repository import Repository
from drtool.repository.copying import Amount
from drtool.repository.ending import end_dead_sessions
from drtool.repository.expected import Expected, expected_objects
from drtool.repository.identity import gone, identify
from drtool.repository.inventory import take_inventory
from drtool.repository.membership import Rows, check_register, drained, row_named, without
from drtool.repository.placement import distinct_sites

WRITERS = ("backup", "prune")
RING_CHANGES = ("set-ring", "found")


class _Holdings(Struct, frozen=True):
    """What a target has of what is needed: all, what nobody else is seen to have, what too few others have.

    `condemned`: how many of those that nobody else has are condemned by prune, which no rebalance moves.
    """

    all: Amount = Amount()
    only: Amount = Amount()
    below: int = 0
    condemned: int = 0


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
    if row.votes_only or row.state == "lost":
        held = _Holdings()
    else:
        if not dry_run:
            emit(Stage(name="draining"))
            _stop_writing_there(repository, name)
        _check_writers(repository, row, dry_run=dry_run)
        held = _holdings(repository, name, emit)
        _check_only_copies(repository, name, held, gone_for_good=gone_for_good, emit=emit)
    if not dry_run:
        _forget(repository, row, emit)
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


def _forget(repository: Repository, row: Target, emit: Emit) -> None:
    """Takes it out of the ring that its objects were judged by; a ring that changed since is for another run."""
    epoch = repository.view.state.ring_epoch

    def rows_after(state: State) -> Rows:
        if state.ring_epoch != epoch:
            raise Refused(
                f"the ring has changed while it was looked at what {row.name} holds", hint="run the same command again"
            )
        check_register(state.config, row.name)
        return without(state.targets, row.name, state.policy.copies)

    emit(Stage(name="committing"))
    set_rows(repository, rows_after)


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
    dead = set(gone(view.state.sessions, identify(repository.spec.state_dir)))
    writers = [row for row in view.state.sessions if row.kind in WRITERS and row.id not in dead]
    if not writers or whenever:
        yield from writers
        return
    entries = repository.manifest.log(view, view.sequence - min(row.opened for row in writers) + 1)
    changed = max((entry.sequence for entry in entries if entry.kind in RING_CHANGES), default=0)
    yield from (row for row in writers if row.opened < changed)


def _holdings(repository: Repository, name: TargetName, emit: Emit) -> _Holdings:
    """By the listings; copies that were found damaged do not count."""
    emit(Stage(name="listing"))
    for segment, why in repository.load_index().items():
        raise Refused(
            f"index segment {segment.hex()[:16]}… cannot be read, so nobody knows what {name} is needed for: {why}",
            hint="drtool repair first",
        )
    inventory = take_inventory(repository.targets)
    damaged = repository.findings.all()
    copies = repository.view.state.policy.copies
    listed = inventory.objects.get(name)
    all_, only, below, condemned = Amount(), Amount(), 0, 0
    going = {pack_object(pack) for pack in repository.going_packs(repository.view)}
    for expected in _needed(repository):
        holders = {
            t for t in inventory.holders(expected.name, expected.size_bytes) if (t, expected.name) not in damaged
        }
        one = Amount(1, expected.size_bytes)
        here = name in holders or (listed is None and _may_be_there(expected, name, holders))
        all_ += one if name in holders else Amount()
        alone = here and not holders - {name}
        only += one if alone else Amount()
        condemned += alone and expected.name in going
        below += here and distinct_sites(holders - {name}) < copies
    return _Holdings(all_, only, below, condemned)


def _may_be_there(expected: Expected, name: TargetName, holders: set[TargetName]) -> bool:
    """Whether a target that cannot be listed may have it: it was put there, or nobody else has it."""
    return name in expected.written or not holders


def _needed(repository: Repository) -> Iterator[Expected]:
    """Everything that the catalogue refers to; what prune has condemned may yet be taken back."""
    state = repository.view.state
    return expected_objects(repository.index.packs(), state.segments, repository.placement, state.policy.copies)


def _check_only_copies(
    repository: Repository, name: TargetName, held: _Holdings, *, gone_for_good: bool, emit: Emit
) -> None:
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
        raise Refused(
            f"{name} has the only good copy of {held.only.objects} objects ({held.only.bytes} bytes)",
            hint=f"drtool target drain {name} && drtool rebalance copies them elsewhere; then remove it",
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
