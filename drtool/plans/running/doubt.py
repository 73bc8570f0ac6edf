"""What a process that goes on with a run writes down first: of what had begun and has no outcome, nobody knows. PURE."""

from collections.abc import Iterator

from drtool.plans.journal.events import Ended
from drtool.plans.running.state import RunState


def doubts(state: RunState, elapsed_s: float, at: str) -> Iterator[Ended]:
    """An outcome that is no end, for each piece of work that was under way when the process died."""
    for key, began in list(state.running.items()):
        yield Ended(
            at=at,
            elapsed_s=elapsed_s,
            key=key,
            status="aborted",
            attempt=began.attempt,
            detail="the process was gone before it ended",
            cause="doubt",
            retry_at_s=elapsed_s,
        )
