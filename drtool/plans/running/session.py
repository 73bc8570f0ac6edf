"""A run from its file to its verdict: resolve, run, clean up, conclude, record, notify.

Invariants
    Nothing is changed before every step was resolved. Steps that cannot run are reported with their reasons, and end the
    run at once.
    Scratch is removed at the end of every run. Leftovers that could not be removed decide the verdict.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from drtool import __version__
from drtool.errors import DrtoolError, UsageError
from drtool.plans.actions.port import Action, RunContext
from drtool.plans.evidence.objectives import Measures
from drtool.plans.journal.events import Event, Measured, Pinned, Resumed, RunBegan, RunEnded
from drtool.plans.journal.file import Journal
from drtool.plans.language.evaluating import Context
from drtool.plans.language.filling import fill_text
from drtool.plans.language.model import Plan
from drtool.plans.language.values import Moment, Unknown
from drtool.plans.running.facts import Given, context_for
from drtool.plans.running.resolving import Resolution, resolve
from drtool.plans.running.runner import Runner, ignore
from drtool.plans.running.runs import held_group
from drtool.plans.running.state import RunState
from drtool.plans.running.supervision import in_window, unanswered, unsteady
from drtool.plans.running.verdict import Conclusion, conclude
from drtool.plans.scratch import ScratchRecord, make_scratch, take_over
from drtool.plans.scratch.registry import records

Measure = Callable[[Plan, Sequence[Event]], Measures]


class Run(Struct, frozen=True, kw_only=True):
    """The inputs of a run besides its plan."""

    plan: Plan
    given: Given
    context: RunContext
    actions: Mapping[str, Action]
    host: str
    user: str
    live: bool
    variables: dict[str, Any]


class Result(Struct, frozen=True, kw_only=True):
    """The result of a run."""

    run_id: str
    conclusion: Conclusion
    resolution: Resolution
    events: tuple[Event, ...] = ()
    measured: dict[str, dict[str, Any]] = {}
    digest: str = ""


def preview(run: Run) -> Resolution:
    """Perform the dry run, which precedes every run and changes nothing."""
    state = RunState()
    now = Unknown(frozenset({"now"}), "timestamp")

    def context_of(key: str) -> Context:
        return context_for(run.plan, state, run.given, key, now)

    return resolve(run.plan, run.actions, run.context, context_of)


def check_before(run: Run) -> None:
    """Check conditions outside the dry run: `--live` for live plans, and open windows. Raises DrtoolError."""
    if run.plan.scope == "live" and not run.live:
        raise UsageError(f"plan {run.plan.id} changes production", hint="check its dry run, then add --live")
    if not in_window(run.plan.guards, datetime.now(UTC)):
        raise DrtoolError(f"no window of plan {run.plan.id} is open: {'; '.join(run.plan.guards.windows)}")


def group_of(run: Run) -> str | None:
    """Return the concurrency group, with its expressions filled in."""
    text = run.plan.concurrency.group
    if text is None:
        return None
    value = fill_text(text, context_for(run.plan, RunState(), run.given, None, run.given.started))
    if isinstance(value, Unknown):
        raise UsageError(
            f"the concurrency group {text!r} needs values that only a run knows: {', '.join(sorted(value.needs))}"
        )
    return str(value)


def carry_out(
    run: Run,
    resolution: Resolution,
    measure: Measure,
    interrupted: Callable[[], str],
    heard: Callable[[Event], None] = ignore,
    begun: Callable[[], None] = lambda: None,
) -> Result:
    """Perform a real run. `begun` is called once its folder exists. Raises GroupBusy if another run holds its group."""
    with held_group(run.context.state_dir, group_of(run)), Journal.create(run.context.folder) as journal:
        begun()
        journal.append(_began(run))
        journal.append(Pinned(at=_now(), values=resolution.pins))
        return _finish(run, resolution, journal, measure, interrupted, heard, resumed=False)


def carry_on(
    run: Run,
    resolution: Resolution,
    measure: Measure,
    interrupted: Callable[[], str],
    heard: Callable[[Event], None] = ignore,
) -> Result:
    """Continue a run whose process died."""
    with held_group(run.context.state_dir, group_of(run)), Journal.resume(run.context.folder) as journal:
        gap_s = _gap_s(journal.events)
        journal.append(Resumed(at=_now(), elapsed_s=gap_s, host=run.host, user=run.user))
        return _finish(run, resolution, journal, measure, interrupted, heard, resumed=True)


def _finish(
    run: Run,
    resolution: Resolution,
    journal: Journal,
    measure: Measure,
    interrupted: Callable[[], str],
    heard: Callable[[Event], None],
    *,
    resumed: bool,
) -> Result:
    left: list[str] = []
    with ExitStack() as spaces:
        scratch = _ScratchSpaces(run, spaces, left)
        if resumed:
            scratch.take_over()
        runner = Runner(
            run.plan,
            run.actions,
            run.context,
            run.given,
            journal,
            scratch=scratch.make,
            interrupted=interrupted,
            heard=heard,
        )
        try:
            if resumed:
                runner.resume()
            else:
                runner.run()
        finally:
            left += runner.close()
    measures = measure(run.plan, journal.events)
    journal.append(Measured(at=_now(), elapsed_s=runner.elapsed_s, values=measures.values))
    conclusion = conclude(
        runner.graph,
        runner.state,
        missed=measures.missed,
        leftovers=left,
        unproven=measures.unproven,
        unmeasured=measures.unmeasured,
        unsteady=unsteady(run.plan.steady_state, runner.state),
        unanswered=unanswered(run.plan.steady_state, runner.state),
    )
    ended = RunEnded(
        at=_now(),
        elapsed_s=runner.elapsed_s,
        verdict=conclusion.verdict,
        exit_code=conclusion.exit_code,
        leftovers=conclusion.leftovers,
        reason=run.context.redact(conclusion.reason),
        unproven=tuple(map(run.context.redact, conclusion.unproven)),
    )
    journal.append(ended)
    heard(ended)
    return Result(
        run_id=run.context.run,
        conclusion=conclusion,
        resolution=resolution,
        events=tuple(journal.events),
        measured=measures.values,
        digest=journal.head,
    )


class _ScratchSpaces:
    """Scratch directories for restored data. All are removed at the end of the run."""

    def __init__(self, run: Run, spaces: ExitStack, left: list[str]) -> None:
        self._run, self._spaces, self._left = run, spaces, left

    def take_over(self) -> None:
        """Take over the scratch of this run's dead process. Data that it had restored is still there."""
        found, _ = records(self._run.context.state_dir)
        for record in found:
            if record.run == self._run.context.run:
                self._spaces.enter_context(self._taken(record))

    def make(self, size_bytes: int, files: int) -> Path:
        run_context = self._run.context
        return self._spaces.enter_context(self._made(run_context, size_bytes, files))

    @contextmanager
    def _made(self, run_context: RunContext, size_bytes: int, files: int) -> Iterator[Path]:
        roots = run_context.scratch_roots
        with make_scratch(
            run_context.state_dir, run_context.run, size_bytes=size_bytes, inodes=files, roots=roots
        ) as space:
            yield space.path
        self._left += [f"{row.path}: {row.reason}" for row in space.left]

    @contextmanager
    def _taken(self, record: ScratchRecord) -> Iterator[None]:
        with take_over(self._run.context.state_dir, record) as space:
            yield
        self._left += [f"{row.path}: {row.reason}" for row in space.left]


def _began(run: Run) -> RunBegan:
    plan = run.plan
    incident = run.context.incident
    return RunBegan(
        at=_now(),
        run=run.context.run,
        plan=plan.id,
        digest=plan.digest,
        host=run.host,
        user=run.user,
        version=__version__,
        scope=plan.scope,
        live=run.live,
        incident_at=str(incident) if incident is not None else None,
        variables=run.variables,
        started=str(run.context.started),
        config=os.fspath(run.context.config_path or ""),
        must_pass_every_s=plan.schedule.must_pass_every_s if plan.schedule is not None else None,
        sources={row.file: row.sha256 for row in plan.files},
        title=plan.title,
        exercise=plan.exercise,
    )


def _gap_s(events: Sequence[Event]) -> float:
    """Return the time elapsed before the gap plus the gap itself, by the wall clock. Never negative."""
    last = events[-1]
    gone_s = time.time() - datetime.fromisoformat(last.at).timestamp()
    return last.elapsed_s + max(0.0, gone_s)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def user_name() -> str:
    """Return the name of the user, for the report."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def started_now() -> Moment:
    """Return the meaning of `now` in a run that begins now."""
    return Moment(time.time_ns())
