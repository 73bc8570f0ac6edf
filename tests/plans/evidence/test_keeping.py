"""Retention of run folders: old ones are removed, but never the only copy of evidence."""

import os
from datetime import UTC, datetime

import pytest

from drtool.plans.evidence.keeping import remove_old
from drtool.plans.evidence.recording import mark
from drtool.plans.journal.events import RunBegan, RunEnded
from drtool.plans.journal.file import Journal
from drtool.plans.running.runs import RUNS

NOW_S = datetime(2026, 11, 23, tzinfo=UTC).timestamp()
DAY_S = 86_400.0
KEEP_S = 30 * DAY_S


def run(state, name, days_ago=60, plan="drill", over=True, recorded=True, config="/c.yaml"):
    at = datetime.fromtimestamp(NOW_S - days_ago * DAY_S, UTC).isoformat()
    folder = state / RUNS / name
    with Journal.create(folder) as journal:
        began = {"run": name, "plan": plan, "digest": "p", "host": "a", "user": "u", "version": "1", "scope": "scratch"}
        began["config"] = config
        journal.append(RunBegan(at=at, **began))
        if over:
            journal.append(RunEnded(at=at, verdict="passed", exit_code=0))
    if recorded:
        mark(folder, 1)
    return folder


def left(state):
    return sorted(os.listdir(state / RUNS))


def test_old_runs_go_and_newer_ones_stay(tmp_path):
    run(tmp_path, "r1")
    run(tmp_path, "r2", days_ago=29)
    assert remove_old(tmp_path, "drill", KEEP_S, NOW_S) == ["r1"]
    assert left(tmp_path) == ["r2"]
    assert os.listdir(tmp_path) == [RUNS]


@pytest.mark.parametrize("why", [{"over": False}, {"recorded": False}, {"plan": "other"}])
def test_an_unfinished_or_unrecorded_run_or_one_of_another_plan_stays(tmp_path, why):
    run(tmp_path, "r1", **why)
    assert remove_old(tmp_path, "drill", KEEP_S, NOW_S) == []
    assert left(tmp_path) == ["r1"]


def test_a_run_without_a_catalogue_owes_it_nothing(tmp_path):
    run(tmp_path, "r1", recorded=False, config="")
    assert remove_old(tmp_path, "drill", KEEP_S, NOW_S) == ["r1"]


def test_a_damaged_journal_stays(tmp_path):
    file = run(tmp_path, "r1") / "journal.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"drill"', b'"drull"'))
    assert remove_old(tmp_path, "drill", KEEP_S, NOW_S) == []


def test_a_run_at_work_stays(tmp_path):
    folder = run(tmp_path, "r1")
    with Journal.resume(folder):
        assert remove_old(tmp_path, "drill", KEEP_S, NOW_S) == []


def test_a_removal_cut_short_by_a_crash_is_completed_next_time(tmp_path):
    (tmp_path / "runs.removed" / "r0").mkdir(parents=True)
    assert remove_old(tmp_path, "drill", KEEP_S, NOW_S) == []
    assert os.listdir(tmp_path) == []
