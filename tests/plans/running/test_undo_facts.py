"""The facts of an undo: those of its own piece of work, such as one item of a `foreach`, even if it was cut off."""

from pathlib import Path

from drtool.plans.journal.events import Began, Ended, Expanded
from drtool.plans.language import Moment, fill, load_plan
from drtool.plans.language.actions import Run
from drtool.plans.running.facts import Given, context_for
from drtool.plans.running.state import RunState

PLAN = load_plan(
    Path("p.yaml"),
    lambda _: (
        b"""\
version: 1
id: p
title: T
steps:
  - id: each
    uses: restore
    foreach: [a, b, c]
    with: {snapshot: {source: "${{ item }}"}, to: {scratch: true}}
    outputs: {dir: path}
    compensate: {id: undo, uses: run, with: {argv: [rm, "${{ steps.each.outputs.dir }}", "${{ item }}"], changes: scratch}}
"""
    ),
)
AT = "2026-01-01T00:00:00Z"
STATE = RunState(
    [
        Expanded(at=AT, key="each", items=("a", "b", "c")),
        Began(at=AT, key="each[0]", uses="restore"),
        Ended(at=AT, key="each[0]", status="passed", outputs={"path": "/s/a"}),
        Began(at=AT, key="each[1]", uses="restore"),
        Ended(at=AT, key="each[1]", status="failed", outputs={"path": "/s/b"}),
        Began(at=AT, key="each[2]", uses="restore"),
    ]
)
GIVEN = Given(run="r", scope="scratch", started=Moment(0))


def words(key: str) -> tuple[str, ...]:
    (undo,) = PLAN.steps[0].compensate
    filled = fill(undo.uses, undo.inputs, context_for(PLAN, STATE, GIVEN, key, Moment(0)))
    assert (filled.problems, filled.unknown) == ((), ())
    assert isinstance(filled.action, Run)
    return filled.action.argv


def test_each_item_is_undone_by_its_own_outputs():
    assert words("undo:each[0]") == ("rm", "/s/a", "a")
    assert words("undo:each[1]") == ("rm", "/s/b", "b")
    assert words("undo:each[1].2") == ("rm", "/s/b", "b")


def test_an_undo_reports_a_value_that_its_step_never_produced():
    (undo,) = PLAN.steps[0].compensate
    filled = fill(undo.uses, undo.inputs, context_for(PLAN, STATE, GIVEN, "undo:each[2]", Moment(0)))
    assert filled.unknown == ()
    assert (("argv", 1), "expected text, got nothing") in filled.problems
