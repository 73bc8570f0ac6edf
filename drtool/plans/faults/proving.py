"""Proof that a fault is active, and that it causes the failure: the target answered before.

Invariants
    No probe changes a target: below the overlay is a read-only store, which refuses anything that an overlay lets through.
    A target that hangs is abandoned after a timeout.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TypeAlias

from drtool.errors import DrtoolError, ObjectMissing, Refused, StoreError
from drtool.repository.marker import MARKER_OBJECT
from drtool.repository.overlays import OverlayRecord, Overlays
from drtool.repository.spec import TargetSpec
from drtool.stores import Errand, ReadOnlyStore, VoterStore
from drtool.stores.overlay import flips

Opener: TypeAlias = Callable[[TargetSpec], VoterStore]

ANSWER_TIMEOUT_S = 20.0
OBJECT_TIMEOUT_S = 5.0
_NOTHING = "probe/drill"


def check_answers(overlays: Overlays, spec: TargetSpec, objects: Sequence[str], opener: Opener) -> None:
    """Raise Refused unless the target answers and holds the objects to corrupt."""

    def ask() -> None:
        with closing(overlays.opened(spec, opener)) as store:
            _ask(store)
            for name in objects:
                if not store.stat(name):
                    raise Refused(f"{name} at {spec.name} is empty, so there is nothing to corrupt")

    try:
        Errand(ask).result(ANSWER_TIMEOUT_S + OBJECT_TIMEOUT_S * len(objects), spec.url)
    except ObjectMissing as error:
        raise Refused(f"no fault is injected at {spec.name}: {error.message}") from error
    except StoreError as error:
        raise Refused(
            f"no fault is injected at {spec.name}, which does not answer now: {error.message}", hint=error.hint
        ) from error


def prove(overlays: Overlays, spec: TargetSpec, record: OverlayRecord, opener: Opener) -> None:
    """Raise DrtoolError unless the overlay has its effect."""
    timeout_s = ANSWER_TIMEOUT_S + OBJECT_TIMEOUT_S * len(record.objects) + 2 * record.latency_s

    def ask() -> str:
        return _PROOFS[record.kind](overlays, spec, record, opener)

    try:
        problem = Errand(ask).result(timeout_s, spec.url)
    except StoreError as error:
        problem = f"the target failed for another reason: {error.message}"
    if problem:
        raise DrtoolError(f"the fault {record.kind} at {spec.name} is not active: {problem}")


def _refused(overlays: Overlays, spec: TargetSpec, record: OverlayRecord, opener: Opener) -> str:
    """Check a fault that refuses calls: the call must be refused by this very overlay."""
    try:
        with closing(overlays.opened(spec, lambda spec: ReadOnlyStore(opener(spec)))) as store:
            if record.kind == "offline":
                _ask(store)
            elif record.kind == "full":
                store.put(_NOTHING, b"x")
            else:
                store.delete(_NOTHING)
    except StoreError as error:
        return "" if error.hint == record.hint else f"the target failed for another reason: {error.message}"
    return "it answered"


def _slow(overlays: Overlays, spec: TargetSpec, record: OverlayRecord, opener: Opener) -> str:
    with closing(overlays.opened(spec, opener)) as store:
        began = time.monotonic()
        size_bytes = _ask(store)
        took_s = time.monotonic() - began
    least_s = record.latency_s + size_bytes / (record.bytes_per_second or float("inf"))
    return "" if took_s >= least_s else f"it answered in {took_s:.3g} s instead of at least {least_s:.3g} s"


def _corrupted(overlays: Overlays, spec: TargetSpec, record: OverlayRecord, opener: Opener) -> str:
    with closing(opener(spec)) as medium, closing(overlays.opened(spec, opener)) as store:
        for name in record.objects:
            place = next(iter(flips(record, name, medium.stat(name))))
            if medium.get(name, place, 1) == store.get(name, place, 1):
                return f"{name} was read without corruption"
    return ""


def _ask(store: VoterStore) -> int:
    """Make one call that every target answers, and return the number of bytes it moved."""
    try:
        return len(store.get(MARKER_OBJECT))
    except ObjectMissing:
        return 0


_PROOFS: dict[str, Callable[[Overlays, TargetSpec, OverlayRecord, Opener], str]] = {
    "offline": _refused,
    "read-only": _refused,
    "full": _refused,
    "slow": _slow,
    "corrupt": _corrupted,
}
