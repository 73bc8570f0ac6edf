"""Channels against a real web server and real programs."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from drtool.config.schema import ChannelConfig, HeaderFile, NotifyConfig, load_config
from drtool.errors import ConfigError
from drtool.plans.channels import Channels


class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((self.path, dict(self.headers), json.loads(body)))
        self.server.released.wait(self.server.hangs_s)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_words):
        pass


@pytest.fixture
def hook():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.heard, server.status, server.hangs_s, server.released = [], 204, 0, threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def channels(timeout_s=5.0, **named):
    return Channels(NotifyConfig(channels=named), timeout_s)


def webhook(server, **headers):
    return ChannelConfig(webhook=f"http://127.0.0.1:{server.server_port}/secret-path", headers=headers)


def test_a_webhook_gets_the_message_as_json(hook, tmp_path):
    token = tmp_path / "token"
    token.write_text("Bearer abc\n")
    token.chmod(0o600)
    ops = channels(ops=webhook(hook, **{"X-Team": "sre", "Authorization": HeaderFile(file=str(token))}))
    assert ops.can_tell("ops") == ""
    assert hook.heard == []
    assert ops.tell("ops", "fail", "two\nlines") == ""
    path, headers, body = hook.heard[0]
    assert path == "/secret-path"
    assert (headers["X-Team"], headers["Authorization"]) == ("sre", "Bearer abc")
    assert (body["channel"], body["event"], body["message"]) == ("ops", "fail", "two\nlines")


def test_a_refusing_webhook_is_reported_without_its_path(hook):
    hook.status = 500
    problem = channels(ops=webhook(hook)).tell("ops", "fail", "x")
    assert problem.endswith("answered with status 500")
    assert "secret-path" not in problem


def test_a_webhook_without_an_answer_is_abandoned(hook):
    hook.hangs_s = 30
    assert "no answer in time" in channels(0.5, ops=webhook(hook)).tell("ops", "fail", "x")


def test_a_missing_webhook_is_reported():
    one = ChannelConfig(webhook="http://127.0.0.1:9/")
    assert "refused" in channels(ops=one).tell("ops", "fail", "x")


def test_a_header_file_that_others_may_read_is_not_used(hook, tmp_path):
    token = tmp_path / "token"
    token.write_text("Bearer abc")
    token.chmod(0o644)
    ops = channels(ops=webhook(hook, Authorization=HeaderFile(file=str(token))))
    assert "is readable by others" in ops.can_tell("ops")
    assert "is readable by others" in ops.tell("ops", "fail", "x")
    assert hook.heard == []


def test_a_secret_header_is_not_sent_in_the_clear(tmp_path):
    one = ChannelConfig(
        webhook="http://hooks.example/x", headers={"Authorization": HeaderFile(file=str(tmp_path / "t"))}
    )
    assert "without TLS" in channels(ops=one).can_tell("ops")


def test_a_program_reads_the_message(tmp_path):
    one = ChannelConfig(command=("sh", "-c", f"cat > {tmp_path}/heard"))
    assert channels(ops=one).tell("ops", "start", "begins") == ""
    assert json.loads((tmp_path / "heard").read_text())["message"] == "begins"


def test_a_program_that_fails_hangs_or_is_missing_is_reported():
    failing = ChannelConfig(command=("sh", "-c", "echo no route >&2; exit 4"))
    hanging = ChannelConfig(command=("sleep", "60"))
    missing = ChannelConfig(command=("no-such-program",))
    ops = channels(0.4, failing=failing, hanging=hanging, missing=missing)
    assert ops.tell("failing", "end", "x") == "sh ended with 4 no route"
    assert ops.tell("hanging", "end", "x") == "sleep did not end in time"
    assert ops.can_tell("missing") == ops.tell("missing", "end", "x") == "there is no program no-such-program"


def test_an_unknown_channel_is_reported_with_the_nearest():
    ops = channels(operators=ChannelConfig(command=("true",)))
    assert ops.can_tell("operatrs") == "there is no channel 'operatrs'; the nearest known one is 'operators'"
    assert "defines none" in channels().tell("ops", "end", "x")


@pytest.mark.parametrize(
    "text",
    ["{}", "{command: [cat], webhook: 'http://x'}", "{command: [cat], headers: {A: b}}", "{webhook: 'ftp://x'}"],
)
def test_a_channel_has_exactly_one_kind(tmp_path, text):
    file = tmp_path / "drtool.yaml"
    file.write_text(f"notify: {{channels: {{ops: {text}}}}}\n")
    with pytest.raises(ConfigError, match=r"drtool\.yaml"):
        load_config(file)


def test_channels_are_read_from_the_configuration(tmp_path):
    file = tmp_path / "drtool.yaml"
    file.write_text(
        "notify: {channels: {ops: {command: cat}, hook: {webhook: 'https://x/', headers: {A: {file: /t}}}}}\n"
    )
    found = load_config(file).notify.channels
    assert found["ops"].command == ("cat",)
    assert found["hook"].headers == {"A": HeaderFile(file="/t")}


def test_no_part_of_a_message_is_in_the_arguments_of_a_program(tmp_path):
    one = ChannelConfig(
        command=("sh", "-c", f"cat /proc/$$/cmdline > {tmp_path}/words; env > {tmp_path}/env; cat > /dev/null")
    )
    assert channels(ops=one).tell("ops", "fail", "canary-77") == ""
    assert b"canary-77" not in (tmp_path / "words").read_bytes() + (tmp_path / "env").read_bytes()
    assert os.path.getsize(tmp_path / "words")
