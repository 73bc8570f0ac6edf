"""Admission of a new place to an existing repository: an empty place gets its marker and the key slots, and becomes a
target.

Invariants
    Nothing is written before the place was found empty, or with no more than an interrupted attempt left there.
    Key slots are stored before the manifest names the place, since every site must be able to open on its own at any
    moment.
"""

import os
from contextlib import closing

from drtool.errors import DrtoolError, FormatError, ObjectMissing, Refused, StoreError
from drtool.repository.marker import MARKER_OBJECT, Marker
from drtool.repository.places import EMPTY_PLACE, open_if_there, open_in_time
from drtool.repository.repository import Repository
from drtool.repository.slots import KEYS_PREFIX, put_slots, read_slots, table_of
from drtool.repository.spec import TargetSpec
from drtool.stores import Medium, VoterStore
from drtool.stores.names import PROBE_DIRECTORY

REGISTER_DIRECTORY = "manifest"


def look_at_place(repository: Repository, target: TargetSpec, *, may_hold_register: bool = False) -> None:
    """Raise `Refused` unless a new target's place is empty, or does not exist yet. `may_hold_register`: as for `admit`."""
    store = open_if_there(target, repository.targets.overlays)
    if store is not None:
        with closing(store):
            _check_free(repository, target, store, may_hold_register=may_hold_register)


def admit(repository: Repository, target: TargetSpec, *, may_hold_register: bool = False) -> tuple[VoterStore, str]:
    """Prepare the place and make it one of this run's targets. Return its store, and its marker's `target_id`.

    `may_hold_register`: an interrupted attempt may have begun a register there.
    """
    marker = _marked(repository, target, may_hold_register=may_hold_register)
    targets = repository.targets
    if targets.reachable(target.name):
        targets.drop(target.name, f"its place is taken by {target.url}")
    if not targets.extend(target, repository.id):
        raise StoreError(
            f"{target.url} was prepared for {target.name} but cannot be used: {targets.failures[target.name]}",
            target=target.name,
        )
    if target.keys:
        _copy_slots(repository, target)
    return targets.store(target.name), marker.target_id


def _marked(repository: Repository, target: TargetSpec, *, may_hold_register: bool) -> Marker:
    """Return the place's marker: a new one, or that of an earlier attempt."""
    with closing(open_in_time(target, create=True, overlays=repository.targets.overlays)) as store:
        _check_free(repository, target, store, may_hold_register=may_hold_register)
        left = _marker_of(store)
        if left is not None:
            return left
        marker = Marker(
            repository=repository.id.hex(),
            site=target.site,
            target=target.name,
            target_id=os.urandom(16).hex(),
            average_chunk_bytes=repository.view.state.policy.chunk_average_bytes,
        ).signed(repository.keyring)
        store.put(MARKER_OBJECT, marker.encode())
        return marker


def _marker_of(store: Medium) -> Marker | None:
    try:
        return Marker.read(store)
    except ObjectMissing:
        return None


def _check_free(repository: Repository, target: TargetSpec, store: Medium, *, may_hold_register: bool = False) -> None:
    """Refuse unless the place is empty, or holds only the remains of an interrupted attempt for this target."""
    names = [name for name in store.names() if name != PROBE_DIRECTORY]
    known = {MARKER_OBJECT, KEYS_PREFIX.rstrip("/"), *([REGISTER_DIRECTORY] if may_hold_register else [])}
    if names and not _is_ours(repository, target, store):
        raise Refused(f"{target.url} for {target.name} is not empty: it holds {names[0]}", hint=EMPTY_PLACE)
    kinds = {info.name.partition("/")[0] for info in store.list()} - known
    if kinds or set(names) - known:
        found = ", ".join(sorted(kinds or set(names) - known))
        raise Refused(
            f"{target.url} is already the place of {target.name}, and holds {found}",
            hint="if it only lost its vote: drtool site add SITE (to start over, name an empty directory)",
        )


def _is_ours(repository: Repository, target: TargetSpec, store: Medium) -> bool:
    try:
        marker = _marker_of(store)
    except FormatError:
        return False
    return marker is not None and marker.target == target.name and marker.authentic(repository.keyring)


def _copy_slots(repository: Repository, target: TargetSpec) -> None:
    held = read_slots(repository.targets, repository.view.state.targets)
    table = table_of(repository.view.state.keys, held, repository.id)
    texts = {
        slot.id.hex(): held.at[holders[0]][slot.id.hex()] for slot in table.slots if (holders := held.holders(slot))
    }
    failed = put_slots(repository.targets, [target.name], texts)
    if failed:
        raise DrtoolError(f"{target.name} did not accept the key slots, so nothing was changed: {failed[target.name]}")
