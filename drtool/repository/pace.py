"""How fast each target has answered so far, and which of several to ask: PURE, the clock's readings are handed in.

The model has one number for each target: seconds for each byte moved, where a request counts as `REQUEST_BYTES` more than it
moves, for its round trip. It follows the last few dozen readings, and fades slowly while a target is not asked, so that one
that was slow is tried again now and then.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from drtool.model import TargetName

REQUEST_BYTES = 256 * 1024
WEIGHT = 0.2
FADING = 0.98
UNKNOWN_S_PER_BYTE = 0.0
"""Nobody is slow before being asked."""


class _Reading(Struct):
    s_per_byte: float
    under_way: int = 0


class Pace:
    """What is known of some targets. Not for several threads at once."""

    def __init__(self) -> None:
        self._known: dict[TargetName, _Reading] = {}

    def note(self, target: TargetName, size_bytes: int, seconds: float) -> None:
        """It took so long to read so much."""
        fresh = seconds / (size_bytes + REQUEST_BYTES)
        known = self._known.get(target)
        if known is None or known.s_per_byte == UNKNOWN_S_PER_BYTE:
            self._known[target] = _Reading(fresh, known.under_way if known else 0)
        else:
            known.s_per_byte += WEIGHT * (fresh - known.s_per_byte)

    def begin(self, target: TargetName) -> None:
        """A read is under way there."""
        self._known.setdefault(target, _Reading(UNKNOWN_S_PER_BYTE)).under_way += 1

    def end(self, target: TargetName) -> None:
        self._known[target].under_way -= 1

    def expected_s(self, target: TargetName, size_bytes: int) -> float | None:
        """How long a read there should take, after those that are under way; None if nothing is known."""
        known = self._known.get(target)
        if known is None or known.s_per_byte == UNKNOWN_S_PER_BYTE:
            return None
        return known.s_per_byte * (size_bytes + REQUEST_BYTES) * (1 + known.under_way)

    def order(self, targets: Iterable[TargetName], size_bytes: int) -> Sequence[TargetName]:
        """The same targets, the one that should answer first first; of equal ones as they came."""
        ordered = sorted(targets, key=lambda target: self.expected_s(target, size_bytes) or 0.0)
        for passed_over in ordered[1:]:
            if passed_over in self._known:
                self._known[passed_over].s_per_byte *= FADING
        return ordered
