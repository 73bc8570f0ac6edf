"""`run`: the programs that a dry run starts, the expectations of a run, and where secrets do not go."""

import os
import threading
import time
from pathlib import Path

import pytest
from action_world import CANARY, context, needs, run_context, step_context, work

from drtool.errors import DrtoolError
from drtool.plans.actions.programs_run import OUTPUTS, RunAction
from drtool.plans.language.actions import RESULTS

run = RunAction()


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def preview(tmp_path, more=None, **inputs):
    return run.preview(step_context("run", inputs, **(more or {})), run_context(tmp_path))


def act(tmp_path, within_s=20.0, **inputs):
    return run.act(step_context("run", inputs), run_context(tmp_path), work(within_s))


def test_without_check_nothing_is_started_and_nothing_is_claimed(tmp_path):
    found = preview(tmp_path, argv=["touch", f"{tmp_path}/made"])
    assert found.verdict == "would change"
    assert not found.provable
    assert "cannot be known" in found.detail
    assert os.listdir(tmp_path) == []


def test_the_check_alone_is_run(tmp_path):
    found = preview(tmp_path, argv=["touch", f"{tmp_path}/made"], check=["touch", f"{tmp_path}/checked"])
    assert (found.verdict, found.provable) == ("would change", True)
    assert os.listdir(tmp_path) == ["checked"]


def test_a_check_that_fails_is_why_it_cannot_run(tmp_path):
    found = preview(tmp_path, argv=["true"], check=["sh", "-c", "echo no room >&2; exit 3"], changes="nothing")
    assert found.verdict == "cannot run"
    assert found.detail == "its check sh ended with 3: no room"


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        ({"argv": ["no-such-program"]}, "there is no program no-such-program"),
        ({"argv": ["true"], "check": ["no-such-check"]}, "there is no program no-such-check"),
        ({"argv": ["true"], "cwd": "/no/such/place"}, "there is no directory /no/such/place"),
        ({"argv": ["true"], "user": "no-such-user"}, "there is no user no-such-user"),
        ({"argv": ["true"], "env": {"PATH": "/empty"}}, "there is no program true"),
    ],
)
def test_a_missing_part_is_named(tmp_path, inputs, why):
    found = preview(tmp_path, **inputs)
    assert found.verdict == "cannot run"
    assert why in found.detail


def test_what_is_not_known_yet_is_deferred(tmp_path):
    found = preview(tmp_path, {"context": context(steps=needs("fetch"))}, argv=["ls", "${{ steps.fetch.outputs.dir }}"])
    assert (found.verdict, found.detail) == ("deferred", "needs fetch")


def test_a_run_hands_on_what_it_printed(tmp_path):
    outcome = act(tmp_path, argv=["echo", "hello"])
    assert outcome.status == "passed"
    assert outcome.outputs == {"exit_code": 0, "stdout": "hello"}
    assert set(outcome.outputs) == set(OUTPUTS) == set(RESULTS["run"])


@pytest.mark.parametrize(
    ("expect", "status"),
    [
        ({}, "failed"),
        ({"exit_codes": [3, 4]}, "passed"),
        ({"exit_codes": [3], "stdout_contains": "out"}, "passed"),
        ({"exit_codes": [3], "stdout_contains": "other"}, "failed"),
        ({"exit_codes": [3], "stdout_matches": "^ou.$"}, "passed"),
        ({"exit_codes": [3], "stdout_matches": "^u"}, "failed"),
    ],
)
def test_expectations_decide(tmp_path, expect, status):
    assert act(tmp_path, argv=["sh", "-c", "echo out; exit 3"], expect=expect).status == status


def test_an_invalid_pattern_is_an_error(tmp_path):
    with pytest.raises(DrtoolError, match="not a regular expression"):
        act(tmp_path, argv=["true"], expect={"stdout_matches": "("})


def test_a_line_for_the_shell(tmp_path):
    outcome = act(tmp_path, argv=["echo $((1+1)) | tr 2 3; exit $CODE"], shell=True, env={"CODE": "0"})
    assert outcome.outputs["stdout"] == "3"


def test_stdin_and_directory_are_given(tmp_path):
    assert act(tmp_path, argv=["cat"], stdin="given").outputs["stdout"] == "given"
    assert act(tmp_path, argv=["pwd"], cwd=str(tmp_path)).outputs["stdout"] == str(tmp_path)


def test_a_timeout_kills_the_group(tmp_path):
    outcome = act(tmp_path, 0.4, argv=[f"sleep 50 & echo $! > {tmp_path}/pid; wait"], shell=True)
    assert (outcome.status, outcome.cause) == ("failed", "timeout")
    pid = int((tmp_path / "pid").read_text())
    assert not alive(pid)


def test_a_cancelled_run_is_aborted(tmp_path):
    one = work()
    threading.Timer(0.3, one.cancelled.set).start()
    outcome = run.act(step_context("run", {"argv": ["sleep", "50"]}), run_context(tmp_path), one)
    assert (outcome.status, outcome.cause) == ("aborted", "cancelled")


def test_no_secret_in_words_details_or_evidence(tmp_path):
    """While it runs, no process on this host has the secret in its command line."""
    script = tmp_path / "script"
    script.write_text('echo "out $TOKEN"; echo "err $TOKEN" >&2; touch "$0.began"; sleep 1; exit 1')
    inputs = {"argv": ["sh", str(script)], "env": {"TOKEN": CANARY}, "stdin": CANARY}
    results = []
    thread = threading.Thread(
        target=lambda: results.append(run.act(step_context("run", inputs), run_context(tmp_path), work()))
    )
    thread.start()
    until = time.monotonic() + 10
    while not (tmp_path / "script.began").exists() and time.monotonic() < until:
        time.sleep(0.02)
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    thread.join()
    assert any(str(script).encode() in line for line in lines)
    assert not any(CANARY.encode() in line for line in lines)
    assert results[0].status == "failed"
    assert CANARY not in repr(results[0])
    assert "‹secret›" in repr(results[0])
