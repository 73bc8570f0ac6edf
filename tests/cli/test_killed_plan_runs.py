"""`kill -9` of a run: its programs end with it, and a resumed run starts each of them once at a time."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import pytest

# Records each start, refuses to end, and keeps reporting that it is alive. So do its child and a child in another group.
WORK = """
trap '' TERM INT HUP
mkdir alone || { echo twice >>starts; exit 3; }
echo $$ >>starts
if test -e quick; then exit 0; fi
sh -c 'while :; do echo $$ $(date +%s.%N) >child; sleep 0.05; done' &
timeout 200 sh -c 'trap "" TERM; while :; do echo $$ $(date +%s.%N) >group; sleep 0.05; done' &
while :; do echo $$ $(date +%s.%N) >parent; sleep 0.05; done
"""
PLAN = """\
version: 1
id: killed
title: A program that does not want to end
steps:
  - {{id: work, uses: {uses}, with: {{{inputs}}}, timeout: 100s}}
"""
RUN = "argv: [sh, work.sh], cwd: {cwd}, changes: scratch, idempotent: true"
PROBE = "type: command, argv: [sh, -c, 'cd {cwd} && exec sh work.sh']"


ALIVE = ("parent", "child", "group")


def waited_for(what, within_s=20.0):
    until = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def beats(cwd):
    """Return the processes that are alive."""
    before = {name: (cwd / name).read_text() for name in ALIVE}
    time.sleep(0.5)
    return [name for name in ALIVE if (cwd / name).read_text() != before[name]]


@contextmanager
def begun(shell, cwd, plan):
    """A run with a running program."""
    words = [sys.executable, "-m", "drtool", "plan", "run", plan, "--json"]
    with subprocess.Popen(
        words, cwd=shell.directory, env=shell.whole_environ(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as running:
        try:
            waited_for(lambda: all((cwd / name).exists() for name in ALIVE))
            yield running
        finally:
            running.kill()
            running.wait()
            for name in ALIVE:
                with suppress(OSError, ValueError, IndexError):
                    os.kill(int((cwd / name).read_text().split()[0]), signal.SIGKILL)


@pytest.fixture
def place(stored, tmp_path):
    cwd = tmp_path / "work"
    cwd.mkdir()
    (cwd / "work.sh").write_text(WORK)
    return cwd


def killed(running, cwd):
    """Wait until none of its processes is left."""
    running.kill()
    running.wait()
    waited_for(lambda: beats(cwd) == [], 5)


def test_a_killed_run_leaves_no_program_running_and_resumes_with_one(stored, place):
    plan = place.parent / "killed.yaml"
    plan.write_text(PLAN.format(uses="run", inputs=RUN.format(cwd=place)))
    with begun(stored, place, str(plan)) as running:
        killed(running, place)
        (place / "alone").rmdir()
        (place / "quick").touch()
        done = stored("plan", "resume", "--json")
        assert (done.code, done.document["verdict"]) == (0, "passed"), done.err
    starts = (place / "starts").read_text().split()
    assert len(starts) == 2
    assert "twice" not in starts


@pytest.mark.parametrize(("uses", "inputs"), [("probe", PROBE), ("backup", "source: endless")])
def test_running_probes_and_verbs_end_with_their_run(stored, place, uses, inputs):
    config = stored.directory / "drtool.yaml"
    text = config.read_text()
    source = f"{{stream: {{command: [sh, -c, 'cd {place} && exec sh work.sh'], name: x}}}}"
    config.write_text(text.replace("sources: {", f"sources: {{endless: {source}, "))
    plan = place.parent / "killed.yaml"
    plan.write_text(PLAN.format(uses=uses, inputs=inputs.format(cwd=place)))
    try:
        with begun(stored, place, str(plan)) as running:
            killed(running, place)
    finally:
        config.write_text(text)
