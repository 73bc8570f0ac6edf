"""The main loop of a run: decide, record, act, receive messages.

Invariants
    Decisions come from `deciding.decide` and the journal alone. Every intent is durable before its step begins, and every
    outcome before anything follows from it. If the journal cannot be written, all work is ended and none begins.
    Only the caller's thread writes. Steps run in threads of their own and only put messages into a queue.
    Undo and `always` run after any outcome, including an interruption. A second interruption ends them, and they are then
    reported as leftovers.
"""

import dataclasses
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from drtool.errors import DrtoolError
from drtool.plans.actions.port import Action, Outcome, RunContext, StepContext
from drtool.plans.journal.events import Began, Cancelled, Ended, Event, Expanded, Injected, Reached, Sampled
from drtool.plans.journal.file import Journal
from drtool.plans.language.evaluating import Context, evaluate, truth
from drtool.plans.language.filling import fill
from drtool.plans.language.model import Plan, Step
from drtool.plans.language.parsing import ExpressionError
from drtool.plans.language.syntax import Expression
from drtool.plans.language.values import Maybe, Moment, Unknown
from drtool.plans.running.attempts import Attempt, HasEnded, IsInjected, Message, Says
from drtool.plans.running.building import graph_of, steps_by_id
from drtool.plans.running.deciding import Decision, Expand, Finish, Release, Rest, Settle, Start, decide
from drtool.plans.running.facts import Given, context_for
from drtool.plans.running.resolving import items_of
from drtool.plans.running.resumption import doubts
from drtool.plans.running.secrets import redacted
from drtool.plans.running.state import RunState
from drtool.plans.running.supervision import reasons_to_stop
from drtool.plans.running.tasks import CONFIRM, UNDO, Task, task_id, undo_key, undone

LOOK_S = 0.5


def ignore(event: Event) -> None:
    """Ignore an event, for a run without listeners."""


class Runner:
    """One run, from its first step to its last. `interrupted` returns the signal received, or an empty string; it is polled."""

    def __init__(
        self,
        plan: Plan,
        actions: Mapping[str, Action],
        run_context: RunContext,
        given: Given,
        journal: Journal,
        *,
        scratch: Callable[[int, int], Path],
        interrupted: Callable[[], str] = lambda: "",
        heard: Callable[[Event], None] = ignore,
    ) -> None:
        self._plan, self._actions, self._given = plan, actions, given
        self._run_context = dataclasses.replace(run_context, outputs=self._outputs_of, evidence=self._evidence_of)
        self._noting = threading.Lock()
        self._journal, self._interrupted, self._heard = journal, interrupted, heard
        self.graph = graph_of(plan)
        self.state = RunState(journal.events)
        self._steps = steps_by_id(plan)
        self._messages: queue.Queue[Message] = queue.Queue()
        self._attempts: dict[str, Attempt] = {}
        self._scratch = scratch
        self._endings: list[Callable[[], Sequence[str]]] = []
        self._stopped = ""
        self._luck = random.Random(given.run)
        last = journal.events[-1]
        self._elapsed_before_s = last.elapsed_s
        self._began_at = time.monotonic()
        self._looked_at = 0.0
        self._sampling: dict[str, Attempt] = {}
        self._sampled_at: dict[str, float] = {}

    @property
    def elapsed_s(self) -> float:
        return self._elapsed_before_s + time.monotonic() - self._began_at

    def run(self) -> None:
        """Run until all phases are over."""
        try:
            while not self._turn():
                pass
        except BaseException:
            self._end_everything()
            raise

    def resume(self) -> None:
        """Continue a run whose process died. Work that had begun is in doubt."""
        for event in doubts(self.state, self.elapsed_s, _now()):
            self._write(event)
        self.run()

    def close(self) -> list[str]:
        """End everything that outlives its step, in reverse order, and return what is left."""
        left: list[str] = []
        for ending in reversed(self._endings):
            try:
                left += ending()
            except DrtoolError as error:
                left.append(error.message)
        self._endings.clear()
        return left

    def _turn(self) -> bool:
        """Take one turn of the loop, and return whether the run is over."""
        self._watch()
        decisions = decide(self.graph, self.state, self.elapsed_s, self._judge)
        for decision in decisions:
            if isinstance(decision, Finish):
                self._end_sampling()
                return True
            self._do(decision)
        rests = [decision.until_s for decision in decisions if isinstance(decision, Rest)]
        idle = len(rests) == len(decisions)
        self._hear(self._pause_s(rests) if idle else 0.0)
        return False

    def _pause_s(self, rests: Sequence[float | None]) -> float:
        until = min((until_s for until_s in rests if until_s is not None), default=None)
        return LOOK_S if until is None else min(LOOK_S, max(0.01, until - self.elapsed_s))

    def _do(self, decision: Decision) -> None:
        match decision:
            case Start(key, attempt):
                self._start(key, attempt)
            case Settle(key, status, detail):
                gathered = self._gathered(key)
                self._write(self._ended(key, Outcome(status="passed", detail=detail, outputs=gathered), status=status))
                self._note_milestone(key)
            case Expand(task):
                self._expand(task)
            case Release(key):
                if key in self._attempts:
                    self._attempts[key].work.released.set()

    def _gathered(self, key: str) -> dict[str, Any]:
        return self.state.outputs(key) or {}

    # -- beginning

    def _start(self, key: str, number: int) -> None:
        step = self._steps[task_id(key)]
        if key.startswith(UNDO):
            step = step.compensate[undone(key)[1]]
        elif key.startswith(CONFIRM):
            step = step.confirm or _question(step)
        self._write(
            Began(at=_now(), elapsed_s=self.elapsed_s, key=key, uses=step.uses, attempt=number, inputs=step.inputs)
        )
        try:
            step_context = self._step_context(key, step, key.removeprefix(CONFIRM))
        except (ExpressionError, DrtoolError) as error:
            self._note_end(HasEnded(key, number, Outcome(status="failed", detail=str(error), cause="error"), 0.0))
            return
        attempt = Attempt(key, number, step.timeout_s, self._messages, self._scratch, self._endings.append)
        self._attempts[key] = attempt
        attempt.begin(self._actions[step.uses], step_context, self._run_context)

    def _step_context(self, key: str, step: Step, sees: str) -> StepContext:
        filled = fill(step.uses, step.inputs, self._context(sees))
        if filled.problems:
            problem = filled.problems[0]
            raise DrtoolError(f"{step.place}: with.{'.'.join(map(str, problem.path))}: {problem.message}")
        if filled.needs:
            raise DrtoolError(
                f"{step.place}: a value is unexpectedly unknown; it needs {', '.join(sorted(filled.needs))}"
            )
        previewed_as = undo_key(task_id(key), undone(key)[1]) if key.startswith(UNDO) else task_id(key)
        pins = self.state.pinned.get(previewed_as, {})
        return StepContext(
            key=key, step=step, action=filled.action, pins=pins, evaluate=lambda one: self._evaluated(one, sees)
        )

    def _evaluated(self, expression: Expression, sees: str) -> Maybe:
        """Evaluate an expression for a step. Called from the step's own thread."""
        with self._noting:
            return evaluate(expression, self._context(sees))

    def _outputs_of(self, step: str) -> Mapping[str, Any]:
        with self._noting:
            return dict(self.state.outputs(step) or {})

    def _evidence_of(self, step: str) -> Mapping[str, Any]:
        with self._noting:
            ended = self.state.ended.get(step)
            return dict(ended.evidence) if ended else {}

    def _expand(self, task: str) -> None:
        step = self._steps[task]
        try:
            items = items_of(step, self._context(task))
        except (ExpressionError, DrtoolError) as error:
            self._write(self._ended(task, Outcome(status="failed", detail=str(error), cause="error")))
            return
        self._write(Expanded(at=_now(), elapsed_s=self.elapsed_s, key=task, items=tuple(items)))

    def _judge(self, task: Task) -> bool | str:
        condition = self._steps[task.id].condition
        assert condition is not None
        try:
            holds = truth(condition, self._context(task.id))
        except ExpressionError as error:
            return error.message
        return f"{', '.join(sorted(holds.needs))} is not known" if isinstance(holds, Unknown) else holds

    def _context(self, key: str | None) -> Context:
        return context_for(self._plan, self.state, self._given, key, Moment(time.time_ns()))

    # -- hearing

    def _hear(self, pause_s: float) -> None:
        try:
            message = self._messages.get(timeout=pause_s) if pause_s else self._messages.get_nowait()
        except queue.Empty:
            return
        while True:
            self._take(message)
            try:
                message = self._messages.get_nowait()
            except queue.Empty:
                return

    def _take(self, message: Message) -> None:
        match message:
            case IsInjected(key, outputs):
                self._write(Injected(at=_now(), elapsed_s=self.elapsed_s, key=key, outputs=outputs))
            case HasEnded(key=key) if key in self._sampling:
                self._note_sample(key, message.outcome)
            case HasEnded(key=key) if key in self._attempts:
                del self._attempts[key]
                self._note_end(message)
            case Says():
                pass  # shown by listeners; no decision depends on it
            case _:
                pass  # the late outcome of an abandoned attempt

    def _note_end(self, ended: HasEnded) -> None:
        key, outcome = ended.key, ended.outcome
        task = self.graph.task(key) if ":" not in key else None
        again = task is not None and outcome.status in ("failed", "unproven") and self._tries_again(task, ended)
        status: Any = outcome.status
        if task is not None and not again and status == "failed" and task.on_failure == "tolerate":
            status = "tolerated"
        retry_at_s = None
        if task is not None and again:
            retry_at_s = self.elapsed_s + task.retries.pause_s(ended.attempt, self._luck.random())
        self._write(
            self._ended(key, outcome, status=status, seconds=ended.seconds, number=ended.attempt, retry_at_s=retry_at_s)
        )
        self._note_milestone(key)

    def _tries_again(self, task: Task, ended: HasEnded) -> bool:
        cause = ended.outcome.cause or ended.outcome.status
        return self.state.cancelled is None and task.retries.again(ended.attempt, cause)

    def _ended(
        self,
        key: str,
        outcome: Outcome,
        *,
        status: Any = None,  # noqa: ANN401 - a Status
        seconds: float = 0.0,
        number: int = 1,
        retry_at_s: float | None = None,
    ) -> Ended:
        return Ended(
            at=_now(),
            elapsed_s=self.elapsed_s,
            key=key,
            status=status or outcome.status,
            attempt=number,
            seconds=round(seconds, 3),
            human_s=round(outcome.human_s, 3),
            outputs=outcome.outputs,
            detail=outcome.detail,
            evidence=outcome.evidence,
            retry_at_s=retry_at_s,
            leftovers=outcome.leftovers,
            cause=outcome.cause,
        )

    def _note_milestone(self, key: str) -> None:
        step = self._steps.get(key)
        if step is None or step.milestone is None or step.milestone in self.state.reached:
            return
        if self.state.status(key) in ("passed", "tolerated"):
            self._write(Reached(at=_now(), elapsed_s=self.elapsed_s, milestone=step.milestone, key=key))

    def _write(self, event: Event) -> None:
        clean: Event = _redacted(event, self._run_context.redact)
        self._journal.append(clean)
        with self._noting:
            self.state.apply(clean)
        self._heard(clean)

    # -- watching

    def _watch(self) -> None:
        signal_word = self._interrupted()
        if signal_word and self.state.cancelled is None:
            cause: Any = "terminate" if signal_word == "SIGTERM" else "interrupt"
            self._cancel(
                Cancelled(at=_now(), elapsed_s=self.elapsed_s, reason=f"{signal_word} was received", cause=cause)
            )
        elif signal_word and signal_word != self._stopped:
            for attempt in self._attempts.values():
                attempt.work.cancelled.set()
        self._stopped = signal_word
        if time.monotonic() - self._looked_at < LOOK_S:
            return
        self._looked_at = time.monotonic()
        if self.state.cancelled is None and not self._in_always():
            for stop in reasons_to_stop(
                self._plan.guards, self.elapsed_s, datetime.now(UTC), self._context(None), _now()
            ):
                self._cancel(stop)
                break
        for attempt in [each for each in self._attempts.values() if each.overdue]:
            del self._attempts[attempt.key]
            self._note_end(attempt.given_up())
        self._sample()

    def _cancel(self, cancelled: Cancelled) -> None:
        self._write(cancelled)
        for key, attempt in self._attempts.items():
            if not key.startswith(UNDO) and self.graph.task(key).phase != "always":
                attempt.work.cancelled.set()

    def _in_always(self) -> bool:
        return any(task.phase == "always" and task.id in self.state.order for task in self.graph.tasks)

    def _end_everything(self) -> None:
        """Cancel all work, as far as possible. Called when the journal cannot be written, or after a bug."""
        for attempt in (*self._attempts.values(), *self._sampling.values()):
            attempt.work.cancelled.set()
        ends_at = time.monotonic() + 10.0
        while self._attempts and time.monotonic() < ends_at:
            try:
                message = self._messages.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(message, HasEnded):
                self._attempts.pop(message.key, None)

    # -- the steady state, while steps run

    def _sample(self) -> None:
        steady = self._plan.steady_state
        if steady is None or "during" not in steady.when or self._in_always() or not self._any_step_began():
            return
        for probe in steady.probes:
            due = time.monotonic() - self._sampled_at.get(probe.id, 0.0) >= steady.every_s
            key = f"during.{probe.id}"
            if due and key not in self._sampling:
                self._sampled_at[probe.id] = time.monotonic()
                step_context = StepContext(
                    key=key, step=probe, action=fill(probe.uses, probe.inputs, self._context(None)).action
                )
                attempt = Attempt(key, 1, probe.timeout_s, self._messages, self._scratch, self._endings.append)
                self._sampling[key] = attempt
                attempt.begin(self._actions[probe.uses], step_context, self._run_context)

    def _any_step_began(self) -> bool:
        return any(":" not in key and self.graph.task(key).phase == "steps" for key in self.state.order)

    def _note_sample(self, key: str, outcome: Outcome) -> None:
        del self._sampling[key]
        passed = outcome.status == "passed"
        name = key.removeprefix("during.")
        self._write(
            Sampled(
                at=_now(), elapsed_s=self.elapsed_s, probe=name, when="during", passed=passed, detail=outcome.detail
            )
        )

    def _end_sampling(self) -> None:
        for attempt in self._sampling.values():
            attempt.work.cancelled.set()
        self._sampling.clear()


def _question(step: Step) -> Step:
    """Return the question to a person about a step that may have taken effect."""
    prompt = f"{step.id} was running when the run was interrupted. Run it (again)?"
    return replace(step, uses="approve", inputs={"prompt": prompt}, condition=None, foreach=None)


def _redacted(event: Event, redact: Callable[[str], str]) -> Event:
    plain = {name: redacted(getattr(event, name), redact) for name in event.__struct_fields__}
    for name, value in plain.items():
        if isinstance(getattr(event, name), tuple):
            plain[name] = tuple(value)
    return type(event)(**plain)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
