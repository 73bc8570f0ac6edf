"""Runs of plans as evidence: recorded at the sites or later, listed, and expected to pass."""

import os
from contextlib import contextmanager

import pytest
from command_shell import shell_in

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
    """Make those sites unreachable."""
    for site in sites:
        os.rename(shell.directory / site, shell.directory / f"{site}.away")
    try:
        yield
    finally:
        for site in sites:
            os.rename(shell.directory / f"{site}.away", shell.directory / site)


def test_a_plan_is_proven_once_it_has_passed(proven):
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


def test_an_unreadable_plan_is_a_problem(proven):
    file = proven.directory / "plans" / "broken.yaml"
    file.write_text("version: 1\nid: broken\nsteps: 7\n")
    told = proven("status", "--json").document
    file.unlink()
    assert told["healthy"] is False
    assert any(f"plan check {file}" in problem for problem in told["problems"])
    os.rename(proven.directory / "plans", proven.directory / "elsewhere")
    config = proven.directory / "drtool.yaml"
    text = config.read_text()
    config.write_text(f"{text}plans: plans\n")
    told = proven("status", "--json").document
    config.write_text(text)
    os.rename(proven.directory / "elsewhere", proven.directory / "plans")
    assert any("so the plans that must pass are unknown" in problem for problem in told["problems"])


def test_the_estimate_of_a_step_is_its_past_time_or_else_that_of_the_plan(proven):
    text = PROOF.replace("id: proof", "id: timed")
    (proven.directory / "timed.yaml").write_text(text)
    dry = proven("plan", "run", "timed.yaml", "--dry-run", "--json").document
    steps = {row["id"]: row["estimate"] for row in dry["steps"]}
    assert steps["waits"] == {"min": 7.0, "median": 7.0, "max": 7.0, "runs": 0}
    assert steps["holds"] is None, "an unknown estimate is not zero"
    assert dry["objectives"]["rto"]["estimate"] is None
    assert "about 7.0 s" in proven("plan", "run", "timed.yaml", "--dry-run").out
    done = proven("plan", "run", "timed.yaml", "--json").document
    again = proven("plan", "run", "timed.yaml", "--dry-run", "--json").document
    took = {row["id"]: row["seconds"] for row in done["steps"]}
    likely = {row["id"]: row["estimate"] for row in again["steps"]}
    assert likely["waits"]["median"] == pytest.approx(took["waits"], abs=0.001)
    assert likely["waits"]["runs"] == again["objectives"]["rto"]["estimate"]["runs"] == 1


def test_a_run_that_could_not_be_recorded_is_recorded_by_the_next_command(proven):
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
        assert known < set(rows), "the runs that one site has are listed too"
    rows = {row["run_id"]: row for row in proven("plan", "history", "proof", "--json").document["runs"]}
    assert rows[lonely.document["run_id"]]["recorded"] is True
    again = proven("plan", "history", "proof", "--json").document["runs"]
    assert len(again) == len(rows)
    log = proven("manifest", "log", "--json").document["entries"]
    assert sum(lonely.document["run_id"] in entry["summary"] for entry in log) == 1


def test_the_history_is_read_from_a_single_site_and_without_a_repository(proven):
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


def test_the_report_says_that_a_journal_was_changed_or_cut(proven):
    run = proven("plan", "run", "proof", "--json").document["run_id"]
    journal = proven.directory / "state" / "runs" / run / "journal.jsonl"
    whole = journal.read_bytes()
    good = proven("plan", "report", run[:-1], "--html", "page.html", "--junit", "cases.xml", "--json")
    assert (good.code, good.document["journal_verified"], good.document["catalogue_agrees"]) == (0, True, True)
    for data, word in (
        (whole.replace(b'"key":"waits","status":"passed"', b'"key":"waits","status":"failed"'), "journal.jsonl:"),
        (b"".join(whole.splitlines(keepends=True)[:-1]), "the end of its journal is missing"),
    ):
        assert data != whole
        journal.write_bytes(data)
        told = proven("plan", "report", run, "--html", "page.html", "--junit", "cases.xml", "--json")
        assert (told.code, told.document["journal_verified"]) == (4, False)
        assert word in told.document["problem"]
        assert "NOT verified" in (proven.directory / "page.html").read_text()
        assert 'name="the journal"' in (proven.directory / "cases.xml").read_text()
        assert "no evidence" in proven("plan", "report", run).out
    journal.write_bytes(b"{}\n")
    assert proven("plan", "report", run, "--json").code == 4
    journal.write_bytes(whole)


def test_a_report_needs_no_repository(proven):
    with away(proven, "a", "b", "c"):
        told = proven("plan", "report", "--html", "page.html", "--json")
        assert (told.code, told.document["journal_verified"]) == (0, True)
        assert told.document["catalogue_agrees"] is None
    assert proven("plan", "run", "proof").code == 0
    assert proven("plan", "report", "2", "--json").code == 1, "two ids have this prefix"
    assert proven("plan", "report", "99", "--json").error["message"] == "there is no run '99' on this host"


def test_no_secret_is_in_history_or_report(proven):
    canary = "canary-7f3a91d2"
    plan = """\
version: 1
id: hushed
title: A program is told a secret and says it
secrets: {token: {env: TOKEN}}
steps:
  - id: tell
    uses: run
    with:
      argv: [sh, -c, "echo $T; echo it is $T >&2; exit 1"]
      env: {T: "${{ secrets.token }}"}
      changes: nothing
"""
    (proven.directory / "hushed.yaml").write_text(plan)
    done = proven("plan", "run", "hushed.yaml", "--json", TOKEN=canary)
    assert done.code == 1
    run = done.document["run_id"]  # another one may have begun within the same second
    told = [
        done,
        proven("plan", "history", "--json"),
        proven("plan", "report", run, "--json"),
        proven("manifest", "log"),
    ]
    told += [proven("plan", "report", run, "--html", "page.html", "--junit", "cases.xml")]
    texts = [text for one in told for text in (one.out, one.err)]
    texts += [(proven.directory / name).read_text() for name in ("page.html", "cases.xml")]
    assert not [text for text in texts if canary in text]
    assert "tell" in texts[-1]


def test_without_a_configuration_a_run_is_not_recorded_and_says_so(proven, tmp_path):
    (tmp_path / "alone.yaml").write_text(PROOF.replace("id: proof", "id: alone"))
    alone = shell_in(tmp_path)
    done = alone("plan", "run", "alone.yaml", "--json")
    assert (done.code, done.document["recorded"]) == (0, False)
    assert "the configuration names no repository" in done.document["record_problem"]
    assert "not recorded" in done.err
    (row,) = alone("plan", "history", "--json").document["runs"]
    assert (row["verdict"], row["recorded"], row["problem"]) == ("passed", False, "")
    told = alone("plan", "report", "--json")
    assert (told.code, told.document["catalogue"]) == (0, "could not be read")


def test_an_unconfigured_channel_is_reported_before_anything_runs(proven):
    wishes = "notify: [{events: [end], channel: ops}, {events: [fail, end], channel: opps}]\n"
    (proven.directory / "wishing.yaml").write_text(PROOF.replace("id: proof", "id: wishing") + wishes)
    config = proven.directory / "drtool.yaml"
    text = config.read_text()
    config.write_text(text + "notify: {channels: {ops: {command: [cat]}}}\n")
    try:
        dry = proven("plan", "run", "wishing.yaml", "--dry-run")
        document = proven("plan", "run", "wishing.yaml", "--dry-run", "--json").document
        real = proven("plan", "run", "wishing.yaml")
    finally:
        config.write_text(text)
    assert document["untold"] == ["opps: there is no channel 'opps'; the nearest known one is 'ops'"]
    assert (dry.code, dry.out.count("opps: there is no channel")) == (0, 1)
    assert (real.code, real.err.count("there is no channel")) == (0, 2), (
        "before the run begins, and when the channel is needed"
    )


def test_a_run_whose_objective_was_not_measured_is_not_proven_and_says_so_first(proven):
    plan = """\
version: 1
id: skipping
title: What is to be restored is skipped
objectives: {rto: 10m, rpo: 1d, clock: incident}
steps:
  - {id: holds, uses: assert, with: {that: ["1 + 1 == 2"]}}
  - {id: files, uses: restore, if: "false", with: {snapshot: {source: home}, to: {scratch: true}}}
"""
    (proven.directory / "skipping.yaml").write_text(plan)
    dry = proven("plan", "run", "skipping.yaml", "--dry-run")
    assert dry.code == 0
    done = proven("plan", "run", "skipping.yaml", "--json")
    document = done.document
    assert (done.code, document["verdict"]) == (9, "unproven")
    assert document["unproven"] == [
        "objective rto: the time of the incident was not given (--incident-at)",
        "objective rpo: nothing was restored",
    ]
    assert document["reason"] == document["unproven"][0]
    assert done.err.count("--incident-at") == 1
    assert dry.err.count("--incident-at") == 1
    told = proven("plan", "report", document["run_id"]).out
    assert told.splitlines()[1] == document["reason"], told


def test_a_failed_undo_is_reported_step_by_step(proven):
    plan = """\
version: 1
id: undoing
title: What was begun is undone
steps:
  - id: begin
    uses: run
    with: {argv: ["true"], changes: nothing}
    compensate:
      - {id: first, uses: run, with: {argv: ["false"], changes: nothing}}
      - {id: second, uses: notify, with: {channel: ops, message: x}}
      - {id: third, uses: assert, with: {that: ["1 + 1 == 2"]}}
  - {id: breaks, uses: run, needs: [begin], with: {argv: ["false"], changes: nothing}}
"""
    (proven.directory / "undoing.yaml").write_text(plan)
    rows = proven("plan", "run", "undoing.yaml", "--json").document["steps"]
    assert [row["id"] for row in rows] == ["begin", "undo:begin", "undo:begin.2", "undo:begin.3", "breaks"]
    assert "there is no channel 'ops'" in rows[2]["status"]
    config = proven.directory / "drtool.yaml"
    text = config.read_text()
    config.write_text(text + 'notify: {channels: {ops: {command: ["false"]}}}\n')
    done = proven("plan", "run", "undoing.yaml", "--json")
    config.write_text(text)
    rows = {row["id"]: (row["uses"], row["status"]) for row in done.document["steps"]}
    assert rows["undo:begin"] == ("run", "failed")
    assert rows["undo:begin.2"] == ("notify", "failed")
    assert rows["undo:begin.3"] == ("assert", "passed")
    left = [row.partition(" ")[0] for row in done.document["leftovers"]]
    assert (done.code, left) == (1, ["undo:begin", "undo:begin.2"])
