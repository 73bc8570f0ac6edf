"""`plan`: the nested plan's dry run is the step's dry run, and its verdict is the step's."""

from types import SimpleNamespace

import pytest
from action_world import child, run_context, step_context, work

from drtool.plans.actions.nesting import OUTPUTS, PlanAction
from drtool.plans.language.actions import RESULTS
from drtool.plans.language.model import Place
from drtool.plans.running.resumption import FOLDER

nested = PlanAction()


class World:
    def __init__(self, tmp_path, result, document, live=False):
        self.words = []
        (tmp_path / "plans/sub").mkdir(parents=True)
        (tmp_path / "plans/inner.yaml").write_text("x")
        files = (SimpleNamespace(file="outer.yaml"), SimpleNamespace(file="sub/part.yaml"))
        plan = SimpleNamespace(files=files, notify=(), always=())
        self.run_context = run_context(tmp_path / "run", plan=plan, live=live, drtool=self.drtool)
        self.place = Place(f"{tmp_path}/plans/outer.yaml", 1, 1)
        self.result, self.document = result, document

    def drtool(self, words, one):
        self.words.append(words)
        return self.result, self.document

    def step_context(self, place=None, **inputs):
        return step_context("plan", {"file": "inner.yaml"} | inputs, place=place or self.place)


def test_the_dry_run_is_the_nested_one(tmp_path):
    steps = [{"id": "a", "status": "ok"}, {"id": "b", "status": "would change x"}]
    world = World(tmp_path, child(), {"steps": steps, "unproven": []}, live=True)
    found = nested.preview(world.step_context(vars={"source": "home"}), world.run_context)
    file = f"{tmp_path}/plans/inner.yaml"
    assert (found.verdict, found.provable, found.pins) == ("would change", True, {"file": file})
    assert world.words == [["plan", "run", "--var", "source=home", "--live", "--dry-run", "--", file]]


def test_a_step_of_an_included_file_names_plans_as_its_own_plan_does(tmp_path):
    world = World(tmp_path, child(), {"steps": []})
    nested.preview(world.step_context(place=Place(f"{tmp_path}/plans/sub/part.yaml", 1, 1)), world.run_context)
    assert world.words[0][-1] == f"{tmp_path}/plans/inner.yaml"


def test_a_step_that_cannot_run_keeps_the_outer_plan_from_running(tmp_path):
    steps = [{"id": "a", "status": "cannot run: no psql"}]
    world = World(tmp_path, child(1), {"steps": steps})
    found = nested.preview(world.step_context(), world.run_context)
    assert (found.verdict, found.detail) == ("cannot run", "inner.yaml: a: cannot run: no psql")


def test_an_unprovable_inner_step_makes_the_outer_step_unprovable(tmp_path):
    world = World(tmp_path, child(), {"steps": [], "unproven": ["a: unknown"]})
    assert not nested.preview(world.step_context(), world.run_context).provable


def test_a_dry_run_that_hangs_or_says_nothing_cannot_run(tmp_path):
    world = World(tmp_path, child(-9, ended_by="timeout"), {})
    assert nested.preview(world.step_context(), world.run_context).verdict == "cannot run"
    world.result = child(0)
    assert nested.preview(world.step_context(), world.run_context).verdict == "cannot run"


@pytest.mark.parametrize(
    ("code", "verdict", "status"),
    [
        (0, "passed", "passed"),
        (9, "unproven", "unproven"),
        (0, None, "unproven"),
        (1, "failed", "failed"),
        (7, "missed", "failed"),
        (8, "leftovers", "failed"),
        (75, None, "failed"),
        (130, "aborted", "aborted"),
        (143, "aborted", "aborted"),
    ],
)
def test_only_a_proven_verdict_passes(tmp_path, code, verdict, status):
    document = {"verdict": verdict, "run_id": "r1", "leftovers": ["/x"] if code == 8 else []} if verdict else {}
    world = World(tmp_path, child(code), document)
    outcome = nested.act(world.step_context(), world.run_context, work())
    assert outcome.status == status
    assert outcome.leftovers == (("/x",) if code == 8 else ())
    if verdict:
        assert outcome.outputs == {"run_id": "r1", "verdict": verdict}
        assert set(outcome.outputs) == set(OUTPUTS) == set(RESULTS["plan"])


@pytest.mark.parametrize(("ended_by", "status"), [("timeout", "failed"), ("cancelled", "aborted")])
def test_an_ended_nested_run_names_its_own_run(tmp_path, ended_by, status):
    world = World(tmp_path, child(143, ended_by=ended_by), {})
    outcome = nested.act(world.step_context(), world.run_context, work())
    assert (outcome.status, outcome.cause) == (status, ended_by)
    assert "plan history" in outcome.detail


def test_the_copy_from_the_start_of_the_run_is_executed(tmp_path):
    world = World(tmp_path, child(), {"verdict": "passed", "run_id": "r1"})
    kept = world.run_context.folder / FOLDER / "inner.yaml"
    kept.parent.mkdir(parents=True)
    kept.write_text("x")
    nested.act(world.step_context(), world.run_context, work())
    assert world.words == [["plan", "run", "--", str(kept)]]
