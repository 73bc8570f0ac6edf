"""A drill at the command line: a site goes away and objects rot, service goes on, verification finds what was broken."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from command_shell import shell_in
from three_sites import fill, noise

GAME_DAY = """\
version: 1
id: game-day
title: A site goes away and objects rot
exercise: full
scope: live
objectives: {rto: 10m, rpo: 1d}
vars:
  victim: {type: string, required: true}
guards: {only_sites: ["${{ vars.victim }}"], max_sites_affected: 1, min_healthy_copies: 1, max_objects: 2, max_duration: 10m}
steady_state:
  every: 2s
  allow_failing: 50%
  probes:
    - {id: read-some, uses: verify, with: {level: sample, sample: {count: 1}, tolerance: {missing: 0, damaged: 0}}}
steps:
  - {id: baseline, uses: backup, with: {source: home}, outputs: {snapshot: snapshot_id}}
  - {id: gone, uses: fault, needs: [baseline], with: {type: offline, target: {site: "${{ vars.victim }}"}, duration: 2m}}
  - {id: backup-while-gone, uses: backup, needs: ["gone:injected"], with: {source: home}}
  - id: restore-while-gone
    uses: restore
    needs: [baseline, "gone:injected"]
    with: {snapshot: {id: "${{ steps.baseline.outputs.snapshot }}"}, to: {scratch: true}, verify: hash}
    milestone: recovered
  - id: rot
    uses: fault
    needs: [gone, backup-while-gone, restore-while-gone]
    with: {type: corrupt, target: {site: "${{ vars.victim }}", object: "random:2"}, amount: {bytes: 1}, duration: 2m, seed: s}
    outputs: {objects: objects}
  - id: found
    uses: verify
    needs: ["rot:injected"]
    with: {level: full, sites: ["${{ vars.victim }}"]}
    on_failure: tolerate
    reason: it must report the damaged objects; the next step checks that it did
    outputs: {bad: bad_objects}
  - id: found-exactly
    uses: assert
    needs: [found, "rot:injected"]
    with: {that: ["same_set(steps.found.outputs.bad, steps.rot.outputs.objects)"]}
  - {id: caught-up, uses: repair, needs: [rot, found-exactly], with: {site: "${{ vars.victim }}"}, milestone: validated}
always:
  - {id: nothing-left, uses: verify, with: {level: structure, tolerance: {missing: 0, damaged: 0}}}
"""


@pytest.fixture
def shell(tmp_path):
    shell = shell_in(tmp_path)
    targets = [word for site in "abc" for word in ("--target", f"{site}={tmp_path / site}")]
    assert shell("init", *targets).code == 0
    source = fill(tmp_path / "home", {f"{n}": noise(400_000, n) for n in range(4)})
    with open(tmp_path / "drtool.yaml", "a") as config:
        config.write(f"sources:\n  home: {{paths: [{source}]}}\n")
    for number in range(6):  # each backup makes packs, so that there are some to rot
        fill(source, {f"more-{number}": noise(300_000, 100 + number)})
        assert shell("backup", "--source", "home").code == 0
    return shell


def stored(tmp_path):
    return {
        path: path.read_bytes()
        for site in "abc"
        for path in sorted((tmp_path / site / "packs").rglob("*"))
        if path.is_file()
    }


@pytest.mark.thorough
def test_a_drill_passes_and_changes_no_stored_byte(shell, tmp_path):
    (tmp_path / "game.yaml").write_text(GAME_DAY)
    assert shell("plan", "run", "game.yaml", "--var", "victim=b").code == 2  # live wants --live
    dry = shell("plan", "run", "game.yaml", "--var", "victim=b", "--dry-run", "--json")
    assert (dry.code, dry.document["verdict"]) == (0, "simulated"), dry.out
    before = stored(tmp_path)
    done = shell("plan", "run", "game.yaml", "--var", "victim=b", "--live", "--json")
    assert done.code == 0, done.out + done.err
    steps = {row["id"]: row for row in done.document["steps"]}
    assert steps["found"]["status"] == "tolerated"
    assert (
        steps["found-exactly"]["status"] == steps["nothing-left"]["status"] == steps["caught-up"]["status"] == "passed"
    )
    assert done.document["objectives"]["rto"]["met"] is True
    assert done.document["objectives"]["rto"]["estimate"] is None
    assert_it_is_on_record(shell, tmp_path, done.document)
    assert done.document["leftovers"] == []
    after = stored(tmp_path)
    assert all(after.get(path) == data for path, data in before.items()), "faults change no stored byte"
    assert shell("fault", "list", "--json").document["faults"] == []
    assert shell("scratch", "list", "--json").document["spaces"] == []
    assert shell("verify", "--level", "full", "--json").code == 0


def assert_it_is_on_record(shell, tmp_path, document):
    """At the sites, where another host reads it; and what it took is what the next one may take."""
    assert document["recorded"] is True
    (row,) = shell("plan", "history", "--json", DRTOOL_STATE_DIR=str(tmp_path / "elsewhere")).document["runs"]
    assert (row["run_id"], row["verdict"], row["recorded"], row["here"]) == (document["run_id"], "passed", True, False)
    assert row["objectives"]["rto"]["measured"] == document["objectives"]["rto"]["measured"]
    assert row["digest"] == document["journal_digest"]
    assert document["run_id"] in shell("manifest", "log", "--json").out
    dry = shell("plan", "run", "game.yaml", "--var", "victim=b", "--dry-run", "--json").document
    assert dry["objectives"]["rto"]["estimate"]["median"] == row["objectives"]["rto"]["measured"]

    report = shell("plan", "report", "--html", "drill.html", "--junit", "drill.xml", "--json")
    assert (report.code, report.document["catalogue_agrees"]) == (0, True), report.err
    text = (tmp_path / "drill.html").read_text()
    assert document["run_id"] in text
    assert all(f'id="step-{row["id"]}"' in text for row in document["steps"])
    assert 'name="found-exactly"' in (tmp_path / "drill.xml").read_text()
    journal = tmp_path / "state" / "runs" / document["run_id"] / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole.replace(b"found-exactly", b"found-anyhow!"))
    assert shell("plan", "report", "--json").code == 4
    journal.write_bytes(whole)


@pytest.mark.thorough
def test_killed_with_9_it_leaves_nothing_that_the_next_command_does_not_clear(shell, tmp_path):
    (tmp_path / "game.yaml").write_text(GAME_DAY)
    words = [sys.executable, "-m", "drtool", "plan", "run", "game.yaml", "--var", "victim=b", "--live"]
    with subprocess.Popen(
        words, cwd=tmp_path, env={**os.environ, **shell.environ}, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        faults = tmp_path / "state" / "faults"
        ends_at = time.monotonic() + 60
        while time.monotonic() < ends_at and not (faults.is_dir() and list(faults.glob("*.json"))):
            time.sleep(0.05)
        assert list(faults.glob("*.json")), "no fault came into force"
        child.send_signal(signal.SIGKILL)
    found = shell("verify", "--level", "structure", "--json")
    assert found.code == 0, found.out
    assert list(faults.glob("*.json")) == []
    again = shell("plan", "resume", "--json")
    assert again.code == 0, again.out + again.err
    assert (again.document["verdict"], again.document["recorded"]) == ("passed", True)
    assert shell("scratch", "list", "--json").document["spaces"] == []
    nothing = shell("plan", "resume", "--json")
    assert (nothing.code, "no run is unfinished" in nothing.error["message"]) == (1, True)


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [
        ("guards: {only_sites: [c]}", 1, "guard only_sites refuses"),
        ("guards: {max_objects: 0}", 1, "guard max_objects refuses"),
    ],
)
def test_guards_that_cannot_hold_refuse_before_anything(shell, tmp_path, text, code, word):
    step = "{id: rot, uses: fault, with: {type: corrupt, target: {site: b, object: 'random:1'}, duration: 1m}}"
    plan = f"version: 1\nid: g\ntitle: t\nscope: live\n{text}\nsteps: [{step}]\n"
    (tmp_path / "g.yaml").write_text(plan)
    done = shell("plan", "run", "g.yaml", "--live", "--json")
    assert (done.code, done.document["verdict"]) == (code, "failed")
    assert word in json.dumps(done.document["steps"])
    assert not (tmp_path / "state" / "runs").exists()


def test_what_cannot_run_is_named_before_anything_changes(shell, tmp_path):
    plan = """\
version: 1
id: n
title: t
steps:
  - {id: nobody, uses: restore, with: {snapshot: {source: orders}, to: {scratch: true}}}
  - {id: tool, uses: run, with: {argv: [no-such-tool-at-all], changes: nothing}}
  - {id: absent, uses: restore, with: {snapshot: {source: home}, paths: [/not/there], to: {scratch: true}}}
  - {id: yes, uses: approve, with: {prompt: "Go?"}}
"""
    (tmp_path / "n.yaml").write_text(plan)
    for path in sorted((tmp_path / "b" / "packs").rglob("*")):
        if path.is_file():
            path.unlink()
    plan += """\
  - {id: lost, uses: restore, with: {snapshot: {source: home}, to: {scratch: true}, from_sites: [b]}}
"""
    (tmp_path / "n.yaml").write_text(plan)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if "cache" not in path.parts}
    done = shell("plan", "run", "n.yaml", "--json")
    assert done.code == 1
    told = {row["id"]: row["status"] for row in done.document["steps"]}
    assert told["nobody"] == "cannot run: source orders has no snapshot; there are snapshots of home"
    assert "no-such-tool-at-all" in told["tool"]
    assert "/not/there is not in snapshot" in told["absent"]
    assert told["yes"].startswith("cannot run: there is no terminal")
    assert "packs of snapshot" in told["lost"]
    assert "are not at b" in told["lost"]
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if "cache" not in path.parts}
    assert after == before
