"""The measured speed of each target, used to choose among several. Pure: the clock's readings are parameters.

The model has one number per target: seconds per byte, where a request counts as `REQUEST_BYTES` more than it moves, for
its round trip. It follows the last few dozen readings, and fades slowly while a target is not asked, so that a slow one
is tried again now and then.

Invariants
    A target that failed comes after all others, for a number of questions that doubles with each failure in a row.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from drtool.errors import DrtoolError, ObjectMissing, StoreError
from drtool.model import TargetName

REQUEST_BYTES = 256 * 1024
WEIGHT = 0.2
FADING = 0.98
UNKNOWN_S_PER_BYTE = 0.0
"""A target counts as fast until it was asked."""
PASSED_OVER = 8
PASSED_OVER_MAX = 512


class _Reading(Struct):
    s_per_byte: float = UNKNOWN_S_PER_BYTE
    under_way: int = 0
    failures: int = 0
    passed_over: int = 0
    """How often others are asked first."""


def is_failure(error: DrtoolError) -> bool:
    """Return whether the error says something about the target rather than about one object."""
    return isinstance(error, StoreError) and not isinstance(error, ObjectMissing)


class Pace:
    """The measurements of some targets. Not thread-safe."""

    def __init__(self) -> None:
        self._known: dict[TargetName, _Reading] = {}

    def note(self, target: TargetName, size_bytes: int, seconds: float) -> None:
        """Record the time it took to read so much."""
        known = self._of(target)
        known.failures = known.passed_over = 0
        self.note_late(target, size_bytes, seconds)

    def note_late(self, target: TargetName, size_bytes: int, seconds: float) -> None:
        """Record a time that has passed without an answer yet."""
        fresh = seconds / (size_bytes + REQUEST_BYTES)
        known = self._of(target)
        if known.s_per_byte == UNKNOWN_S_PER_BYTE:
            known.s_per_byte = fresh
        else:
            known.s_per_byte += WEIGHT * (fresh - known.s_per_byte)

    def fail(self, target: TargetName) -> None:
        """Record a failed read."""
        known = self._of(target)
        known.failures += 1
        known.passed_over = min(PASSED_OVER << min(known.failures, 10), PASSED_OVER_MAX)

    def begin(self, target: TargetName) -> None:
        """Record the start of a read."""
        self._of(target).under_way += 1

    def end(self, target: TargetName) -> None:
        self._known[target].under_way -= 1

    def is_failing(self, target: TargetName) -> bool:
        """Return whether it failed, and should not be tried again yet."""
        return self._of(target).passed_over > 0

    def expected_s(self, target: TargetName, size_bytes: int) -> float | None:
        """Return how long a read there should take, after those in progress. None if unknown."""
        known = self._known.get(target)
        if known is None or known.s_per_byte == UNKNOWN_S_PER_BYTE:
            return None
        return known.s_per_byte * (size_bytes + REQUEST_BYTES) * (1 + known.under_way)

    def order(self, targets: Iterable[TargetName], size_bytes: int) -> Sequence[TargetName]:
        """Return the targets ordered by expected answer time. Equal ones keep their order."""

        def rank(target: TargetName) -> tuple[bool, float]:
            return self.is_failing(target), self.expected_s(target, size_bytes) or 0.0

        ordered = sorted(targets, key=rank)
        for other in map(self._of, ordered[1:]):
            other.s_per_byte *= FADING
            other.passed_over = max(0, other.passed_over - 1)
        return ordered

    def _of(self, target: TargetName) -> _Reading:
        return self._known.setdefault(target, _Reading())
