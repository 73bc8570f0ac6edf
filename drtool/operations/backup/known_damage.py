"""The damaged copies that a backup reports and records: those that it met, and those that it repaired."""

from collections.abc import Collection, Iterator

from drtool.events import Emit, Warned
from drtool.manifest.names import MARKER, SLOTS, is_catalogue
from drtool.model import TargetName
from drtool.repository import Repository
from drtool.repository.findings import Copy


def record_damage(repository: Repository, emit: Emit, sound: Collection[Copy] = ()) -> None:
    """Record for all hosts which copies this host found damaged, now or earlier without a quorum, and which are whole."""
    found = {(bad.target, bad.object) for bad in repository.objects.bad_copies.values() if bad.damaged}
    untold = repository.findings.update(found, sound)
    if untold:
        emit(Warned(message=f"the damaged copies are not recorded for other hosts yet: {untold}"))


def put_right(repository: Repository, failed: Collection[TargetName]) -> Iterator[Copy]:
    """Yield the key slots and markers that were found damaged once and are whole, since this run read or repaired each.

    `failed`: the targets whose key slots could not be repaired.
    """
    targets = repository.targets
    here = set(targets.online())
    for target, name in repository.findings.all():
        is_whole = (name.startswith(SLOTS) and target not in failed) or (
            name == MARKER and target not in targets.unmarked
        )
        if is_whole and target in here:
            yield target, name


def warn_of_catalogue(repository: Repository, emit: Emit) -> None:
    """Warn where the catalogue itself is known to be damaged.

    A missing copy of it is not a fault of this snapshot's data.
    """
    lost = repository.targets.lost
    where = {target for target, name in repository.findings.all() if is_catalogue(name) and target not in lost}
    if where:
        names = ", ".join(sorted(where))
        emit(Warned(message=f"the catalogue is known to be damaged at {names}: drtool repair replaces what it can"))
