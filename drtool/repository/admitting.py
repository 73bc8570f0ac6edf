"""A new place for a repository that exists: an empty directory gets its marker and the key slots, then it is one of the targets.

Invariants
    Nothing is written before the directory was seen to be empty, or to hold no more than what an interrupted attempt left.
    Key slots lie there before the manifest names the place: a site that can be lost at any moment must open by itself.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from drtool.errors import DrtoolError, FormatError, ObjectMissing, Refused, StoreError
from drtool.repository.marker import MARKER_OBJECT, Marker
from drtool.repository.repository import Repository
from drtool.repository.slots import KEYS_PREFIX, put_slots, read_slots, table_of
from drtool.repository.spec import TargetSpec, local_path
from drtool.repository.targets import check_answers
from drtool.stores import LocalStore, VoterStore, VoteVerdict
from drtool.stores.names import TEMPORARY_PREFIX


def look_at_place(repository: Repository, target: TargetSpec) -> None:
    """`Refused` unless a new target's directory is free, or yet to be made."""
    check_answers(target.url)
    if local_path(target.url).exists():
        with _opened(target) as store:
            _check_free(repository, target, store)


def vote_verdict(target: TargetSpec) -> VoteVerdict:
    """Whether a register may lie at a place; of one that is yet to be made, where it would be made."""
    check_answers(target.url)
    place = local_path(target.url)
    while not place.exists():
        place = place.parent
    with _opened(replace(target, url=str(place))) as store:
        return store.vote_verdict()


def admit(repository: Repository, target: TargetSpec) -> tuple[VoterStore, str]:
    """Prepares the directory and makes it one of this run's targets; its store, and its marker's `target_id`."""
    marker = _marked(repository, target)
    targets = repository.targets
    if targets.reachable(target.name):
        targets.drop(target.name, f"its place is taken by {target.url}")
    if not targets.extend(target, repository.id):
        raise StoreError(
            f"{target.url} was prepared for {target.name} and cannot be used: {targets.failures[target.name]}",
            target=target.name,
        )
    if target.keys:
        _copy_slots(repository, target)
    return targets.store(target.name), marker.target_id


def _marked(repository: Repository, target: TargetSpec) -> Marker:
    """The directory with its marker: made, or what an earlier attempt made."""
    with _opened(target, create=True) as store:
        _check_free(repository, target, store)
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


@contextmanager
def _opened(target: TargetSpec, *, create: bool = False) -> Iterator[LocalStore]:
    check_answers(target.url)
    root = local_path(target.url)
    store = LocalStore.create(root) if create else LocalStore.open(root)
    try:
        yield store
    finally:
        store.close()


def _marker_of(store: LocalStore) -> Marker | None:
    try:
        return Marker.read(store)
    except ObjectMissing:
        return None


def _check_free(repository: Repository, target: TargetSpec, store: LocalStore) -> None:
    """Empty, or with what an interrupted attempt for this very target left there: a marker and key slots."""
    names = sorted(name for name in os.listdir(local_path(target.url)) if not name.startswith(TEMPORARY_PREFIX))
    known = {MARKER_OBJECT, KEYS_PREFIX.rstrip("/")}
    if names and not _is_ours(repository, target, store):
        raise Refused(
            f"{target.url} for {target.name} is not empty: it holds {names[0]}", hint="name an empty or a new directory"
        )
    kinds = {info.name.partition("/")[0] for info in store.list()} - known
    if kinds or set(names) - known:
        found = ", ".join(sorted(kinds or set(names) - known))
        raise Refused(
            f"{target.url} is the place of {target.name} already, and holds {found}",
            hint="a place that has only lost its vote: drtool site add SITE; to begin anew, name an empty directory",
        )


def _is_ours(repository: Repository, target: TargetSpec, store: LocalStore) -> bool:
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
        raise DrtoolError(f"{target.name} did not take the key slots: {failed[target.name]}; nothing was changed")
