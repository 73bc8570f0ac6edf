"""Runs with real threads and a real journal: outcomes, timeouts, interruptions, scratch, secrets, resume after kill -9."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from threading import Event

import pytest
from thoroughness import STRIDE

from drtool.errors import DrtoolError, UsageError
from drtool.plans.actions.port import Outcome, Preview
from drtool.plans.evidence.objectives import Measures
from drtool.plans.journal.events import Cancelled, Ended, Pinned, RunEnded
from drtool.plans.journal.file import read
from drtool.plans.running import attempts
from drtool.plans.running.runs import GroupBusy, held_group, last_unfinished, past_runs
from drtool.plans.running.session import check_before, preview

TWO = """
steps:
  - {id: a, uses: wait, with: {duration: 1s}}
  - {id: b, uses: wait, needs: [a], with: {duration: 1s}}
always:
  - {id: z, uses: run, with: {argv: ["true"], changes: nothing}}
"""
FAILED = Outcome(status="failed", detail="it broke", cause="error")


def test_all_pass(bench):
    run = bench.run(TWO)
    assert run.statuses == {"a": "passed", "b": "passed", "z": "passed"}
    assert (run.conclusion.verdict, run.conclusion.exit_code) == ("passed", 0)
    assert len(bench.actions.threads) >= 1
    (past,) = past_runs(bench.state)
    assert (past.verdict, past.exit_code, past.at_work) == ("passed", 0, False)
    assert past.digest == run.result.digest == read(bench.state / "runs" / past.run_id)[1]


@pytest.mark.parametrize(
    ("script", "verdict", "code"),
    [
        ({"a": FAILED}, "failed", 1),
        ({"a": Outcome(status="unproven", detail="no tool")}, "unproven", 9),
        ({"z": FAILED}, "leftovers", 8),
        ({"a": FAILED, "z": FAILED}, "failed", 1),
        ({"a": Outcome(status="passed", leftovers=("/mnt/x",))}, "leftovers", 8),
        ({"a": Outcome(status="aborted", detail="ann said no")}, "aborted", 1),
    ],
)
def test_the_verdict_of_a_run_and_always_ran(bench, script, verdict, code):
    run = bench.run(TWO, script)
    assert (run.conclusion.verdict, run.conclusion.exit_code) == (verdict, code)
    assert "z" in bench.actions.done
    assert isinstance(run.events[-1], RunEnded)
    assert run.conclusion.reason


@pytest.mark.parametrize(
    ("measures", "script", "verdict", "code"),
    [
        (Measures(values={}, unproven=("objective rto: unknown",)), {}, "unproven", 9),
        (Measures(values={}, unproven=("objective rto: unknown",), missed=("rpo: 2m",)), {}, "unproven", 9),
        (Measures(values={}, unproven=("objective rto: unknown",)), {"a": FAILED}, "failed", 1),
        (Measures(values={}, unmeasured=("objective rto: unknown",)), {}, "passed", 0),
    ],
)
def test_an_objective_that_was_not_measured_is_not_passed(bench, measures, script, verdict, code):
    run = bench.carried_out(bench.made(TWO, script), measure=lambda plan, events: measures)
    assert (run.conclusion.verdict, run.conclusion.exit_code) == (verdict, code)
    assert run.conclusion.unproven == ("objective rto: unknown",)
    if verdict == "unproven":
        assert run.conclusion.reason == "objective rto: unknown"


def test_an_optional_step_that_is_unproven_is_listed_and_the_run_passes(bench):
    run = bench.run(
        "steps: [{id: a, uses: wait, optional: true, with: {duration: 1s}}]",
        {"a": Outcome(status="unproven", detail="no tool")},
    )
    assert (run.conclusion.verdict, run.conclusion.exit_code) == ("passed", 0)
    assert run.conclusion.unproven == ("a (optional): no tool",)


def test_an_action_that_is_broken_fails_with_its_traceback_and_the_rest_is_cleaned_up(bench):
    def broken(step_context, run_context, work):
        raise ZeroDivisionError("boom")

    run = bench.run(TWO, {"a": broken})
    ended = next(event for event in run.events if isinstance(event, Ended) and event.key == "a")
    assert "a bug in drtool" in ended.detail
    assert "ZeroDivisionError" in ended.evidence["traceback"]
    assert "z" in bench.actions.done


def test_our_own_error_is_reported_with_its_hint(bench):
    def refused(step_context, run_context, work):
        raise DrtoolError("not enough room", hint="make some")

    run = bench.run(TWO, {"a": refused})
    assert run.conclusion.reason == "a: not enough room; make some"


def test_outputs_conditions_and_items(bench):
    run = bench.run(
        """
vars: {names: {type: list, default: [x, y, z]}}
steps:
  - {id: a, uses: run, with: {argv: [echo, hi], changes: nothing}, outputs: {word: stdout}}
  - {id: b, uses: wait, needs: [a], if: "steps.a.outputs.word == 'hi'", with: {duration: 1s}}
  - {id: c, uses: wait, needs: [a], if: "steps.a.outputs.word == 'ho'", with: {duration: 1s}}
  - id: d
    uses: run
    needs: [a]
    foreach: "${{ vars.names }}"
    with: {argv: [echo, "${{ item }}"], changes: nothing}
    outputs: {word: stdout}
  - {id: e, uses: wait, needs: [d], if: "len(steps.d.outputs.word) == 3", with: {duration: 1s}}
""",
        {
            "a": Outcome(status="passed", outputs={"stdout": "hi"}),
            **{
                f"d[{n}]": lambda step_context, run_context, work: Outcome(
                    status="passed", outputs={"stdout": step_context.action.argv[1]}
                )
                for n in range(3)
            },
        },
    )
    assert {key: run.statuses[key] for key in "abce"} == {"a": "passed", "b": "passed", "c": "skipped", "e": "passed"}
    assert [run.statuses[f"d[{n}]"] for n in range(3)] == ["passed"] * 3


def test_pins_are_passed_on_and_recorded(bench):
    seen = []
    run = bench.run(
        TWO,
        {
            "preview a": Preview(verdict="would change", detail="x", pins={"snapshot": "abc"}),
            "a": lambda step_context, run_context, work: (
                seen.append(dict(step_context.pins)) or Outcome(status="passed")
            ),
        },
    )
    assert seen == [{"snapshot": "abc"}]
    assert next(event for event in run.events if isinstance(event, Pinned)).values == {"a": {"snapshot": "abc"}}


def test_the_dry_run_changes_nothing_and_names_each_reason(bench):
    run = bench.made(
        TWO,
        {
            "preview a": Preview(verdict="cannot run", detail="no snapshot of home"),
            "preview b": Preview(verdict="deferred", detail="needs a"),
        },
    )
    resolution = preview(run)
    assert [row.status for row in resolution.rows] == ["cannot run: no snapshot of home", "deferred (needs a)", "ok"]
    assert [row.id for row in resolution.cannot] == ["a"]
    assert list(bench.state.iterdir()) == []
    assert bench.actions.done == []


def test_ctrl_c_ends_running_steps_and_cleans_up(bench):
    def waits(step_context, run_context, work):
        bench.interrupts.append("SIGINT")
        return FAILED if work.cancelled.wait(60) else Outcome(status="passed")

    began = time.monotonic()
    run = bench.run(TWO, {"a": waits})
    assert time.monotonic() - began < 40
    assert run.statuses == {"a": "aborted", "b": "aborted", "z": "passed"}
    assert (run.conclusion.verdict, run.conclusion.exit_code) == ("aborted", 130)
    assert any(isinstance(event, Cancelled) for event in run.events)


def test_a_second_interruption_ends_the_cleaning_up_too(bench):
    def waits(word):
        def act(step_context, run_context, work):
            bench.interrupts.append(word)
            return FAILED if work.cancelled.wait(60) else Outcome(status="passed")

        return act

    run = bench.run(TWO, {"a": waits("SIGTERM"), "z": waits("SIGTERM again")})
    assert run.conclusion.exit_code == 143
    assert run.conclusion.leftovers


def test_a_run_that_takes_too_long_is_ended(bench):
    run = bench.run(
        "guards: {max_duration: 1s}" + TWO,
        {"a": lambda step_context, run_context, work: FAILED if work.cancelled.wait(60) else None},
    )
    assert (run.conclusion.verdict, run.conclusion.exit_code) == ("aborted", 1)
    assert "max_duration" in run.conclusion.reason
    assert "z" in bench.actions.done


def test_a_kill_switch_ends_it(bench, tmp_path):
    switch = tmp_path / "STOP"

    def waits(step_context, run_context, work):
        switch.touch()
        return FAILED if work.cancelled.wait(60) else None

    run = bench.run(f"guards: {{kill_switch: {switch}}}" + TWO, {"a": waits})
    assert "kill switch" in run.conclusion.reason


def test_scratch_lasts_until_the_end_and_is_gone_then(bench):
    places = []

    def restores(step_context, run_context, work):
        place = work.scratch(1000, 3)
        (place / "data").write_text("x")
        places.append(place)
        return Outcome(status="passed")

    def looks(step_context, run_context, work):
        assert (places[0] / "data").exists()
        return Outcome(status="passed")

    run = bench.run(TWO, {"a": restores, "b": looks})
    assert run.statuses["b"] == "passed"
    assert not places[0].exists()


def test_resources_that_outlive_their_step_end_in_reverse_order(bench):
    ended = []

    def starts(name):
        def act(step_context, run_context, work):
            work.at_end(lambda: ended.append(name) or [])
            return Outcome(status="passed")

        return act

    bench.run(TWO, {"a": starts("a"), "b": starts("b")})
    assert ended == ["b", "a"]


def test_no_secret_is_recorded_in_any_form(bench):
    canary = "c4nary/with+signs&more"
    run = bench.run(
        "secrets: {key: {env: THE_KEY}}\n" + TWO,
        {
            "a": lambda step_context, run_context, work: Outcome(
                status="failed",
                detail=f"refused {canary}",
                outputs={canary: [canary]},
                evidence={"stdout": f"x{canary}y"},
                leftovers=(canary,),
            )
        },
        environ={"THE_KEY": canary},
    )
    text = (bench.state / "runs" / "20260101-000000-aaaa" / "journal.jsonl").read_text()
    assert canary not in text
    assert "c4nary" not in text
    assert canary not in run.conclusion.reason


def test_one_run_of_a_group_at_a_time(bench):
    grouped = "concurrency: {group: g}" + TWO
    with held_group(bench.state, "g"), pytest.raises(GroupBusy) as busy:
        bench.run(grouped)
    assert busy.value.exit_code == 75
    assert bench.run(grouped).conclusion.verdict == "passed"


def test_a_live_plan_needs_its_option(bench):
    with pytest.raises(UsageError) as caught:
        check_before(bench.made("scope: live" + TWO))
    assert "--live" in caught.value.hint
    check_before(bench.made("scope: live" + TWO, live=True))


def test_undo_of_several_steps(bench):
    run = bench.run(
        """
steps:
  - id: a
    uses: wait
    with: {duration: 1s}
    compensate:
      - {id: u, uses: run, with: {argv: [one], changes: nothing}}
      - {id: v, uses: run, with: {argv: [two], changes: nothing}}
  - {id: b, uses: wait, needs: [a], with: {duration: 1s}}
""",
        {"b": FAILED},
    )
    assert bench.actions.done == ["a", "b", "undo:a", "undo:a.2"]
    assert run.statuses["undo:a"] == run.statuses["undo:a.2"] == "passed"


UNDOS = """
vars: {none: {type: string, default: ""}}
steps:
  - id: a
    uses: run
    with: {argv: [x], changes: nothing}
    outputs: {dir: stdout}
    compensate: {id: t, uses: run, with: {argv: [one], changes: nothing}}
  - id: b
    uses: run
    needs: [a]
    with: {argv: [x], changes: nothing}
    outputs: {dir: stdout}
    compensate:
      - {id: u, uses: run, timeout: 1s, with: {argv: [one], changes: nothing}}
      - {id: v, uses: run, timeout: 90s, with: {argv: [rm, "${{ steps.b.outputs.dir }}"], changes: nothing}}
      - {id: w, uses: run, timeout: 7s, with: {argv: [three], changes: nothing}}
  - {id: c, uses: wait, needs: [b], with: {duration: 1s}}
"""


def test_every_undo_is_tried_with_its_own_timeout_even_if_others_fail(bench, monkeypatch):
    monkeypatch.setattr(attempts, "GRACE_S", 0.5)
    left_s = {}

    def took(step_context, run_context, work):
        left_s[step_context.key] = work.ends_at - time.monotonic()
        return Outcome(status="passed")

    def hangs(step_context, run_context, work):
        took(step_context, run_context, work)
        return Event().wait(30)

    run = bench.run(UNDOS, {"c": FAILED, "undo:b": hangs, "undo:b.2": took, "undo:b.3": took, "undo:a": took})
    assert list(left_s) == ["undo:b", "undo:b.3", "undo:a"]
    assert [round(left_s[key]) for key in left_s] == [1, 7, 3600]
    assert [run.statuses[key] for key in ("undo:b", "undo:b.2", "undo:b.3", "undo:a")] == [
        "failed",
        "failed",
        "passed",
        "passed",
    ]
    told = "\n".join(run.conclusion.leftovers)
    assert "undo:b: still running" in told
    assert "undo:b.2 did not succeed" in told
    assert "with.argv" in told
    assert (run.conclusion.verdict, run.conclusion.exit_code) == ("failed", 1)


def test_each_undo_has_its_own_pins(bench):
    seen = {}
    script = {f"preview {key}": Preview(verdict="ok", pins={"of": key}) for key in ("undo:b", "undo:b.2", "undo:b.3")}
    script |= {
        key: lambda step_context, run_context, work: (
            seen.update({step_context.key: step_context.pins["of"]}) or Outcome(status="passed")
        )
        for key in ("undo:b", "undo:b.3")
    }
    bench.run(UNDOS, {"c": FAILED, **script})
    assert seen == {"undo:b": "undo:b", "undo:b.3": "undo:b.3"}


def test_a_first_interruption_lets_the_running_undo_finish(bench):
    def waits(step_context, run_context, work):
        bench.interrupts.append("SIGINT")
        return FAILED if work.cancelled.wait(2) else Outcome(status="passed")

    run = bench.run(UNDOS, {"c": FAILED, "undo:b": waits})
    assert run.statuses["undo:b"] == "passed"
    assert run.statuses["undo:a"] == "passed"


CHILD = """
import os, signal, sys
sys.path[:0] = {paths!r}
from pathlib import Path
from conftest import Bench
from drtool.plans.actions.port import Outcome
root = Path({root!r})
bench = Bench.__new__(Bench)
bench.root, bench.interrupts, bench.state = root, [], root / "state"
bench.state.mkdir(exist_ok=True, mode=0o700)
from drtool.plans.journal import file
plain, written = file.Journal.append, []
def append(self, event):
    plain(self, event)
    written.append(event)
    if len(written) == {after}:
        os.kill(os.getpid(), signal.SIGKILL)
file.Journal.append = append
def restores(asked, around, work):
    (work.scratch(1000, 3) / "x").write_text("x")
    return Outcome(status="passed", outputs={{"path": "p"}})
run = bench.made({text!r}, {{"a": restores}})
if {again}:
    done = bench.carried_out(run, again=True)
else:
    done = bench.carried_out(run)
print(done.conclusion.verdict, sorted(done.statuses.items()))
"""


@pytest.mark.sampled
def test_a_run_killed_after_any_line_is_resumed_without_leftovers(tmp_path):
    """The process is really killed and the journal is on disk. The first process's scratch is taken over and removed."""
    text = TWO.replace("id: b,", "id: b, milestone: recovered,")
    lines = 0
    for after in range(1, 30, STRIDE):
        root = tmp_path / str(after)
        root.mkdir()
        paths = [str(Path(__file__).parent)]
        words = {"paths": paths, "root": str(root), "text": text}
        first = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(CHILD.format(after=after, again=False, **words))],
            capture_output=True,
            text=True,
        )
        if first.returncode == 0:  # its journal has fewer lines
            lines = after
            break
        assert first.returncode == -signal.SIGKILL, first.stderr
        if last_unfinished(root / "state") is None:
            lines = after
            assert [row.verdict for row in past_runs(root / "state")] == ["passed"]
            break
        second = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(CHILD.format(after=0, again=True, **words))],
            capture_output=True,
            text=True,
        )
        assert second.returncode == 0, second.stderr
        assert second.stdout.startswith("passed "), second.stdout
        assert list((root / "scratch").glob("*")) == []
    assert lines > 8
