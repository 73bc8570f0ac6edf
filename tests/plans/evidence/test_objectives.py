"""Objectives of a run, measured from its events. An unknown value is never met."""

import pytest

from drtool.plans.evidence.objectives import measure
from drtool.plans.journal.events import Ended, Reached, RunBegan
from drtool.plans.language import load_plan

HEAD = "version: 1\nid: t\ntitle: t\n"
STEPS = """
steps:
  - {id: one, uses: restore, with: {snapshot: {source: home}, to: {scratch: true}}, milestone: recovered}
  - {id: two, uses: restore, with: {snapshot: {source: mail}, to: {scratch: true}}, milestone: validated}
"""


def at(seconds):
    return f"2026-01-01T00:{seconds // 60:02}:{seconds % 60:02}Z"


@pytest.fixture
def measured(tmp_path):
    def run(objectives, *events, steps=STEPS, incident=None):
        (tmp_path / "p.yaml").write_text(f"{HEAD}objectives: {objectives}\n{steps}")
        began = RunBegan(
            at=at(60),
            run="r",
            plan="t",
            digest="",
            host="h",
            user="u",
            version="",
            scope="scratch",
            incident_at=incident,
        )
        return measure(load_plan(tmp_path / "p.yaml"), [began, *events])

    return run


def restored(key, when, seconds=120, status="passed"):
    outputs = {"consistent_at": when} if when else {}
    return Ended(at=at(seconds), elapsed_s=seconds - 60, key=key, status=status, outputs=outputs)


def test_rto_wrt_and_rpo(measured):
    found = measured(
        "{rto: 2m, wrt: 30s, rpo: 1m}",
        restored("one", at(30)),
        Reached(at=at(120), milestone="recovered", key="one"),
        restored("two", at(10), 150),
        Reached(at=at(160), milestone="validated", key="two"),
    )
    assert found.values["rto"] == {"target": 120.0, "measured": 60.0, "met": True}
    assert found.values["wrt"] == {"target": 30.0, "measured": 40.0, "met": False}
    assert found.values["rpo"] == {"target": 60.0, "measured": 50.0, "met": True}, "by the oldest"
    assert [row.partition(":")[0] for row in found.missed] == ["wrt"]


@pytest.mark.parametrize("other", [None, at(59)])
def test_data_without_a_consistency_time_makes_rpo_unknown(measured, other):
    found = measured("{rpo: 1h}", restored("one", at(30)), restored("two", other))
    assert (found.values["rpo"]["measured"] is None) == (other is None)
    assert bool(found.unproven) == (other is None)


def test_data_newer_than_the_incident_is_no_recovery_point(measured):
    found = measured("{rpo: 1h}", restored("one", at(30)), incident=at(20))
    assert found.values["rpo"] == {"target": 3600.0, "measured": None, "met": None}
    assert "newer than the incident" in found.unproven[0]


def test_a_milestone_that_failed_leaves_rto_unknown(measured):
    found = measured("{rto: 1h}", restored("one", at(30), status="failed"), restored("two", at(30)))
    assert found.values["rto"]["met"] is None
    assert found.unproven == ("objective rto: no step reached recovered",)


def test_the_incident_clock_needs_the_time_of_the_incident(measured):
    reached = Reached(at=at(120), milestone="recovered", key="one")
    assert measured("{rto: 1m, clock: incident}", reached).values["rto"]["measured"] is None
    assert measured("{rto: 1m, clock: incident}", reached, incident=at(30)).values["rto"]["met"] is False


@pytest.mark.parametrize(
    ("waits", "human_s"),
    [
        ([(10, 40), (20, 30)], 30),
        ([(10, 40), (30, 60)], 50),
        ([(10, 20), (50, 60)], 20),
        ([(0, 100), (0, 100)], 100),
        ([], 0),
    ],
)
def test_simultaneous_waits_for_people_count_once(measured, waits, human_s):
    step_context = [
        Ended(at=at(60 + to), elapsed_s=to, key=f"ask{number}", status="passed", human_s=to - since)
        for number, (since, to) in enumerate(waits)
    ]
    found = measured("{}", *sorted(step_context, key=lambda event: event.elapsed_s), restored("one", at(30), 180))
    assert found.values["time"] == {"wall_seconds": 120, "human_seconds": human_s, "machine_seconds": 120 - human_s}


def test_data_stored_after_the_start_counts_as_no_loss(measured):
    found = measured("{rpo: 0s}", restored("one", at(90)))
    assert found.values["rpo"] == {"target": 0.0, "measured": 0.0, "met": True}
    assert found.unproven == ()


def test_decisive_objectives_and_those_only_listed(measured):
    found = measured("{rto: 1m, wrt: 1m, rpo: 1m, detection: 1m}")
    assert [row.split(": ")[0] for row in found.unproven] == ["objective rto", "objective wrt", "objective rpo"]
    assert [row.split(": ")[0] for row in found.unmeasured] == ["objective detection"]
