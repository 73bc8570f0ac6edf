"""Loading a plan's file into a `Plan`: read, merged with its includes, every name and every rule checked.

Invariants
    The result is complete and consistent. Otherwise one ConfigError lists every problem with its place.
    Nothing is run, opened or contacted except the plan's own files.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Any

from msgspec.structs import fields, replace

from drtool.config.yaml import Parsed, Path
from drtool.plans.language.actions import Action, Wait
from drtool.plans.language.checking import check_names, static_fill
from drtool.plans.language.model import (
    FragmentForm,
    OnFailure,
    Place,
    Plan,
    PlanFields,
    PlanForm,
    SteadyFields,
    SteadyState,
    Step,
    StepFields,
    StepForm,
)
from drtool.plans.language.reading import Complaints, PlanFile, Read, read_files
from drtool.plans.language.rules import broken_rules
from drtool.plans.language.validation import (
    Placed,
    Role,
    broken_structure,
    nested_digests,
    nested_plans,
    nesting_problems,
)

_UNREAD = Wait()
"""A stand-in for every action until the names of the steps, which actions may refer to, are known."""

Act = Callable[[Placed], Action]


def load_plan(path: FilePath, read: Read = FilePath.read_bytes) -> Plan:
    """Load the plan in a file. Raises ConfigError."""
    return _load(path, read, ())


def _load(path: FilePath, read: Read, above: tuple[str, ...]) -> Plan:
    """Load a plan. `above` holds the plans that this one is nested in."""
    complaints = Complaints()
    files = read_files(path, complaints, read)
    complaints.raise_if_any()
    joined = _Joining(files, complaints)
    outline, own = joined.plan(lambda placed: placed.step.action), files[0].parsed
    for complaint in broken_structure(outline, own, joined.placed):
        complaints.add(*complaint)
    complaints.raise_if_any()
    for complaint in check_names(outline, own, joined.placed):
        complaints.add(*complaint)
    plan = joined.plan(lambda placed: _action(outline, placed, complaints))
    complaints.raise_if_any()
    here = (*above, os.path.realpath(path))
    nested = nested_plans(joined.placed, path.parent, here, lambda file: _load(file, read, here))
    for complaint in (*broken_rules(plan, own, joined.placed), *nesting_problems(plan, joined.placed, nested)):
        complaints.add(*complaint)
    complaints.raise_if_any()
    return replace(plan, files=nested_digests(nested, plan.files))


def _action(outline: Plan, placed: Placed, complaints: Complaints) -> Action:
    """Return the action as far as it is known before a run."""
    filled = static_fill(outline, placed)
    for path, message in filled.problems:
        complaints.add(placed.parsed, (*placed.path, "with", *path), message)
    return filled.action or _UNREAD


class _Joining:
    """The merged files of one plan. Every step is built with its defaults and its place."""

    def __init__(self, files: Sequence[PlanFile], complaints: Complaints) -> None:
        own = files[0].form
        assert isinstance(own, PlanForm)
        self._form = own
        self._files = files
        self._merged = (*files[1:], files[0])  # included files come before the file that includes them
        self._complaints = complaints
        self.placed: list[Placed] = []

    def plan(self, act: Act) -> Plan:
        self.placed = []
        steady = self._form.steady_state
        own = self._files[0].parsed
        common: dict[str, Any] = {each.name: getattr(self._form, each.name) for each in fields(PlanFields)}
        common |= {name: self._declared(name) for name in ("vars", "secrets", "sites")}
        common["notify"] = tuple(each for file in self._merged for each in file.form.notify)
        return Plan(
            **common,
            preconditions=self._steps("preconditions", "precondition", act),
            steady_state=None
            if steady is None
            else SteadyState(
                **{each.name: getattr(steady, each.name) for each in fields(SteadyFields)},
                probes=self._list(steady.probes, "steady state", own, ("steady_state", "probes"), act),
            ),
            steps=self._steps("steps", "step", act),
            always=self._steps("always", "always", act),
            var_places={name: place for file in self._merged for name, place in _var_places(file)},
            files=tuple(file.digest for file in self._files),
        )

    def _declared(self, name: str) -> dict[str, Any]:
        """Return the variables, secrets or sites of all files. A duplicate declaration is a problem."""
        found: dict[str, Any] = {}
        for file in self._merged:
            for key, value in getattr(file.form, name).items():
                if key in found:
                    self._complaints.add(file.parsed, (name, key), f"{key!r} is already declared in an included file")
                found[key] = value
        return found

    def _steps(self, name: str, role: Role, act: Act) -> tuple[Step, ...]:
        return tuple(
            step
            for file in self._merged
            for step in self._list(getattr(file.form, name), role, file.parsed, (name,), act)
        )

    def _list(
        self, forms: Sequence[StepForm], role: Role, parsed: Parsed, path: Path, act: Act, owner: Step | None = None
    ) -> tuple[Step, ...]:
        return tuple(self._step(form, role, parsed, (*path, number), act, owner) for number, form in enumerate(forms))

    def _step(self, form: StepForm, role: Role, parsed: Parsed, path: Path, act: Act, owner: Step | None) -> Step:
        defaults = self._form.defaults
        line, column = parsed.place(path)
        step = Step(
            **{each.name: getattr(form, each.name) for each in fields(StepFields)},
            action=_UNREAD,
            inputs=form.with_,
            timeout_s=form.timeout_s or defaults.timeout_s,
            retry=form.retry or defaults.retry,
            on_failure=form.on_failure or _usual(role, defaults.on_failure),
            place=Place(parsed.file, line, column),
        )
        placed = Placed(step, role, parsed, path, owner)
        step = replace(step, action=act(placed))
        step = self._with_inner(step, form, placed, act)
        self.placed.append(replace(placed, step=step))
        return step

    def _with_inner(self, step: Step, form: StepForm, placed: Placed, act: Act) -> Step:
        parsed, path = placed.parsed, placed.path
        undo = self._list(form.compensate, "compensate", parsed, (*path, "compensate"), act, step)
        if form.confirm is None:
            return replace(step, compensate=undo)
        confirm = self._step(form.confirm, "confirm", parsed, (*path, "confirm"), act, step)
        return replace(step, compensate=undo, confirm=confirm)


def _usual(role: Role, default: OnFailure) -> OnFailure:
    """Return the default of `on_failure`. Only the plan's own steps follow its `defaults`; cleanup always continues."""
    return {"step": default, "always": "continue"}.get(role, "fail")


def _var_places(file: PlanFile) -> list[tuple[str, Place]]:
    form: PlanForm | FragmentForm = file.form
    return [(name, Place(file.parsed.file, *file.parsed.place(("vars", name)))) for name in form.vars]
