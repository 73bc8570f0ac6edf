"""Comparison of the configured `objectives` of a source with its observed state.

Pure: the time is a parameter, and the results are sentences.
"""

from collections.abc import Iterator

from msgspec import Struct

from drtool.config.life import Objective
from drtool.model import counted


class Proven(Struct, frozen=True):
    """`age_s`: the age of the newest snapshot that was read whole, or how long none has been proven (not `ever`)."""

    age_s: float
    ever: bool


def missed(
    objective: Objective, age_s: float | None, copies: int | None, proven: Proven | None, promised: int
) -> Iterator[str]:
    """Yield the objectives that are not met.

    `age_s` and `proven` are None without a snapshot, `copies` without stored data. `promised`: the repository's copies.
    A new snapshot is proven by the next verification, so only one that has waited longer than allowed counts as missed.
    """
    if age_s is None:
        yield "there is no snapshot"
        return
    if objective.rpo is not None and age_s > objective.rpo:
        yield f"the newest snapshot is {_duration(age_s)} old, and {_duration(objective.rpo)} are allowed"
    if objective.copies is not None and copies is not None and copies < objective.copies:
        short = f"; the repository promises no more than {promised}" if promised < objective.copies else ""
        yield f"some data is on {counted(copies, 'site')} instead of {objective.copies}{short}"
    if objective.proven is not None and proven is not None and proven.age_s > objective.proven:
        waited = _duration(proven.age_s)
        what = f"the newest proven snapshot is {waited} old" if proven.ever else f"nothing was proven for {waited}"
        yield f"{what}, and {_duration(objective.proven)} are allowed: drtool verify --level full"


def _duration(seconds: float) -> str:
    """Return a duration such as `26 h` or `3.5 d`."""
    for unit, length_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{round(seconds / length_s, 1):g} {unit}"
    return f"{round(seconds)} s"
