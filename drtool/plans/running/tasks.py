"""What deciding needs to know of a plan: tasks and the edges between them, without what they do. PURE."""

from typing import Literal, TypeAlias

from msgspec import Struct

from drtool.plans.journal.events import Phase

Until: TypeAlias = Literal["ended", "started", "injected"]
UNDO, CONFIRM = "undo:", "confirm:"


class Edge(Struct, frozen=True):
    """Waits for another task: for its end, its start, or (of a fault) until it is in force."""

    task: str
    until: Until = "ended"


class Retries(Struct, frozen=True, kw_only=True):
    """How often, after which pauses (seconds), and after which causes. `jitter`: up to such a share is added."""

    attempts: int = 1
    backoff_s: float = 0.0
    factor: float = 1.0
    max_s: float = 3600.0
    jitter: float = 0.0
    only: tuple[str, ...] = ()

    def pause_s(self, attempt: int, luck: float) -> float:
        """Before the attempt after number `attempt`; `luck` from 0 to 1."""
        plain_s = min(self.max_s, self.backoff_s * self.factor ** min(attempt - 1, 64))
        return plain_s * (1 + self.jitter * luck)

    def again(self, attempt: int, cause: str) -> bool:
        """Whether there is another attempt after number `attempt` ended so."""
        return (
            attempt < self.attempts and (not self.only or cause in self.only) and cause not in ("cancelled", "refused")
        )


class Task(Struct, frozen=True, kw_only=True):
    """One step of a plan, as deciding sees it."""

    id: str
    phase: Phase = "steps"
    needs: tuple[Edge, ...] = ()
    conditional: bool = False
    """Whether it has an `if`."""
    handles: bool = False
    """Whether its `if` asks what became of others: then it may run after a failure."""
    each: bool = False
    """Whether it is done for each of several items."""
    max_parallel: int = 1
    on_failure: Literal["fail", "continue", "tolerate"] = "fail"
    optional: bool = False
    retries: Retries = Retries()
    undo: int = 0
    """How many steps undo it."""
    holds: bool = False
    """A fault: it goes on until those that wait for its being in force have ended."""
    on_resume: Literal["retry", "confirm", "ask", "skip"] = "retry"


class Graph(Struct, frozen=True, kw_only=True):
    """The tasks of all phases, each phase in the order of the file."""

    tasks: tuple[Task, ...]
    max_parallel: int = 4

    def of(self, phase: Phase) -> tuple[Task, ...]:
        return tuple(task for task in self.tasks if task.phase == phase)

    def task(self, key: str) -> Task:
        """The task that a key belongs to."""
        wanted = task_id(key)
        return next(task for task in self.tasks if task.id == wanted)


def item_key(task: str, number: int) -> str:
    return f"{task}[{number}]"


def undo_key(key: str, number: int) -> str:
    """`undo:fetch`, and of a step with several, counted from 0: `undo:fetch.2`, `undo:fetch.3`."""
    return UNDO + key if number == 0 else f"{UNDO}{key}.{number + 1}"


def undone(key: str) -> tuple[str, int]:
    """What such a key undoes, and by which of its undo steps."""
    whole = key.removeprefix(UNDO)
    name, _, number = whole.rpartition(".")
    return (name, int(number) - 1) if number.isdigit() and name else (whole, 0)


def task_id(key: str) -> str:
    """`fetch` of `fetch[2]`, `undo:fetch.2`, `confirm:fetch[2]`."""
    name = undone(key)[0] if key.startswith(UNDO) else key.removeprefix(CONFIRM)
    return name.partition("[")[0]
