"""`wait`, `assert`, `notify`, `approve`: their effects and messages, and that only a yes is a yes."""

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from action_world import CANARY, context, needs, run_context, step_context, work

from drtool.plans.actions import approving, asserting, notifying, waiting
from drtool.plans.actions.port import Answer
from drtool.plans.language.actions import RESULTS, Assert
from drtool.plans.language.evaluating import Names
from drtool.plans.language.values import Seconds

wait, judge = waiting.WaitAction(), asserting.AssertAction()
notify, approve = notifying.NotifyAction(), approving.ApproveAction()


def test_each_action_declares_its_results():
    for uses, module in (("wait", waiting), ("assert", asserting), ("notify", notifying), ("approve", approving)):
        assert RESULTS[uses] == module.OUTPUTS


# -- wait


def test_it_waits_for_the_duration(tmp_path):
    began = time.monotonic()
    outcome = wait.act(step_context("wait", {"duration": "300ms"}), run_context(tmp_path), work())
    assert outcome.status == "passed"
    assert 0.3 <= time.monotonic() - began < 30
    assert outcome.outputs["seconds"] >= 0.3


def test_a_wait_beyond_its_timeout_cannot_run(tmp_path):
    found = wait.preview(step_context("wait", {"duration": "2h"}, timeout_s=60.0), run_context(tmp_path))
    assert (found.verdict, found.detail) == ("cannot run", "it waits for 2h, but its timeout is 1m")


def test_a_wait_that_times_out_has_failed(tmp_path):
    outcome = wait.act(step_context("wait", {"duration": "1h"}), run_context(tmp_path), work(0.2))
    assert (outcome.status, outcome.cause) == ("failed", "timeout")


def test_a_wait_is_cancelled_within_a_second(tmp_path):
    one = work()
    threading.Timer(0.2, one.cancelled.set).start()
    began = time.monotonic()
    outcome = wait.act(step_context("wait", {"duration": "1h"}), run_context(tmp_path), one)
    assert outcome.status == "aborted"
    assert time.monotonic() - began < 30


def test_until_is_evaluated_repeatedly(tmp_path):
    values = {"ready": False}
    one = step_context("wait", {"until": "vars.ready", "every": "50ms"}, context=context(vars=values))
    threading.Timer(0.3, values.update, [{"ready": True}]).start()
    outcome = wait.act(one, run_context(tmp_path), work())
    assert (outcome.status, outcome.detail) == ("passed", "vars.ready holds")


@pytest.mark.parametrize("value", [False, needs("other")])
def test_an_until_that_never_holds_or_stays_unknown_fails_in_time(tmp_path, value):
    one = step_context("wait", {"until": "vars.ready", "every": "50ms"}, context=context(vars={"ready": value}))
    outcome = wait.act(one, run_context(tmp_path), work(0.3))
    assert (outcome.status, outcome.cause) == ("failed", "timeout")
    assert "vars.ready" in outcome.detail


def test_the_dry_run_says_what_until_needs_or_that_it_makes_no_sense(tmp_path):
    def found(value):
        one = step_context("wait", {"until": "vars.ready"}, context=context(vars={"ready": value}))
        return wait.preview(one, run_context(tmp_path)).verdict

    assert [found(value) for value in (True, False, needs("a"), 3)] == ["ok", "ok", "deferred", "cannot run"]


# -- assert


def judged(tmp_path, that, message=None, **roots):
    inputs = {"that": that} | ({"message": message} if message else {})
    one = step_context("assert", inputs, context=context(**roots))
    return judge.act(one, run_context(tmp_path), work()), judge.preview(one, run_context(tmp_path))


def test_a_true_statement_passes_with_its_values(tmp_path):
    outcome, found = judged(tmp_path, ["vars.a <= vars.b"], vars={"a": Seconds(60), "b": Seconds(7200)})
    assert outcome.status == "passed"
    assert outcome.detail == "vars.a <= vars.b (vars.a = 1m, vars.b = 2h)"
    assert found.verdict == "ok"


def test_a_false_statement_fails_with_both_values_and_the_message(tmp_path):
    outcome, found = judged(tmp_path, ["true", "vars.a == len(vars.b)"], "too few", vars={"a": 3, "b": (1, 2)})
    assert outcome.status == "failed"
    assert outcome.detail == "too few: false: vars.a == len(vars.b) (vars.a = 3, len(vars.b) = 2)"
    assert found.verdict == "cannot run"


def test_an_unknown_statement_is_unproven_never_passed(tmp_path):
    outcome, found = judged(tmp_path, ["true", "steps.a > 1"], steps=Names("step", {"a": needs("a", kind="number")}))
    assert outcome.status == "unproven"
    assert "it needs a" in outcome.detail
    assert (found.verdict, found.detail) == ("deferred", "needs a")


def test_a_false_statement_fails_even_if_others_are_unknown(tmp_path):
    outcome, _ = judged(tmp_path, ["vars.u == 1", "vars.a == 2"], vars={"u": needs("u"), "a": 1})
    assert outcome.status == "failed"
    assert "vars.a = 1" in outcome.detail


@pytest.mark.parametrize("that", ["vars.a", "vars.nothing == 1", "vars.a == 'text'"])
def test_a_senseless_statement_fails_and_cannot_run(tmp_path, that):
    outcome, found = judged(tmp_path, [that], vars={"a": 1})
    assert (outcome.status, found.verdict) == ("failed", "cannot run")


def test_an_empty_list_proves_nothing(tmp_path):
    one = replace(step_context("assert", {"that": ["true"]}), action=Assert(that=()))
    outcome, found = judge.act(one, run_context(tmp_path), work()), judge.preview(one, run_context(tmp_path))
    assert (outcome.status, outcome.cause, found.verdict) == ("failed", "refused", "cannot run")


def test_no_secret_is_in_the_detail_of_a_statement(tmp_path):
    outcome, found = judged(tmp_path, ["vars.a == 'b'"], vars={"a": CANARY})
    assert CANARY not in repr((outcome, found))


# -- notify


def test_a_channel_is_notified_and_its_failure_fails_the_step(tmp_path):
    said = []
    one = step_context("notify", {"channel": "ops", "message": f"done {CANARY}"})
    world = run_context(tmp_path, tell=lambda *words: said.append(words) or "")
    assert notify.act(one, world, work()).status == "passed"
    assert said == [("ops", "step", "done ‹secret›")]
    outcome = notify.act(one, run_context(tmp_path, tell=lambda *words: "it hung up"), work())
    assert (outcome.status, outcome.cause) == ("failed", "error")
    assert "it hung up" in outcome.detail


def test_a_missing_channel_cannot_be_notified(tmp_path):
    found = notify.preview(
        step_context("notify", {"channel": "opps", "message": "x"}),
        run_context(tmp_path, can_tell=lambda name: f"no {name}"),
    )
    assert (found.verdict, found.detail) == ("cannot run", "no opps")


@pytest.mark.parametrize(("known", "verdict"), [("ops", "deferred"), ("", "cannot run")])
def test_a_channel_is_looked_for_though_the_message_is_not_known_yet(tmp_path, known, verdict):
    message = "${{ steps.before.outputs.word }}"
    later = step_context(
        "notify",
        {"channel": "ops", "message": message},
        context=context(steps={"before": {"outputs": {"word": needs("before")}}}),
    )
    assert later.missing == {"before"}
    world = run_context(tmp_path, can_tell=lambda name: "" if name == known else f"no {name}")
    assert notify.preview(later, world).verdict == verdict


def test_a_channel_that_is_not_known_yet_is_not_looked_for(tmp_path):
    known = context(steps={"before": {"outputs": {"word": needs("before", kind="text")}}})
    later = step_context("notify", {"channel": "${{ steps.before.outputs.word }}", "message": "x"}, context=known)
    found = notify.preview(later, run_context(tmp_path, can_tell=lambda name: f"no {name}"))
    assert (found.verdict, found.detail) == ("deferred", "needs before")


# -- approve


def answered(tmp_path, answer, **inputs):
    questions = []

    def ask(*words):
        questions.append(words)
        return answer

    world = run_context(tmp_path, ask=ask, evidence=lambda step: {"rows": ["/a: gone", f"/b: {CANARY}"]})
    one = work()
    return approve.act(step_context("approve", {"prompt": "Go?"} | inputs), world, one), questions


def test_a_yes_passes_with_its_author_and_duration(tmp_path):
    outcome, _ = answered(tmp_path, Answer(yes=True, by="ann@web1", channel="terminal", waited_s=12.5))
    assert (outcome.status, outcome.human_s) == ("passed", 12.5)
    assert outcome.outputs["by"] == "ann@web1"
    assert set(outcome.outputs) == set(RESULTS["approve"])


def test_a_no_aborts_with_its_author(tmp_path):
    outcome, _ = answered(tmp_path, Answer(yes=False, by="ann@web1", channel="plan approve", waited_s=1.0))
    assert (outcome.status, outcome.cause) == ("aborted", "refused")
    assert outcome.detail == "ann@web1 said no (plan approve)"


def test_silence_is_a_timeout(tmp_path):
    outcome, _ = answered(tmp_path, None)
    assert (outcome.status, outcome.cause, outcome.human_s) == ("failed", "timeout", 30.0)


def test_the_evidence_of_steps_is_shown_without_secrets(tmp_path):
    _, questions = answered(tmp_path, None, show=["differences"])
    assert questions[0][2] == ["differences:", "  rows:", "  - /a: gone", "  - /b: ‹secret›"]


def test_without_a_person_to_ask_it_cannot_run(tmp_path):
    nobody = run_context(tmp_path, can_ask=lambda channel: "there is no terminal")
    assert approve.preview(step_context("approve", {"prompt": "Go?"}), nobody).verdict == "cannot run"


def test_a_receiver_of_approvals_can_answer(tmp_path):
    plan = SimpleNamespace(notify=(SimpleNamespace(events=("approval",), channel="ops"),), always=(), files=())
    world = run_context(tmp_path, plan=plan, can_ask=lambda channel: "" if channel == "ops" else "no terminal")
    found = approve.preview(step_context("approve", {"prompt": "Go?", "expected": "5m"}), world)
    assert (found.verdict, found.estimate_s) == ("ok", 300.0)
    assert "through channel ops" in found.detail
    gone = run_context(tmp_path, plan=plan, can_ask=lambda channel: f"no {channel}")
    assert approve.preview(step_context("approve", {"prompt": "Go?"}), gone).detail == "no None; no ops"
