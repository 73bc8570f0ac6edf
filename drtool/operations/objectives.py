"""Whether what must hold for a source holds: the configuration's `objectives` against what is known.

Pure: time is handed in, and the answers are sentences.
"""

from collections.abc import Iterator

from msgspec import Struct

from drtool.config.life import Objective


class Proven(Struct, frozen=True):
    """`age_s`: of the newest snapshot that was read whole; or, where there is none (`ever`), for how long nothing was."""

    age_s: float
    ever: bool


def missed(
    objective: Objective, age_s: float | None, copies: int | None, proven: Proven | None, promised: int
) -> Iterator[str]:
    """What does not hold. `age_s` and `proven` None: no snapshot; `copies` None: nothing stored. `promised`: the repository's.

    A new snapshot is proven by the next verification, so only what waits for one longer than allowed is missed.
    """
    if age_s is None:
        yield "there is no snapshot"
        return
    if objective.rpo is not None and age_s > objective.rpo:
        yield f"the newest snapshot is {_told(age_s)} old, and {_told(objective.rpo)} are allowed"
    if objective.copies is not None and copies is not None and copies < objective.copies:
        short = f"; the repository promises no more than {promised}" if promised < objective.copies else ""
        yield f"something is on {copies} of the {objective.copies} sites that are wanted{short}"
    if objective.proven is not None and proven is not None and proven.age_s > objective.proven:
        waited = _told(proven.age_s)
        what = (
            f"the newest snapshot that is proven is {waited} old" if proven.ever else f"nothing was proven for {waited}"
        )
        yield f"{what}, and {_told(objective.proven)} are allowed: drtool verify --level full"


def _told(seconds: float) -> str:
    """`26 h`, `3.5 d`."""
    for unit, length_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{round(seconds / length_s, 1):g} {unit}"
    return f"{round(seconds)} s"
