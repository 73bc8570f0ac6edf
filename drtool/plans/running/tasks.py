"""The decision-relevant part of a plan: tasks and the edges between them, without their actions. PURE."""

from typing import Literal, TypeAlias

from msgspec import Struct

from drtool.plans.journal.events import Phase

Until: TypeAlias = Literal["ended", "started", "injected"]
UNDO, CONFIRM = "undo:", "confirm:"


class Edge(Struct, frozen=True):
    """A dependency on another task: on its end, its start, or (for a fault) its injection."""

    task: str
    until: Until = "ended"


class Retries(Struct, frozen=True, kw_only=True):
    """How often to retry, with which pauses (seconds), after which causes. `jitter` is the largest share added to a pause."""

    attempts: int = 1
    backoff_s: float = 0.0
    factor: float = 1.0
    max_s: float = 3600.0
    jitter: float = 0.0
    only: tuple[str, ...] = ()

    def pause_s(self, attempt: int, luck: float) -> float:
        """Return the pause after attempt number `attempt`. `luck` is from 0 to 1."""
        plain_s = min(self.max_s, self.backoff_s * self.factor ** min(attempt - 1, 64))
        return plain_s * (1 + self.jitter * luck)

    def again(self, attempt: int, cause: str) -> bool:
        """Return whether another attempt follows attempt number `attempt`, which ended with `cause`."""
        return (
            attempt < self.attempts and (not self.only or cause in self.only) and cause not in ("cancelled", "refused")
        )


class Task(Struct, frozen=True, kw_only=True):
    """One step of a plan, reduced to what decisions need."""

    id: str
    phase: Phase = "steps"
    needs: tuple[Edge, ...] = ()
    conditional: bool = False
    """Whether the task has an `if`."""
    handles: bool = False
    """Whether its `if` refers to the status of other steps, so that it may run after a failure."""
    each: bool = False
    """Whether it runs for each of several items."""
    max_parallel: int = 1
    on_failure: Literal["fail", "continue", "tolerate"] = "fail"
    optional: bool = False
    retries: Retries = Retries()
    undo: int = 0
    """The number of its undo steps."""
    holds: bool = False
    """Whether it is a fault, which lasts until its dependents have ended."""
    on_resume: Literal["retry", "confirm", "ask", "skip"] = "retry"


class Graph(Struct, frozen=True, kw_only=True):
    """The tasks of all phases, each phase in the order of the file."""

    tasks: tuple[Task, ...]
    max_parallel: int = 4

    def of(self, phase: Phase) -> tuple[Task, ...]:
        return tuple(task for task in self.tasks if task.phase == phase)

    def task(self, key: str) -> Task:
        """Return the task that a key belongs to."""
        wanted = task_id(key)
        return next(task for task in self.tasks if task.id == wanted)


def item_key(task: str, number: int) -> str:
    return f"{task}[{number}]"


def undo_key(key: str, number: int) -> str:
    """Return `undo:fetch`, or with several undo steps, counted from 0: `undo:fetch.2`, `undo:fetch.3`."""
    return UNDO + key if number == 0 else f"{UNDO}{key}.{number + 1}"


def undone(key: str) -> tuple[str, int]:
    """Return the key that an undo key belongs to, and the number of the undo step."""
    whole = key.removeprefix(UNDO)
    name, _, number = whole.rpartition(".")
    return (name, int(number) - 1) if number.isdigit() and name else (whole, 0)


def task_id(key: str) -> str:
    """Return the task of a key: `fetch` for `fetch[2]`, `undo:fetch.2` and `confirm:fetch[2]`."""
    name = undone(key)[0] if key.startswith(UNDO) else key.removeprefix(CONFIRM)
    return name.partition("[")[0]
