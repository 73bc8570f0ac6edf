"""The work on one object: read a good copy, and write it where it is missing.

Invariants
    The bytes written have the BLAKE3 in the object's name, so a copy is identical to the first.
    A copy is found bad only if its target answered. A server that does not answer is waited for if no other copy is
    good, or if it is the one to be written.
    Surplus copies are only named here, and only if every desired place accepted the object. `surplus` reads those back.
"""

from msgspec import Struct

from drtool.crypto import object_name
from drtool.errors import DrtoolError, ObjectMissing, StoreError
from drtool.model import TargetName
from drtool.repository.reconciling import Job
from drtool.repository.targets import Targets


class Amount(Struct, frozen=True):
    """Copies, and their bytes."""

    objects: int = 0
    bytes: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.objects + other.objects, self.bytes + other.bytes)


class Outcome(Struct, frozen=True):
    """The result of one job. `found_bad`: copies that turned out damaged when they were read."""

    job: Job
    copied: tuple[TargetName, ...] = ()
    rebuilt: tuple[TargetName, ...] = ()
    removable: tuple[TargetName, ...] = ()
    found_bad: tuple[TargetName, ...] = ()
    lost: bool = False

    @property
    def holders(self) -> frozenset[TargetName]:
        """Return the targets with a good copy, before anything is removed."""
        return frozenset((*self.job.sources, *self.copied, *self.rebuilt)) - (
            frozenset(self.found_bad) - frozenset(self.rebuilt)
        )


def carry_out(targets: Targets, job: Job) -> Outcome:
    """Write the missing copies. Copies that may be removed afterwards are only named."""
    data, bad = _good_copy(targets, job)
    if data is None:
        return Outcome(job, found_bad=bad, lost=True)
    mend = tuple(dict.fromkeys((*job.bad, *(name for name in bad if name not in job.surplus))))
    rebuilt = tuple(name for name in mend if _put(targets, name, job.expected.name, data))
    copied = tuple(name for name in job.write if _put(targets, name, job.expected.name, data))
    whole = set(job.write) <= set(copied) and set(mend) <= set(rebuilt)
    removable = job.surplus if whole else ()
    return Outcome(job, copied, rebuilt, removable, bad)


def _good_copy(targets: Targets, job: Job) -> tuple[bytes | None, tuple[TargetName, ...]]:
    """Return the object's bytes, and the targets whose copies turned out bad."""
    bad: list[TargetName] = []
    silent: list[TargetName] = []
    for name in job.sources:
        try:
            data = _sound(targets, name, job.expected.name)
        except DrtoolError as error:
            data = None
            if targets.may_return(name, error):
                silent.append(name)
                continue
        if data is not None:
            return data, tuple(bad)
        if targets.reachable(name):
            bad.append(name)
    copies = (read_whole(targets, name, job.expected.name) for name in (*silent, *job.given_up))
    return next((data for data in copies if data is not None), None), tuple(bad)


def read_whole(targets: Targets, target: TargetName, name: str) -> bytes | None:
    """Return the object if the target has it and its content matches its name. Its server is waited for."""
    try:
        return targets.patiently(target, lambda: _sound(targets, target, name))
    except DrtoolError:
        return None


def _sound(targets: Targets, target: TargetName, name: str) -> bytes | None:
    """Return the object, or None if its content does not match its name."""
    data = targets.store(target).get(name)
    return data if object_name(data).hex() == name.rpartition("/")[2] else None


def is_whole(targets: Targets, target: TargetName, name: str) -> bool | None:
    """Return whether a copy matches its name, or None if it cannot be read now. An absent one does not."""
    try:
        return targets.patiently(target, lambda: _sound(targets, target, name)) is not None
    except ObjectMissing:
        return False
    except DrtoolError:
        return None


def _put(targets: Targets, name: TargetName, object_: str, data: bytes) -> bool:
    if not targets.writable(name):
        return False
    try:
        targets.patiently(name, lambda: targets.store(name).put(object_, data))
    except StoreError as error:
        targets.fail_by(name, error)
        return False
    return True


def remove(targets: Targets, target: TargetName, name: str) -> bool | None:
    """Delete one copy. Return whether it is gone, or None if unknown because the deletion may still take effect."""
    if not targets.writable(target):
        return False
    try:
        targets.store(target).delete(name)
    except StoreError as error:
        targets.fail_by(target, error)
        return None if error.transient else False
    return True
