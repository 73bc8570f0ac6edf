"""The first events of a resumed run: work that had begun and has no outcome is in doubt. PURE."""

from collections.abc import Iterator

from drtool.plans.journal.events import Ended
from drtool.plans.running.state import RunState


def doubts(state: RunState, elapsed_s: float, at: str) -> Iterator[Ended]:
    """Yield an outcome for each piece of work that was running when the process died. It is retried, so it is not final."""
    for key, began in list(state.running.items()):
        yield Ended(
            at=at,
            elapsed_s=elapsed_s,
            key=key,
            status="aborted",
            attempt=began.attempt,
            detail="the process died before it ended",
            cause="doubt",
            retry_at_s=elapsed_s,
        )
