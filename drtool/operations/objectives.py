"""Whether what must hold for a source holds: the configuration's `objectives` against what is known.

Pure: time is handed in, and the answers are sentences.
"""

from collections.abc import Iterator

from drtool.config.life import Objective


def missed(
    objective: Objective, age_s: float | None, copies: int | None, proven_s: float | None, promised: int
) -> Iterator[str]:
    """What does not hold. None: no snapshot, nothing stored, never proven. `promised`: the repository's copies."""
    if age_s is None:
        yield "there is no snapshot"
        return
    if objective.rpo is not None and age_s > objective.rpo:
        yield f"the newest snapshot is {_told(age_s)} old, and {_told(objective.rpo)} are allowed"
    if objective.copies is not None and copies is not None and copies < objective.copies:
        short = f"; the repository promises no more than {promised}" if promised < objective.copies else ""
        yield f"something is on {copies} of the {objective.copies} sites that are wanted{short}"
    if objective.proven is not None and proven_s is None:
        yield "what the newest snapshot needs was not read whole since it was taken: drtool verify --level full"
    elif objective.proven is not None and proven_s is not None and proven_s > objective.proven:
        yield f"it was last read whole {_told(proven_s)} ago, and {_told(objective.proven)} are allowed"


def _told(seconds: float) -> str:
    """`26 h`, `3.5 d`."""
    for unit, length_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{round(seconds / length_s, 1):g} {unit}"
    return f"{round(seconds)} s"
