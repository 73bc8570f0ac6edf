"""The dry run: asks every step what it would do, in a possible order of execution. It precedes every run.

Invariants
    Nothing is changed. Actions preview their work with stores that raise on a write.
    Choices made here (snapshot ids, seeds, victims) are pinned, so the run later does what was previewed.
    Local state that reading updates (the confirmed changes) goes to a temporary copy of the state directory. The faults of
    drills still apply.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from drtool.errors import DrtoolError, NoPassword, WrongPassword
from drtool.events import Emit
from drtool.plans.actions.port import Action, Preview, RunContext, StepContext
from drtool.plans.language.evaluating import Context, evaluate, truth
from drtool.plans.language.filling import fill, fill_text
from drtool.plans.language.model import Plan, Step
from drtool.plans.language.parsing import ExpressionError
from drtool.plans.language.quantities import written
from drtool.plans.language.syntax import Expression
from drtool.plans.language.values import Unknown
from drtool.plans.running.building import steps_by_id
from drtool.plans.running.tasks import undo_key
from drtool.repository import Repository, RepositorySpec, open_repository


class Resolved(Struct, frozen=True, kw_only=True):
    """The preview of one step."""

    id: str
    uses: str
    name: str
    optional: bool
    preview: Preview

    @property
    def status(self) -> str:
        """The text shown and given by `--json`: `ok`, `would change …`, `cannot run: …`, `deferred (needs …)`."""
        verdict, detail = self.preview.verdict, self.preview.detail
        if verdict == "deferred":
            return f"deferred ({detail})" if detail else "deferred"
        if verdict == "would change":
            return f"would change {detail}".rstrip()
        return f"cannot run: {detail}" if verdict == "cannot run" else "ok"


class Resolution(Struct, frozen=True, kw_only=True):
    rows: tuple[Resolved, ...]

    @property
    def pins(self) -> dict[str, dict[str, Any]]:
        return {row.id: dict(row.preview.pins) for row in self.rows if row.preview.pins}

    @property
    def cannot(self) -> tuple[Resolved, ...]:
        """The steps that keep the plan from running."""
        return tuple(row for row in self.rows if row.preview.verdict == "cannot run" and not row.optional)

    @property
    def unprovable(self) -> tuple[Resolved, ...]:
        """Steps that would run but cannot be previewed, and optional steps that cannot run."""
        return tuple(
            row
            for row in self.rows
            if not row.preview.provable or (row.preview.verdict == "cannot run" and row.optional)
        )


def resolve(
    plan: Plan, actions: Mapping[str, Action], run_context: RunContext, context_of: Callable[[str], Context]
) -> Resolution:
    """Preview every step, including each undo and each `confirm`."""
    rows: list[Resolved] = []
    for step in steps_by_id(plan).values():
        rows.append(_resolved(step.id, step, actions, run_context, context_of(step.id)))
        rows += [
            _resolved(key, undo, actions, run_context, context_of(key))
            for number, undo in enumerate(step.compensate)
            for key in [undo_key(step.id, number)]
        ]
    return Resolution(rows=tuple(rows))


def _resolved(
    key: str, step: Step, actions: Mapping[str, Action], run_context: RunContext, context: Context
) -> Resolved:
    try:
        preview = _previewed(key, step, actions[step.uses], run_context, context)
    except (NoPassword, WrongPassword):
        raise  # not specific to this step
    except DrtoolError as error:
        preview = Preview(verdict="cannot run", detail=_sentence(error))
    return Resolved(id=key, uses=step.uses, name=step.name, optional=step.optional, preview=preview)


def _previewed(key: str, step: Step, action: Action, run_context: RunContext, context: Context) -> Preview:
    try:
        if step.condition is not None:
            holds = truth(step.condition, context)
            if isinstance(holds, Unknown):
                return _told(step, action, run_context, context, key, conditional=holds)
            if not holds:
                return Preview(verdict="ok", detail="skipped: its condition does not hold")
        return _told(step, action, run_context, context, key)
    except ExpressionError as error:
        return Preview(verdict="cannot run", detail=f"{step.place}: {error.message}")


def _told(
    step: Step, action: Action, run_context: RunContext, context: Context, key: str, conditional: Unknown | None = None
) -> Preview:
    if step.foreach is not None and isinstance(_items(step, context), Unknown):
        return Preview(verdict="deferred", detail=f"needs {', '.join(sorted(_needs(_items(step, context))))}")
    filled = fill(step.uses, step.inputs, context)
    if filled.problems:
        problem = filled.problems[0]
        return Preview(
            verdict="cannot run", detail=f"{step.place}: with.{'.'.join(map(str, problem.path))}: {problem.message}"
        )
    step_context = StepContext(
        key=key,
        step=step,
        action=filled.action,
        missing=filled.needs,
        evaluate=lambda expression: evaluate(expression, context),
    )
    preview = action.preview(step_context, run_context)
    if conditional is not None and preview.verdict in ("ok", "would change"):
        detail = (
            f"needs {', '.join(sorted(conditional.needs))}, for its condition; then: {preview.verdict} {preview.detail}"
        )
        return Preview(verdict="deferred", detail=detail.strip(), pins=preview.pins, provable=preview.provable)
    return preview


def _needs(value: object) -> frozenset[str]:
    return value.needs if isinstance(value, Unknown) else frozenset()


def items_of(step: Step, context: Context) -> list[Any]:
    """Return the items of a `foreach` as plain values. Raises ExpressionError, or DrtoolError if it is not a list."""
    found = _items(step, context)
    if isinstance(found, Unknown):
        raise DrtoolError(f"the items of {step.id} are not known yet")
    if not isinstance(found, list | tuple):
        raise DrtoolError(f"foreach of {step.id} is not a list: {found!r}")
    return [written(item) for item in found]


def _items(step: Step, context: Context) -> Any:  # noqa: ANN401 - any value of the language
    if isinstance(step.foreach, Expression):
        return evaluate(step.foreach, context)
    if isinstance(step.foreach, str):
        return fill_text(step.foreach, context)
    if isinstance(step.foreach, list):
        return [fill_text(item, context) if isinstance(item, str) else item for item in step.foreach]
    return step.foreach


def _sentence(error: DrtoolError) -> str:
    return f"{error.message}; {error.hint}" if error.hint else error.message


def lines(resolution: Resolution) -> Iterator[str]:
    """Yield the rows for a terminal without colours."""
    for row in resolution.rows:
        yield f"{row.id}: {row.status}"


@contextmanager
def read_only(spec: Callable[[], RepositorySpec], emit: Emit) -> Iterator[Repository]:
    """Open the repository. `spec` is called on entry, because it may prompt for a password. Raises DrtoolError."""
    asked = spec()
    with tempfile.TemporaryDirectory(prefix="drtool-plan-") as scratch:
        state_dir = Path(scratch) / "state"
        _copy(asked.state_dir, state_dir)
        own = replace(asked, state_dir=state_dir, faults_dir=asked.state_dir, read_only=True, anyhow=True)
        with closing(open_repository(own, emit)) as repository:
            yield repository


def _copy(state_dir: Path, to: Path) -> None:
    to.mkdir(mode=0o700)
    if (state_dir / "repositories").is_dir():
        shutil.copytree(state_dir / "repositories", to / "repositories", symlinks=True)
    if (state_dir / "host.json").is_file():
        shutil.copy2(state_dir / "host.json", to / "host.json")
