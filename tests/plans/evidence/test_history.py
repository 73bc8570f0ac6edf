"""The history of runs in the catalogue and the journals: what it proves, and for how long."""

import os

import pytest

from drtool.manifest.records import RecordedRun, RunObjective
from drtool.plans.evidence.history import estimate, estimates, history, step_estimates
from drtool.plans.evidence.past import PastRun
from drtool.plans.evidence.proofs import proofs, told
from drtool.plans.evidence.recording import mark, owed, record_of
from drtool.plans.journal.events import Ended, Measured, RunBegan, RunEnded
from drtool.plans.journal.file import Journal
from drtool.plans.running.runs import RUNS, past_runs

DAY_S = 86_400
NOW_NS = 100 * DAY_S * 10**9


def recorded(number, plan="drill", verdict="passed", days_ago=0.0, **more):
    ended_ns = round(NOW_NS - days_ago * DAY_S * 1e9)
    values = {"plan_digest": "p", "host": "a", "user": "u", "exit_code": 0, "digest": f"d{number}"}
    rto = RunObjective("rto", 600.0, float(number))
    values |= {"began_ns": ended_ns - 10**9, "ended_ns": ended_ns, "objectives": (rto,), **more}
    return RecordedRun(id=f"r{number}", plan=plan, verdict=verdict, **values)


def journal(state, run, *, config="/c.yaml", over=True):
    at = "2026-11-23T14:05:00.250Z"
    with Journal.create(state / RUNS / run) as written:
        written.append(
            RunBegan(
                at=at,
                run=run,
                plan="drill",
                digest="p",
                host="a",
                user="u",
                version="1",
                scope="scratch",
                config=config,
                must_pass_every_s=9.0,
            )
        )
        if over:
            values = {"rto": {"target": 5.0, "measured": 3.0, "met": True}, "time": {"human_seconds": 1.5}}
            written.append(Measured(at=at, elapsed_s=3.0, values=values))
            written.append(RunEnded(at="2026-11-23T14:05:03.000Z", elapsed_s=3.0, verdict="passed", exit_code=0))
        return list(written.events), written.head


def test_a_record_says_what_the_journal_says(tmp_path):
    events, head = journal(tmp_path, "r")
    row = record_of(events, head)
    assert (row.id, row.verdict, row.digest, row.must_pass_every_s, row.human_s) == ("r", "passed", head, 9.0, 1.5)
    assert row.objectives == (RunObjective("rto", 5.0, 3.0),)
    assert row.ended_ns - row.began_ns == 2_750_000_000


def test_a_run_owes_its_record_until_it_is_marked(tmp_path):
    journal(tmp_path, "r1")
    journal(tmp_path, "r2", over=False)
    journal(tmp_path, "r3", config="/other.yaml")
    ((folder, row),) = owed(tmp_path, "/c.yaml")
    assert row.id == "r1"
    mark(folder, 7)
    assert list(owed(tmp_path, "/c.yaml")) == []
    assert (folder / "recorded").read_text() == "7\n"


def test_a_journal_that_was_changed_is_not_recorded(tmp_path):
    journal(tmp_path, "r1")
    file = tmp_path / RUNS / "r1" / "journal.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"drill"', b'"other"'))
    assert list(owed(tmp_path, "/c.yaml")) == []


def test_a_run_in_catalogue_and_journal_is_one_row_and_a_difference_is_reported(tmp_path):
    events, head = journal(tmp_path, "r1")
    same = record_of(events, head)
    (row,) = history([same], past_runs(tmp_path), "a")
    assert (row.recorded, row.here, row.problem, row.measured) == (True, True, "", {"rto": 3.0})
    (row,) = history([recorded(1)], past_runs(tmp_path), "a")
    assert "differs from the recorded one" in row.problem
    assert estimates([row], "drill") == {}


def test_runs_that_are_not_in_the_catalogue_are_listed_too(tmp_path):
    journal(tmp_path, "r1", over=False)
    os.makedirs(tmp_path / RUNS / "20261123-140500-aaaa")
    (tmp_path / RUNS / "20261123-140500-aaaa" / "journal.jsonl").write_text("{}\n")
    broken, unfinished = sorted(history([], past_runs(tmp_path), "a"), key=lambda row: row.run_id)
    assert (unfinished.verdict, unfinished.recorded) == ("unfinished", False)
    assert broken.problem


def test_an_estimate_is_made_of_the_last_five():
    assert estimate([]) is None
    assert estimate([100.0, 1.0, 2.0, 3.0, 4.0, 9.0]).runs == 5
    found = estimates([*history([recorded(n, days_ago=9 - n) for n in range(1, 8)], [], "a")], "drill")
    assert (found["rto"].min, found["rto"].median, found["rto"].max) == (3.0, 5.0, 7.0)
    assert "wrt" not in found


def test_a_run_without_a_value_does_not_count_for_the_estimate():
    rows = [recorded(1, verdict="failed", objectives=(RunObjective("rto", 600.0, None),))]
    assert estimates(history(rows, [], "a"), "drill") == {}


@pytest.mark.parametrize(
    ("runs", "met"),
    [
        ([], False),
        ([recorded(1, days_ago=6.9)], True),
        ([recorded(1, days_ago=7.1)], False),
        ([recorded(1, days_ago=30), recorded(2, days_ago=1, verdict="failed")], False),
        ([recorded(1, days_ago=2), recorded(2, days_ago=1, verdict="failed")], True),
        ([recorded(1, days_ago=-1)], False),
    ],
    ids=["never", "in time", "too long ago", "failed since", "passed and failed", "in the future"],
)
def test_a_plan_is_proven_by_a_run_that_passed_in_time(runs, met):
    (proof,) = proofs(runs, {"drill": 7.0 * DAY_S}, NOW_NS)
    assert proof.met is met
    if not met:
        assert "plan drill must pass every 7d" in told(proof, NOW_NS)


def test_a_plan_without_must_pass_every_is_neither_met_nor_missed():
    asking, silent = proofs([recorded(1, plan="b", must_pass_every_s=60.0)], {"c": None}, NOW_NS)
    assert (asking.id, asking.met) == ("b", True)
    assert (silent.id, silent.met, silent.verdict) == ("c", None, "")


def test_a_run_under_way_is_at_work(tmp_path):
    row = PastRun(run_id="x", plan="drill", began="2026-11-23T14:05:00Z", at_work=True)
    assert history([], [row], "a")[0].verdict == "at work"


def test_a_steps_estimate_is_from_its_last_five_runs_or_from_the_plan():
    runs = [
        PastRun(run_id=f"r{n}", plan="drill", verdict="passed", step_seconds={"fetch": float(n)}) for n in range(1, 8)
    ]
    runs += [
        PastRun(run_id="r8", plan="other", verdict="passed", step_seconds={"fetch": 99.0}),
        PastRun(run_id="r9", plan="drill", verdict="passed", step_seconds={"fetch": 99.0}, problem="changed"),
        PastRun(run_id="r10", plan="drill", step_seconds={"fetch": 99.0}),
    ]
    found = step_estimates(runs, "drill", {"fetch": 60.0, "check": 60.0, "wait": None})
    assert (found["fetch"].min, found["fetch"].median, found["fetch"].max, found["fetch"].runs) == (3.0, 5.0, 7.0, 5)
    assert (found["check"].median, found["check"].runs) == (60.0, 0)
    assert found["wait"] is None


def test_a_steps_time_includes_all_attempts_and_counts_only_if_it_succeeded(tmp_path):
    at = "2026-11-23T14:05:00.250Z"
    journal(tmp_path, "r1", over=False)
    with Journal.resume(tmp_path / RUNS / "r1") as written:
        written.append(Ended(at=at, key="fetch", status="failed", seconds=2.0, retry_at_s=3.0))
        written.append(Ended(at=at, key="fetch", status="passed", attempt=2, seconds=1.5))
        written.append(Ended(at=at, key="each[0]", status="passed", seconds=1.0))
        written.append(Ended(at=at, key="undo:fetch", status="passed", seconds=1.0))
        written.append(Ended(at=at, key="broken", status="failed", seconds=1.0))
    (run,) = past_runs(tmp_path)
    assert run.step_seconds == {"fetch": 3.5}
