"""What a run of a plan promises whatever becomes of it: its exit code, that `always` ran, that reasons come before changes, and
that no secret is anywhere."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_shell import shell_in
from three_sites import fill, noise

CANARY = "k4nary/with+signs&7"


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    shell = shell_in(tmp_path_factory.mktemp("promises"))
    targets = [word for site in "abc" for word in ("--target", f"{site}={shell.directory / site}")]
    assert shell("init", *targets).code == 0
    home = fill(shell.directory / "home", {f"{n}": noise(400_000, n) for n in range(8)})
    with (shell.directory / "drtool.yaml").open("a") as config:
        config.write(f"sources:\n  home: {{paths: [{home}]}}\n")
        config.write(f"notify: {{channels: {{ops: {{command: [sh, -c, 'cat >> {shell.directory / 'told'}']}}}}}}\n")
    for number in range(4):  # each makes packs, of which some are on each site
        fill(home, {f"more-{number}": noise(300_000, 50 + number)})
        assert shell("backup", "--source", "home").code == 0
    return shell


def plan(shell, name, text):
    mark = shell.directory / f"{name}.mark"
    mark.unlink(missing_ok=True)
    (shell.directory / f"{name}.yaml").write_text(
        f"version: 1\nid: {name}\ntitle: {name}\n{text}"
        "always:\n"
        f"  - {{id: mark, uses: run, with: {{argv: [touch, {mark}], changes: scratch}}}}\n"
    )
    return f"{name}.yaml", mark


FAILING_ALWAYS = "  - {id: broken, uses: run, with: {argv: ['false'], changes: nothing}}\n"
ENDINGS = {
    "good": (0, "passed", "steps: [{id: one, uses: assert, with: {that: ['1 == 1']}}]\n"),
    "failing": (
        1,
        "failed",
        """\
steps:
  - {id: early, uses: assert, with: {that: ['1 == 1']}}
  - {id: one, uses: probe, needs: [early], with: {type: command, argv: ['false'], within: 1s}}
""",
    ),
    "missed": (
        7,
        "missed",
        "objectives: {rto: 1s}\nsteps: [{id: one, uses: wait, with: {duration: 1200ms}, milestone: recovered}]\n",
    ),
    "unproven": (
        9,
        "unproven",
        "steps: [{id: one, uses: compare, with: {left: empty-one, right: empty-two, what: [tree]}}]\n",
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_the_exit_code_says_what_it_came_to_and_always_ran(shell, name):
    code, verdict, text = ENDINGS[name]
    for side in ("empty-one", "empty-two"):
        (shell.directory / side).mkdir(exist_ok=True)
        text = text.replace(side, str(shell.directory / side))
    file, mark = plan(shell, name, text)
    done = shell("plan", "run", file, "--json")
    assert (done.code, done.document["verdict"]) == (code, verdict), done.out + done.err
    assert mark.exists()


def test_what_could_not_be_cleaned_up_is_8_and_the_rest_of_always_ran(shell):
    file, mark = plan(shell, "leftover", "steps: [{id: one, uses: assert, with: {that: ['1 == 1']}}]\n")
    path = shell.directory / file
    path.write_text(path.read_text().replace("always:\n", f"always:\n{FAILING_ALWAYS}"))
    done = shell("plan", "run", file, "--json")
    assert (done.code, done.document["verdict"]) == (8, "leftovers")
    assert "broken" in " ".join(done.document["leftovers"])
    assert mark.exists()


def test_cancelled_by_sigterm_always_runs(shell):
    file, mark = plan(shell, "cancelled", "steps: [{id: one, uses: wait, with: {duration: 60s}}]\n")
    with started(shell, "plan", "run", file, "--json") as run:
        runs = shell.directory / "state/runs"
        await_(
            lambda: any(
                "one" in path.read_text() for path in runs.glob("*/journal.jsonl") if "cancelled" in path.read_text()
            )
        )
        run.send_signal(signal.SIGTERM)
        out = run.communicate(timeout=60)[0]
    assert (run.returncode, json.loads(out)["verdict"]) == (143, "aborted")
    assert mark.exists()


@contextmanager
def started(shell, *words, **environ):
    words = [sys.executable, "-m", "drtool", *words]
    pipe = subprocess.PIPE
    environ = shell.whole_environ(**environ)
    with subprocess.Popen(
        words, cwd=shell.directory, env=environ, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
    ) as run:
        try:
            yield run
        finally:
            run.kill()


def await_(holds, within_s=60):
    ends_at = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < ends_at, "it did not come to that"
        time.sleep(0.05)


REASONS = """\
steps:
  - {id: nothing, uses: restore, with: {snapshot: {source: orders}, to: {scratch: true}}}
  - {id: gone, uses: restore, with: {snapshot: {source: home}, to: {scratch: true}, from_sites: [b]}}
  - {id: tool, uses: run, with: {argv: [no-such-tool-at-all], changes: nothing}}
  - {id: asked, uses: approve, with: {prompt: "Go?"}}
  - {id: small, uses: restore, needs: [asked], with: {snapshot: {source: home}, to: {path: SMALL}}}
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_all_that_stands_in_the_way_is_named_before_anything_changes(shell, tmp_path):
    """Five reasons at once: no snapshot, packs that the permitted site lacks, no tool, nobody to ask, no room."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=True)
    hidden = shell.directory / "hidden"
    (shell.directory / "b/packs").rename(hidden)
    try:
        file, mark = plan(shell, "reasons", REASONS.replace("SMALL", str(small)))
        before = everything(shell)
        for words in ([], ["--dry-run"]):
            done = shell("plan", "run", file, "--json", *words)
            assert done.code == 1, done.out
            told = {row["id"]: row["status"] for row in done.document["steps"]}
            assert told["nothing"] == "cannot run: source orders has no snapshot; there are snapshots of home"
            assert "are not at b" in told["gone"]
            assert "no-such-tool-at-all" in told["tool"]
            assert told["asked"].startswith("cannot run: there is no terminal")
            assert told["small"].startswith(f"cannot run: {small} is too small")
            assert not mark.exists()
        assert everything(shell) == before
        assert list(small.iterdir()) == []
    finally:
        hidden.rename(shell.directory / "b/packs")
        subprocess.run(["umount", str(small)], check=True)


def everything(shell):
    """All bytes of the repository and of the state directory, but the cache, which may be filled at any time."""
    return {
        path: path.read_bytes()
        for top in ("a", "b", "c", "state", "home")
        for path in sorted((shell.directory / top).rglob("*"))
        if path.is_file()
    }


def test_a_dry_run_changes_no_byte_of_anything(shell):
    file, mark = plan(
        shell,
        "dry",
        "scope: live\nsteps:\n"
        "  - {id: stored, uses: backup, with: {source: home}}\n"
        "  - {id: read, uses: verify, with: {level: sample, sample: {count: 3}}}\n"
        "  - {id: away, uses: fault, with: {type: offline, target: {site: b}, duration: 1m}}\n"
        "  - {id: back, uses: restore, needs: ['away:injected'], with: {snapshot: {source: home}, to: {scratch: true}}}\n"
        "  - {id: whole, uses: repair, with: {}}\n"
        "  - {id: moved, uses: rebalance, with: {}}\n",
    )
    before = everything(shell)
    done = shell("plan", "run", file, "--live", "--dry-run", "--json")
    assert (done.code, done.document["verdict"]) == (0, "simulated"), done.out + done.err
    assert everything(shell) == before
    assert not mark.exists()
    assert not (shell.directory / "scratch").exists()


SECRETS = """\
secrets: {{token: {{env: PLAN_TOKEN}}}}
steps:
  - id: loud
    uses: run
    with:
      argv: [sh, -c, 'echo "$TOKEN"; echo "$TOKEN" >&2; sleep 0.5; exit 3']
      env: {{TOKEN: "${{{{ secrets.token }}}}"}}
      changes: nothing
    on_failure: continue
  - id: fed
    uses: run
    with: {{argv: [cat], stdin: "${{{{ secrets.token }}}}", changes: nothing}}
  - id: page
    uses: probe
    needs: [fed]
    with:
      type: http
      url: "http://127.0.0.1:9/"
      headers: {{Authorization: "Bearer ${{{{ secrets.token }}}}"}}
      within: 1s
    on_failure: continue
  - id: rows
    uses: probe
    needs: [fed]
    with:
      type: sql
      engine: postgresql
      dsn: "host=127.0.0.1 port=9 user=me password=${{{{ secrets.token }}}} dbname=db"
      query: select 1
      expect: {{equals: 1}}
      within: 1s
    on_failure: continue
notify:
  - {{events: [start, fail, end], channel: ops}}
"""


def test_no_secret_is_told_written_down_or_seen_by_other_users(shell):
    """In words of programs, journal, report, channels, standard output and error, and the state directory."""
    file, mark = plan(shell, "secret", SECRETS.format())
    seen: set[str] = set()
    over = threading.Event()
    watcher = threading.Thread(target=watch_programs, args=(seen, over))
    watcher.start()
    try:
        ran = shell("plan", "run", file, "--json", PLAN_TOKEN=CANARY)
    finally:
        over.set()
        watcher.join()
    assert (ran.code, ran.document["verdict"]) == (1, "failed"), ran.out + ran.err
    steps = {row["id"]: row["status"] for row in ran.document["steps"]}
    assert steps == {"loud": "failed", "fed": "passed", "page": "failed", "rows": "failed", "mark": "passed"}
    assert mark.exists()
    assert seen, "nobody watched"
    run = ran.document["run_id"]
    page, xml = shell.directory / "secret.html", shell.directory / "secret.xml"
    report = shell("plan", "report", run, "--html", str(page), "--junit", str(xml), "--json")
    assert report.code == 0, report.err
    human = shell("plan", "report", run)
    texts = {
        "stdout": ran.out,
        "stderr": ran.err,
        "report": report.out + report.err + human.out + human.err,
        "html": page.read_text(),
        "junit": xml.read_text(),
        "channel": (shell.directory / "told").read_text(),
        "programs": "\n".join(seen),
    }
    texts |= {
        str(path): path.read_text("utf-8", "replace")
        for path in (shell.directory / "state").rglob("*")
        if path.is_file()
    }
    assert any(run in name for name in texts)
    assert [name for name, text in texts.items() if any(form in text for form in forms(CANARY))] == []


def forms(secret):
    """As it is, as JSON and URLs have it, and in base64."""
    import base64
    import urllib.parse

    return (
        secret,
        urllib.parse.quote(secret, safe=""),
        urllib.parse.quote(secret),
        base64.b64encode(secret.encode()).decode(),
    )


def watch_programs(seen, over):
    """The words of every program that there is, as any user may read them."""
    while not over.is_set():
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.add(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
            except OSError:
                continue
        time.sleep(0.02)
