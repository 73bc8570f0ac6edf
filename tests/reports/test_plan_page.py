"""The report of a run: unproven parts come first, changed journals are not trusted, hostile text is escaped."""

import re
from xml.etree.ElementTree import fromstring

import chromium
import pytest

from drtool.plans.evidence.history import Estimate
from drtool.plans.journal.events import (
    Answered,
    Began,
    Ended,
    Measured,
    Reached,
    RunBegan,
    RunEnded,
    Sampled,
)
from drtool.reports.plan_junit import junit
from drtool.reports.plan_page import Surroundings, page
from drtool.reports.plan_story import critical_path, story_of

AT = "2026-11-23T14:05:00.250Z"
HOSTILE = "<script>alert('x')</script>&\"\ud800\x07"


def events(verdict="unproven", **more):
    began = RunBegan(
        at=AT,
        run="20261123-140500-3f2a",
        plan="drill",
        digest="p" * 64,
        host="a",
        user="u",
        version="1",
        scope="scratch",
        title=f"A drill {HOSTILE}",
        sources={"drill.yaml": "f" * 64},
    )
    steps = [
        *_step("fetch", 0.0, 2.0, outputs={"path": HOSTILE}),
        *_step("side", 0.0, 1.0),
        *_step("flaky", 2.0, 3.0, attempt=1, retry_at_s=3.5, status="failed", detail="no"),
        *_step("flaky", 3.5, 4.0, attempt=2),
        *_step(
            "rot", 4.0, 6.0, uses="fault", evidence={"removed": True, "targets": ["b/main"], "ended_by": "released"}
        ),
        *_step("proof", 6.0, 9.0, status="unproven", detail=HOSTILE),
        *_step("broken", 6.0, 7.0, status="failed", detail="it broke"),
        Ended(at=AT, elapsed_s=7.0, key="after", status="blocked", detail="broken failed"),
    ]
    goals = {
        "rto": {"target": 5.0, "measured": 9.0, "met": False},
        "rpo": {"target": 60.0, "measured": None, "met": None},
    }
    closing = [
        Reached(at=AT, elapsed_s=9.0, milestone="recovered", key="proof"),
        Answered(at=AT, elapsed_s=9.0, key="go", yes=True, by="ann@host"),
        Sampled(at=AT, elapsed_s=9.0, probe="alive", when="during", passed=False, detail="slow"),
        Measured(at=AT, elapsed_s=9.0, values={**goals, "time": {"human_seconds": 1.0}}),
        RunEnded(at=AT, elapsed_s=9.0, verdict=verdict, exit_code=9, reason="proof: nobody knows", **more),
    ]
    return [began, *steps, *closing]


def _step(key, from_s, to_s, *, uses="run", **ended):
    status = ended.pop("status", "passed")
    attempt = ended.get("attempt", 1)
    yield Began(at=AT, elapsed_s=from_s, key=key, uses=uses, attempt=attempt, inputs={"argv": ["true"]})
    yield Ended(at=AT, elapsed_s=to_s, key=key, status=status, seconds=to_s - from_s, **ended)


NEEDS = {"fetch": [], "side": [], "flaky": ["fetch", "side"], "rot": ["flaky"], "proof": ["rot"], "broken": ["rot"]}
AROUND = Surroundings(trends={"rto": [4.0, None, 9.0]}, needs=NEEDS, recorded="this very run is recorded", agrees=True)


@pytest.fixture(scope="module")
def story():
    return story_of(events(), "d" * 64)


def test_unproven_parts_come_first(story):
    text = page(story, AROUND)
    assert text.index("Not proven") < text.index("Objectives") < text.index("Steps")
    assert "objective rpo: it was not measured" in text
    assert "20261123-140500-3f2a" in text
    for key in ("fetch", "side", "flaky", "rot", "proof", "broken", "after"):
        assert f'id="step-{key}"' in text


def test_nothing_hostile_gets_through():
    named = f'"><script>alert(1)</script>{HOSTILE}'
    hostile = [*events()[:-1], *_step(named, 6.0, 7.0, uses=HOSTILE, evidence={HOSTILE: [HOSTILE]}), events()[-1]]
    text = page(story_of(hostile, "d" * 64), Surroundings(needs={named: [HOSTILE]}, recorded=HOSTILE, damage=HOSTILE))
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    text.encode()
    assert not re.search(r"(src|href)=", text)
    fromstring(junit(story_of(hostile, "d")).split("\n", 1)[1])


def test_a_passed_run_is_called_proven_only_if_everything_was():
    assert "not everything was proven" in page(story_of(events("passed"), "d"), AROUND)
    run = [events()[0], *_step("fetch", 0.0, 2.0), RunEnded(at=AT, elapsed_s=2.0, verdict="passed", exit_code=0)]
    assert "was done and proven" in page(story_of(run, "d"), AROUND)


def test_the_critical_path_leads_to_the_end(story):
    assert critical_path(story.works, NEEDS) == ("fetch", "flaky", "rot", "proof")
    assert critical_path(story.works, {}) == ()


def test_a_journal_that_differs_from_the_record_is_not_trusted(story):
    text = page(story, Surroundings(recorded="the sites recorded another journal", agrees=False))
    assert "Do not trust this report" in text


def test_a_journal_that_was_changed_or_cut_proves_nothing(story):
    text = page(story, Surroundings(damage="line 7 does not follow"))
    assert text.index("no evidence") < text.index("line 7 does not follow") < text.index("Not proven")
    assert "NOT verified" in text
    assert "NOT verified" not in page(story, AROUND)
    suite = fromstring(junit(story, "line 7 does not follow").split("\n", 1)[1])
    assert suite.find("testcase[@name='the journal']/error").get("message") == "line 7 does not follow"


def test_steps_that_need_attention_are_open(story):
    text = page(story, AROUND)
    opened = set(re.findall(r'id="step-([a-z]+)" open="open"', text))
    assert opened == {"proof", "broken"}


def test_earlier_runs_give_the_expected_values(story):
    likely = {"rto": Estimate(min=4.0, median=5.0, max=8.0, runs=3)}
    text = page(story, Surroundings(estimates=likely))
    assert "5 s, 4 s to 8 s in 3" in text
    assert "no earlier value" in text, "an unknown value is reported as such, never as 0"


def test_a_fault_held_longer_is_not_on_the_critical_path():
    held = [*_step("slow", 0.0, 5.0), *_step("rot", 0.0, 9.0, uses="fault"), *_step("look", 5.0, 8.0)]
    works = story_of([events()[0], *held], "d").works
    assert critical_path(works, {"slow": [], "look": ["slow", "rot"]}) == ("slow", "look")


def test_a_run_that_died_is_unfinished():
    story = story_of(events()[:5], "d" * 64)
    assert story.verdict == "unfinished"
    assert "unfinished" in page(story, Surroundings())
    suite = fromstring(junit(story).split("\n", 1)[1])
    assert suite.find("testcase[@name='the run itself']/error") is not None


def test_junit_separates_failures_from_unknown_ends(story):
    suite = fromstring(junit(story).split("\n", 1)[1])
    found = {
        case.get("name"): [kind.tag for kind in case if kind.tag != "system-out"] for case in suite.iter("testcase")
    }
    assert found == {
        "fetch": [],
        "side": [],
        "flaky": [],
        "rot": [],
        "proof": ["error"],
        "broken": ["failure"],
        "after": ["skipped"],
        "objective rto": ["failure"],
        "objective rpo": ["error"],
    }
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) == (
        "9",
        "2",
        "2",
        "1",
    )


def test_an_empty_journal_has_no_story():
    assert story_of([], "d") is None


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.spread(2)
def test_a_browser_shows_it_whole(story, width, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page(story, AROUND), errors="replace")
    dom, complaints = chromium.opened(file, tmp_path / "profile", width)
    assert complaints == ""
    assert dom.count("<details") == len(story.works)
    assert chromium.overflow_px(file, tmp_path / "profile", width) <= 0
