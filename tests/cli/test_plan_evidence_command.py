"""Runs of plans as evidence: recorded at the sites, listed, expected to pass, owed where nobody could be told."""

import os
from contextlib import contextmanager

import pytest

PROOF = """\
version: 1
id: proof
title: One and one is two
objectives: {rto: 10m}
schedule: {cron: "17 3 * * 0", must_pass_every: 9d}
steps:
  - {id: holds, uses: assert, with: {that: ["1 + 1 == 2"]}}
  - {id: waits, uses: wait, needs: [holds], with: {duration: 100ms}, estimate: 7s}
"""


@pytest.fixture(scope="module")
def proven(stored):
    (stored.directory / "plans").mkdir()
    (stored.directory / "plans" / "proof.yaml").write_text(PROOF)
    return stored


@contextmanager
def away(shell, *sites):
    """Those sites cannot be reached."""
    for site in sites:
        os.rename(shell.directory / site, shell.directory / f"{site}.away")
    try:
        yield
    finally:
        for site in sites:
            os.rename(shell.directory / f"{site}.away", shell.directory / site)


def test_a_plan_that_never_ran_is_not_proven_and_once_it_passed_it_is(proven):
    before = proven("status", "--json")
    (row,) = before.document["plans"]
    assert (row["id"], row["met"], row["verdict"], row["last_passed"]) == ("proof", False, "", None)
    assert row["must_pass_every_seconds"] == 9 * 86_400
    assert before.code == 7
    assert any("plan proof must pass every 9d" in problem for problem in before.document["problems"])
    assert "never" in proven("status").out
    assert proven("plan", "run", "proof", "--json").document["recorded"] is True
    after = proven("status", "--json")
    (row,) = after.document["plans"]
    assert (after.code, row["met"], row["verdict"]) == (0, True, "passed")
    assert row["last_passed"].endswith("Z")


def test_what_a_step_may_take_is_what_it_took_else_what_the_plan_says(proven):
    text = PROOF.replace("id: proof", "id: timed")
    (proven.directory / "timed.yaml").write_text(text)
    dry = proven("plan", "run", "timed.yaml", "--dry-run", "--json").document
    steps = {row["id"]: row["estimate"] for row in dry["steps"]}
    assert steps["waits"] == {"min": 7.0, "median": 7.0, "max": 7.0, "runs": 0}
    assert steps["holds"] is None, "unknown is not nothing"
    assert dry["objectives"]["rto"]["estimate"] is None
    assert "about 7.0 s" in proven("plan", "run", "timed.yaml", "--dry-run").out
    done = proven("plan", "run", "timed.yaml", "--json").document
    again = proven("plan", "run", "timed.yaml", "--dry-run", "--json").document
    took = {row["id"]: row["seconds"] for row in done["steps"]}
    likely = {row["id"]: row["estimate"] for row in again["steps"]}
    assert likely["waits"]["median"] == pytest.approx(took["waits"], abs=0.001)
    assert likely["waits"]["runs"] == again["objectives"]["rto"]["estimate"]["runs"] == 1


def test_a_run_that_nobody_could_be_told_of_is_owed_and_recorded_by_the_next_command(proven):
    known = {row["run_id"] for row in proven("plan", "history", "--json").document["runs"]}
    with away(proven, "a", "b"):
        lonely = proven("plan", "run", "proof", "--json")
        assert (lonely.code, lonely.document["verdict"]) == (0, "passed")
        assert lonely.document["recorded"] is False
        assert "needs 2 of 3" in lonely.document["record_problem"]
        assert "not recorded in the catalogue" in lonely.err
        listed = proven("plan", "history", "--json")
        rows = {row["run_id"]: row for row in listed.document["runs"]}
        assert (listed.code, rows[lonely.document["run_id"]]["recorded"]) == (0, False)
        assert known < set(rows), "what one site knows is listed too"
    rows = {row["run_id"]: row for row in proven("plan", "history", "proof", "--json").document["runs"]}
    assert rows[lonely.document["run_id"]]["recorded"] is True
    again = proven("plan", "history", "proof", "--json").document["runs"]
    assert len(again) == len(rows)
    log = proven("manifest", "log", "--json").document["entries"]
    assert sum(lonely.document["run_id"] in entry["summary"] for entry in log) == 1


def test_the_history_is_read_from_a_single_site_and_of_no_repository_at_all(proven):
    with away(proven, "a", "b"):
        told = proven("plan", "history", "--manifest-from", "c", "--json")
        assert (told.code, told.document["tentative"]) == (0, True)
        assert told.document["runs"]
        assert {row["recorded"] for row in told.document["runs"]} == {True}
    with away(proven, "a", "b", "c"):
        alone = proven("plan", "history", "--json")
        assert (alone.code, len(alone.document["runs"])) == (0, len(told.document["runs"]))
        assert {row["recorded"] for row in alone.document["runs"]} == {False}
    assert proven("plan", "history", "no-such-plan", "--json").document["runs"] == []
