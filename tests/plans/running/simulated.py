"""A run without effects: outcomes are given in advance, time is simulated. It may be killed after any line of its journal."""

from drtool.plans.journal.events import Began, Cancelled, Ended, Expanded, Injected
from drtool.plans.running.deciding import Expand, Finish, Release, Rest, Settle, Start, decide
from drtool.plans.running.resumption import doubts
from drtool.plans.running.state import RunState
from drtool.plans.running.tasks import task_id

AT = "2026-01-01T00:00:00Z"


class Killed(Exception):
    pass


class Simulated:
    """`outcomes` by key: the statuses of the attempts, the last one also for all later ones. The default is `passed`."""

    def __init__(self, graph, outcomes=None, items=None, conditions=None, kill_after=None, cancel_after=None):
        self.graph, self.outcomes = graph, outcomes or {}
        self.items, self.conditions = items or {}, conditions or {}
        self.kill_after, self.cancel_after = kill_after, cancel_after
        self.events, self.done, self.holding = [], [], {}
        self.state, self.now_s, self.rounds = RunState(), 0.0, 0

    def write(self, event):
        self.events.append(event)
        self.state.apply(event)
        if self.kill_after is not None and len(self.events) >= self.kill_after:
            self.kill_after = None
            raise Killed
        if self.cancel_after is not None and len(self.events) >= self.cancel_after and self.state.cancelled is None:
            self.cancel_after = None
            self.write(Cancelled(at=AT, reason="Ctrl-C"))

    def resume(self):
        """Continue as another process would, from the journal."""
        self.state, self.holding = RunState(self.events), {}
        for event in doubts(self.state, self.now_s, AT):
            self.write(event)

    def run(self):
        pending = []
        while True:
            self.rounds += 1
            assert self.rounds < 5000, "it does not end"
            acts = decide(self.graph, self.state, self.now_s, self.judge)
            assert acts
            for act in acts:
                match act:
                    case Finish():
                        assert not pending
                        return self
                    case Expand(task):
                        self.write(Expanded(at=AT, key=task, items=tuple(self.items[task])))
                    case Settle(key, status, detail):
                        self.write(Ended(at=AT, key=key, status=status, detail=detail))
                    case Release(key):
                        self.end(key, "passed")
                        self.holding.pop(key, None)
                    case Start(key, attempt):
                        self.write(Began(at=AT, key=key, uses="x", attempt=attempt))
                        pending.append((key, attempt))
            if all(isinstance(act, Rest) for act in acts):
                self.step(pending, acts[0])

    def step(self, pending, rest):
        self.now_s += 1
        if not pending:
            if rest.until_s is not None:
                self.now_s = max(self.now_s, rest.until_s)
                return
            key = next(iter(self.holding))  # a fault's time is up
            self.end(key, "passed")
            del self.holding[key]
            return
        key, attempt = pending.pop(0)
        self.done.append(key)
        task = None if ":" in key else self.graph.task(key)
        if task is not None and task.holds and self.outcome(key, attempt) == "passed":
            self.holding[key] = attempt
            self.write(Injected(at=AT, key=key))
            return
        self.end(key, self.outcome(key, attempt), attempt)

    def end(self, key, status, attempt=1):
        task = None if ":" in key else self.graph.task(key)
        cause = "error" if status == "failed" else ""
        again = task is not None and status == "failed" and task.retries.again(attempt, cause)
        self.write(
            Ended(
                at=AT,
                key=key,
                status="tolerated"
                if status == "failed" and task and task.on_failure == "tolerate" and not again
                else status,
                attempt=attempt,
                cause=cause,
                retry_at_s=self.now_s + task.retries.pause_s(attempt, 0) if again else None,
            )
        )

    def outcome(self, key, attempt):
        given = self.outcomes.get(key, self.outcomes.get(task_id(key), "passed"))
        return given if isinstance(given, str) else given[min(attempt, len(given)) - 1]

    def judge(self, task):
        given = self.conditions.get(task.id, True)
        return given(self.state) if callable(given) else given

    def statuses(self):
        return {task.id: self.state.status(task.id) for task in self.graph.tasks}
