"""Hooks: programs with a time limit, without a shell or secrets, and pings without effect on the command."""

import http.server
import json
import threading
import time

import pytest

from drtool.config.schema import ChannelConfig, NotifyConfig
from drtool.plans.channels import Channels
from drtool.plans.hooks import Occasion, Outcome, run_hooks

KIND_NAMES = Occasion(hook="after_backup", command="backup", exit_code=5, snapshots=("ab", "cd"), message="x\ny\0z")
PATH = {"PATH": "/usr/bin:/bin"}


@pytest.fixture
def web():
    """Return a URL and the requests that it received. `/bad` answers 500, `/mute` never answers."""
    step_context: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            step_context.append(f"{self.command} {self.path}")
            if self.path == "/mute":
                time.sleep(1.5)
            self.send_response(500 if self.path == "/bad" else 200)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", step_context
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_program_gets_the_occasion_and_no_password(tmp_path):
    out = tmp_path / "out"
    environ = {**PATH, "DRTOOL_PASSWORD": "s3cret", "DRTOOL_PASSWORD_COMMAND": "s3cret", "MINE": "1"}
    done = run_hooks([("sh", "-c", f"env > {out}")], KIND_NAMES, environ, timeout_s=20)
    assert not done.failed
    said = out.read_text()
    assert "s3cret" not in said
    for line in (
        "DRTOOL_HOOK=after_backup",
        "DRTOOL_EXIT_CODE=5",
        "DRTOOL_SNAPSHOT_IDS=ab cd",
        "DRTOOL_MESSAGE=x",
        "MINE=1",
    ):
        assert line in said


def test_there_is_no_shell(tmp_path):
    run_hooks([("touch", str(tmp_path / "$(echo a); b"))], KIND_NAMES, PATH, timeout_s=20)
    assert [path.name for path in tmp_path.iterdir()] == ["$(echo a); b"]


def test_a_failure_is_reported_and_stops_only_where_it_should(tmp_path):
    hooks = [("sh", "-c", "echo no disk >&2; exit 3"), ("/no/such/program",), ("touch", str(tmp_path / "ran"))]
    stopped = run_hooks(hooks, KIND_NAMES, PATH, timeout_s=20, stop_at_failure=True)
    assert len(stopped.failed) == 1
    assert "ended with 3: no disk" in stopped.failed[0]
    assert not list(tmp_path.iterdir())
    assert len(run_hooks(hooks, KIND_NAMES, PATH, timeout_s=20).failed) == 2
    assert list(tmp_path.iterdir())


def test_a_hook_that_never_ends_is_ended():
    began = time.monotonic()
    done = run_hooks([("sleep", "60")], KIND_NAMES, PATH, timeout_s=0.3)
    assert "did not end within 0.3 s" in done.failed[0]
    assert time.monotonic() - began < 20


def test_pings_are_one_get_each_and_only_warn(web):
    base, step_context = web
    done = run_hooks([(f"{base}/ok",), (f"{base}/bad",)], KIND_NAMES, PATH, timeout_s=20, stop_at_failure=True)
    assert step_context == ["GET /ok", "GET /bad"]
    assert not done.failed
    assert "status 500" in done.unanswered[0]
    assert "/bad" not in done.unanswered[0]
    assert run_hooks([(f"{base}/ok",)], KIND_NAMES, PATH, timeout_s=20, pings=False).unanswered == ()
    assert len(step_context) == 2


def test_an_unanswered_ping_takes_bounded_time_and_does_not_show_its_path(web):
    base, _ = web
    done = run_hooks([(f"{base}/mute",), ("http://127.0.0.1:1/secret",)], KIND_NAMES, PATH, timeout_s=0.3)
    assert len(done.unanswered) == 2
    assert "secret" not in "".join(done.unanswered)
    assert "mute" not in "".join(done.unanswered)


def test_people_are_notified_through_a_channel(tmp_path):
    out = tmp_path / "told"
    channels = Channels(NotifyConfig(channels={"ops": ChannelConfig(command=("sh", "-c", f"cat > {out}"))}))
    assert run_hooks([("notify:ops",)], KIND_NAMES, PATH, timeout_s=20, tell=channels.tell) == Outcome()
    said = json.loads(out.read_text())
    assert (said["channel"], said["event"]) == ("ops", "after_backup")
    assert said["message"].startswith("drtool backup ended with 5, 2 snapshots stored: x")
    silent = run_hooks([("notify:none",)], KIND_NAMES, PATH, timeout_s=20, tell=channels.tell)
    assert "channel none could not be notified" in silent.unanswered[0]
    assert not silent.failed
