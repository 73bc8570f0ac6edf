"""A step's inputs with their expressions filled in: known values are typed, unknown ones are named."""

from pathlib import Path

import pytest

from drtool.config.document import Placeholder
from drtool.plans.language import (
    Facts,
    Moment,
    Outcome,
    Seconds,
    Unknown,
    context_of,
    fill,
    fill_text,
    load_plan,
    truth,
    undo_context_of,
)
from drtool.plans.language.actions import Repair, Restore, Run, Verify, Wait
from drtool.plans.language.context import reachable
from drtool.plans.language.quantities import When

TEXT = """\
version: 1
id: p
title: T
vars:
  source: {type: string, default: home}
  count: {type: int, default: 5}
  share: {type: string, default: 2%}
  wait: {type: duration, default: 90s}
  at: {type: timestamp, default: now}
  names: {type: list, default: [a, b]}
secrets: {token: {env: TOKEN}}
concurrency: {group: "restore-${{ vars.source }}"}
steps:
  - id: sample
    uses: verify
    with: {level: sample, sample: {count: "${{ vars.count }}"}, objects: "${{ vars.names }}", seed: "${{ run.id }}-x"}
    outputs: {bad: bad_objects, checked: checked}
  - id: heal
    uses: repair
    needs: [sample]
    if: failed('sample') and len(steps.sample.outputs.bad) > 0
    with: {objects: "${{ steps.sample.outputs.bad }}", max_objects: "${{ steps.sample.outputs.checked }}"}
  - id: back
    uses: restore
    with: {snapshot: {source: "${{ vars.source }}", select: at, at: "${{ vars.at }}"}, to: {scratch: true}}
    outputs: {dir: path}
  - {id: pause, uses: wait, with: {duration: "${{ vars.wait }}"}}
  - id: show
    uses: run
    needs: [heal, back]
    with: {argv: [ls, -l, "${{ steps.back.outputs.dir }}/x"], changes: nothing, env: {T: "${{ secrets.token }}"}}
  - {id: other, uses: verify, needs: [show], with: {level: full}}
"""
PLAN = load_plan(Path("p.yaml"), lambda _: TEXT.encode())
STEPS = {step.id: step for step in PLAN.steps}
NOW = Moment(1_700_000_000 * 10**9)
GIVEN = Facts(
    now=NOW,
    run={"id": "r1", "scope": "scratch", "started": NOW},
    vars={"source": "orders", "count": 7, "wait": Seconds(61.5), "at": NOW, "names": ("x", "y"), "share": "3%"},
)


def filled(name: str, facts: Facts = GIVEN):
    step = STEPS[name]
    return fill(step.uses, step.inputs, context_of(PLAN, step, facts))


def test_known_values_are_read_like_written_ones():
    sample = filled("sample")
    assert (sample.problems, sample.unknown) == ((), ())
    assert isinstance(sample.action, Verify)
    assert (sample.action.sample.count, sample.action.objects, sample.action.seed) == (7, ("x", "y"), "r1-x")
    back = filled("back").action
    assert isinstance(back, Restore)
    assert (back.snapshot.source, back.snapshot.at) == ("orders", When(time_ns=NOW.value_ns))
    pause = filled("pause").action
    assert isinstance(pause, Wait)
    assert pause.duration_s == 61.5


def test_filled_in_values_have_the_same_limits():
    wrong = filled("sample", Facts(vars={**GIVEN.vars, "count": 0}, run=GIVEN.run))
    assert wrong.action is None
    assert [(path, message) for path, message in wrong.problems] == [
        (("sample", "count"), "expected a whole number >= 1: 0")
    ]


def test_unknown_values_are_named_and_never_numbers():
    heal = filled("heal")
    assert isinstance(heal.action, Repair)
    assert heal.action.objects == ("‹${{ steps.sample.outputs.bad }}›",)
    assert isinstance(heal.action.objects[0], Placeholder)
    assert heal.action.max_objects is None
    assert heal.needs == {"sample"}
    assert {path for path, _ in heal.unknown} == {("objects",), ("max_objects",)}
    show = filled("show")
    assert isinstance(show.action, Run)
    assert show.action.argv[:2] == ("ls", "-l")
    assert show.needs == {"back", "secret token"}


def test_once_steps_have_ended_their_outputs_are_there():
    ended = Outcome(statuses=("failed",), outputs={"bad": ("packs/ab",), "checked": 12})
    facts = Facts(**{**{name: getattr(GIVEN, name) for name in GIVEN.__struct_fields__}, "outcomes": {"sample": ended}})
    heal = filled("heal", facts)
    assert heal.unknown == ()
    assert isinstance(heal.action, Repair)
    assert (heal.action.objects, heal.action.max_objects) == (("packs/ab",), 12)
    condition = STEPS["heal"].condition
    assert condition is not None
    assert truth(condition, context_of(PLAN, STEPS["heal"], facts)) is True
    assert truth(condition, context_of(PLAN, STEPS["heal"], GIVEN)) == Unknown(frozenset({"sample"}), "bool")


def test_outputs_of_a_skipped_step_are_null_and_never_a_crash():
    facts = Facts(
        vars=GIVEN.vars, outcomes={"back": Outcome(statuses=("skipped",)), "sample": Outcome(statuses=("skipped",))}
    )
    show = filled("show", Facts(vars=GIVEN.vars, outcomes=facts.outcomes, secrets={"token": "s3cret"}))
    assert isinstance(show.action, Run)
    assert show.action.argv[2] == "/x"
    assert show.action.env == {"T": "s3cret"}
    condition = STEPS["heal"].condition
    assert condition is not None
    assert truth(condition, context_of(PLAN, STEPS["heal"], facts)) is False


def test_a_step_sees_only_the_steps_that_it_needs():
    assert reachable(PLAN, STEPS["show"]) == {"heal", "sample", "back"}
    assert reachable(PLAN, STEPS["other"]) == {"show", "heal", "sample", "back"}
    assert reachable(PLAN, STEPS["back"]) == frozenset()


def test_expressions_outside_steps_are_filled_in_too():
    assert fill_text(PLAN.concurrency.group or "", context_of(PLAN, None, GIVEN)) == "restore-orders"
    assert fill_text("no holes", context_of(PLAN, None)) == "no holes"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${{ vars.wait }}", Seconds(61.5)),
        ("in ${{ vars.wait }}", "in 1m1s500ms"),
        ("at ${{ vars.at }}", "at 2023-11-14T22:13:20Z"),
        ("${{ vars.names }}!", "x, y!"),
        ("${{ vars.count }}", 7),
        ("${{ 5GiB }} ${{ true }} ${{ null }}.", "5368709120 true ."),
        ("$${{ x }}", "${{ x }}"),
    ],
)
def test_text_is_filled_in(text, value):
    assert fill_text(text, context_of(PLAN, None, GIVEN)) == value


def test_an_undo_sees_its_own_step():
    context = undo_context_of(
        PLAN, STEPS["back"], Facts(outcomes={"back": Outcome(statuses=("failed",), outputs={"dir": "/s"})})
    )
    assert fill_text("${{ steps.back.outputs.dir }}", context) == "/s"
