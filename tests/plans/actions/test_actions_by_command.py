"""Actions on the command line: a snapshot compared with live files, a question answered from another process."""

import json
import os
import subprocess
import sys
import time

import pytest
from command_shell import Shell


class Host:
    def __init__(self, root):
        self.root = root
        self.environ = {
            **os.environ,
            "DRTOOL_PASSWORD": "a password for tests",
            "DRTOOL_CONFIG": str(root / "drtool.yaml"),
            "DRTOOL_STATE_DIR": str(root / "state"),
            "DRTOOL_CACHE_DIR": str(root / "cache"),
        }
        (root / "data").mkdir()
        (root / "data/a").write_text("hello")

    def start(self, *words):
        argv = [sys.executable, "-m", "drtool", "--json", *map(str, words)]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(argv, env=self.environ, cwd=self.root, **pipes)

    def run(self, *words):
        ran = Shell(self.root, self.environ)("--json", *map(str, words))
        return ran.code, ran.document if ran.out else ran.err

    def plan(self, steps):
        (self.root / "plan.yaml").write_text(f"version: 1\nid: p\ntitle: a try\nsteps:\n{steps}")
        return self.root / "plan.yaml"


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_a_snapshot_is_compared_with_what_is_live(host):
    sites = [word for name in "ab" for word in ("--target", f"{name}={host.root}/{name}")]
    assert host.run("init", *sites)[0] == 0
    _, made = host.run("backup", "data")
    side = f"snapshot:{made['snapshots'][0]['id'][:12]}:{host.root}/data"
    inputs = f'{{left: "{side}", right: "live:{host.root}/data", what: [tree, hash, metadata]}}'
    step = f"  - {{id: same, uses: compare, with: {inputs}}}\n"
    assert host.run("plan", "run", host.plan(step))[0] == 0
    (host.root / "data/b").write_text("new")
    code, document = host.run("plan", "run", host.plan(step))
    assert (code, document["steps"][0]["detail"]) == (1, "/b: only right")


def test_a_question_reaches_a_channel_and_is_answered_from_elsewhere(host):
    heard = host.root / "heard"
    command = json.dumps(["sh", "-c", f"cat > {heard}.draft; mv {heard}.draft {heard}"])
    (host.root / "drtool.yaml").write_text(f"notify: {{channels: {{ops: {{command: {command}}}}}}}\n")
    plan = host.plan('  - {id: go, uses: approve, with: {prompt: "Go on?", channel: ops}, timeout: 60s}\n')
    with host.start("plan", "run", plan) as run:
        until = time.monotonic() + 30
        while not heard.exists() and run.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        line = json.loads(heard.read_text())["message"].splitlines()[-1]
        words = line.removeprefix("To answer: drtool ").removesuffix(" [--no]").split()
        code, answered = host.run(*words, "--no", "--note", "not today")
        assert (code, answered["yes"]) == (0, False)
        document = json.loads(run.communicate(timeout=30)[0])
    assert document["steps"][0]["status"] == "aborted"
    assert "said no" in document["steps"][0]["detail"]
    assert run.returncode != 0


def test_without_terminal_and_channel_nothing_begins(host):
    code, document = host.run("plan", "run", host.plan("  - {id: go, uses: approve, with: {prompt: Go?}}\n"))
    assert code == 1
    assert document["steps"][0]["status"].startswith("cannot run: there is no terminal")
