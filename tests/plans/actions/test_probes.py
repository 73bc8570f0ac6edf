"""Probes of real servers, files and programs on this host."""

import hashlib
import os
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from action_world import CANARY, context, needs, run_context, step_context, work
from certificates import certificates
from hypothesis import given
from hypothesis import strategies as st

from drtool.plans.actions.probing import OUTPUTS, ProbeAction
from drtool.plans.actions.probing.web import matching
from drtool.plans.language.actions import RESULTS

probe = ProbeAction()
METRICS = b"""# HELP up whether it is
# TYPE up gauge
up{job="web",path="C:\\\\x \\"y\\""} 1
up{job="db"} 0 1700000000000
queue_length 17.5
temperature NaN
space +Inf
"""


class Pages(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.heard.append((self.path, dict(self.headers)))
        page = server.pages.get(self.path)
        if callable(page):
            page = page(self)
            if page is None:
                return
        status, headers, body = page or (404, {}, b"not here")
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words):
        pass


class Quiet(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # some probes hang up early on purpose


@pytest.fixture
def pages():
    server = Quiet(("127.0.0.1", 0), Pages)
    yield from served(server, "http")


def served(server, scheme):
    server.heard, server.pages, server.released = [], {"/": (200, {}, b"hello world")}, threading.Event()
    server.url = f"{scheme}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def act(tmp_path, within_s=20.0, **inputs):
    return probe.act(step_context("probe", inputs), run_context(tmp_path), work(within_s))


def preview(tmp_path, more=None, world=None, **inputs):
    return probe.preview(step_context("probe", inputs, **(more or {})), world or run_context(tmp_path))


# -- http


@pytest.mark.parametrize(
    "target", ["/new?key=sesame", "http://127.0.0.1:1/sesame", "ftp://h/sesame", "http://[sesame", "http://h:sesame/"]
)
def test_nothing_of_a_redirected_url_is_shown_but_its_origin(pages, tmp_path, target):
    pages.pages["/old"] = (302, {"Location": target}, b"")
    pages.pages["/new?key=sesame"] = (500, {}, b"")
    outcome = act(tmp_path, type="http", url=f"{pages.url}/old", within="100ms")
    assert outcome.status == "failed"
    assert "sesame" not in repr(outcome)


def test_a_page_answers(pages, tmp_path):
    outcome = act(tmp_path, type="http", url=pages.url, expect={"contains": "world", "matches": "^hel+o"})
    assert outcome.status == "passed"
    assert (outcome.outputs["status"], outcome.outputs["value"]) == (200, "hello world")
    assert outcome.outputs["attempts"] == 1
    assert set(outcome.outputs) == set(OUTPUTS) == set(RESULTS["probe"])


@pytest.mark.parametrize(
    ("expect", "why"),
    [
        ({"status": 204}, "answered with 200 instead of 204"),
        ({"contains": "moon"}, "'moon' is not in the answer"),
        ({"matches": "^moon"}, "matches '^moon'"),
    ],
)
def test_an_unexpected_answer_fails_with_the_reason(pages, tmp_path, expect, why):
    outcome = act(tmp_path, type="http", url=pages.url, expect=expect)
    assert outcome.status == "failed"
    assert why in outcome.detail


def test_an_answer_that_takes_too_long_is_failed(pages, tmp_path):
    pages.pages["/slow"] = lambda handler: handler.server.released.wait(0.3) or (200, {}, b"late")
    outcome = act(tmp_path, type="http", url=f"{pages.url}/slow", expect={"answers_within": "100ms"})
    assert (outcome.status, "expected within 0.1 s" in outcome.detail) == ("failed", True)


def test_redirects_are_followed_but_not_for_ever_and_headers_stay_with_their_origin(pages, tmp_path):
    pages.pages["/a"] = (302, {"Location": "/b"}, b"")
    pages.pages["/b"] = (301, {"Location": f"http://localhost:{pages.server_port}/"}, b"")
    pages.pages["/round"] = (307, {"Location": "/round"}, b"")
    headers = {"Authorization": CANARY}
    assert act(tmp_path, type="http", url=f"{pages.url}/a", headers=headers).status == "passed"
    assert [(path, "Authorization" in sent) for path, sent in pages.heard] == [("/a", True), ("/b", True), ("/", False)]
    assert "more than 5 redirects" in act(tmp_path, type="http", url=f"{pages.url}/round").detail
    assert act(tmp_path, type="http", url=f"{pages.url}/a", expect={"status": 302}).status == "passed"


def test_a_body_without_end_is_bounded(pages, tmp_path):
    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            while not handler.server.released.is_set():
                handler.wfile.write(b"x" * 65536)
        except OSError:
            pass

    pages.pages["/endless"] = endless
    outcome = act(tmp_path, type="http", url=f"{pages.url}/endless", expect={"contains": "moon"})
    assert "'moon' is not in its first 1 MiB" in outcome.detail


def test_a_server_that_drips_is_given_up(pages, tmp_path):
    def drip(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        try:
            while not handler.server.released.wait(0.05):
                handler.wfile.write(b"X-A: b\r\n")
        except OSError:
            pass

    pages.pages["/drip"] = drip
    began = time.monotonic()
    assert act(tmp_path, 0.5, type="http", url=f"{pages.url}/drip").status == "failed"
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("url", ["http://user:pw@127.0.0.1/", "http://127.0.0.1:x/", "http:///x"])
def test_invalid_urls_are_refused(tmp_path, url):
    outcome = act(tmp_path, type="http", url=url)
    assert outcome.status == "failed"
    assert "pw" not in outcome.detail


def test_no_server_is_failed_not_unproven(tmp_path):
    outcome = act(tmp_path, type="http", url="http://127.0.0.1:9/")
    assert (outcome.status, "refused" in outcome.detail) == ("failed", True)


def test_no_secret_is_in_the_detail_of_a_page(pages, tmp_path):
    pages.pages["/secret"] = (500, {}, f"token {CANARY}".encode())
    outcome = act(tmp_path, type="http", url=f"{pages.url}/secret", headers={"X": CANARY}, expect={"contains": CANARY})
    assert pages.heard[0][1]["X"] == CANARY
    assert CANARY not in repr(outcome)


# -- repetition


def test_it_asks_until_enough_consecutive_good_answers(pages, tmp_path):
    answers = [503, 200, 503, 200, 200, 200]
    pages.pages["/"] = lambda handler: (answers.pop(0), {}, b"")
    outcome = act(tmp_path, type="http", url=pages.url, every="20ms", within="10s", successes=3)
    assert (outcome.status, outcome.outputs["attempts"], answers) == ("passed", 6, [])


def test_within_limits_the_repetition(pages, tmp_path):
    pages.pages["/"] = (503, {}, b"")
    began = time.monotonic()
    outcome = act(tmp_path, type="http", url=pages.url, every="50ms", within="400ms")
    assert outcome.status == "failed"
    assert outcome.outputs["attempts"] > 1
    assert time.monotonic() - began < 15


def test_too_few_consecutive_good_answers_fail(pages, tmp_path):
    outcome = act(tmp_path, type="http", url=pages.url, every="300ms", within="500ms", successes=9)
    assert outcome.status == "failed"
    assert "more consecutive good answers were required" in outcome.detail


def test_a_cancelled_probe_ends_soon(pages, tmp_path):
    pages.pages["/"] = lambda handler: handler.server.released.wait(20) and None
    one = work()
    threading.Timer(0.3, one.cancelled.set).start()
    began = time.monotonic()
    outcome = probe.act(step_context("probe", {"type": "http", "url": pages.url}), run_context(tmp_path), one)
    assert (outcome.status, outcome.cause) == ("aborted", "cancelled")
    assert time.monotonic() - began < 15


# -- the dry run


def test_the_dry_run_asks_for_real(pages, tmp_path):
    assert preview(tmp_path, type="http", url=pages.url).verdict == "ok"
    assert len(pages.heard) == 1
    found = preview(tmp_path, type="http", url=f"{pages.url}/gone")
    assert (found.verdict, "404" in found.detail) == ("cannot run", True)


def test_the_dry_run_defers_an_answer_that_a_step_may_change(pages, tmp_path):
    gone = {"type": "http", "url": f"{pages.url}/gone"}
    missing = preview(tmp_path, {"context": context(steps=needs("db"))}, type="http", url="${{ steps.db.outputs.url }}")
    assert (missing.verdict, missing.detail) == ("deferred", "needs db")
    before = preview(tmp_path, {"needs": (SimpleNamespace(step="start"),)}, **gone)
    assert (before.verdict, before.detail.startswith("needs start; now")) == ("deferred", True)
    assert preview(tmp_path, {"key": "after.x"}, **gone).verdict == "deferred"
    assert preview(tmp_path, **gone, within="5s").verdict == "deferred"


# -- tcp, dns, tls


def test_a_port_that_listens_and_one_that_does_not(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert act(tmp_path, type="tcp", host="127.0.0.1", port=port).status == "passed"
    outcome = act(tmp_path, type="tcp", host="127.0.0.1", port=port)
    assert (outcome.status, outcome.outputs["value"]) == ("failed", False)


def test_names(tmp_path):
    outcome = act(tmp_path, type="dns", name="localhost", expect={"addresses": ["127.0.0.1"]})
    assert (outcome.status, outcome.outputs["value"]) == ("passed", ["127.0.0.1"])
    other = act(tmp_path, type="dns", name="localhost", expect={"addresses": ["127.0.0.1", "127.0.0.2"]})
    assert (other.status, "expected 127.0.0.1, 127.0.0.2" in other.detail) == ("failed", True)
    assert act(tmp_path, type="dns", name="a..b").status == "failed"


@pytest.mark.parametrize(("code", "status"), [(socket.EAI_NONAME, "failed"), (socket.EAI_AGAIN, "unproven")])
def test_a_name_server_that_does_not_answer_proves_nothing(tmp_path, monkeypatch, code, status):
    def refuse(*words, **more):
        raise socket.gaierror(code, "so it is")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert act(tmp_path, type="dns", name="db.example").status == status


@pytest.fixture
def secure(tmp_path):
    authority, certificate = certificates(tmp_path)
    server = Quiet(("127.0.0.1", 0), Pages)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.authority = authority
    yield from served(server, "https")


def test_an_untrusted_certificate_fails(secure, tmp_path):
    for inputs in (
        {"type": "http", "url": secure.url},
        {"type": "tls", "host": "127.0.0.1", "port": secure.server_port},
    ):
        outcome = act(tmp_path, **inputs)
        assert (outcome.status, "cannot be verified" in outcome.detail) == ("failed", True)
    assert secure.heard == []


def test_a_certificate_that_this_host_trusts_is_good_for_its_names_and_days(secure, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.authority))
    one = {"type": "tls", "host": "127.0.0.1", "port": secure.server_port}
    assert act(tmp_path, type="http", url=secure.url).status == "passed"
    outcome = act(tmp_path, **one, expect={"valid_for": "29d"})
    assert (outcome.status, round(outcome.outputs["value"] / 86400)) == ("passed", 30)
    assert act(tmp_path, **one, server_name="localhost").status == "passed"
    assert act(tmp_path, **one, expect={"valid_for": "31d"}).status == "failed"
    assert "cannot be verified" in act(tmp_path, **one, server_name="elsewhere.example").detail


def test_no_redirect_leads_from_https_to_http(secure, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.authority))
    secure.pages["/down"] = (302, {"Location": "http://127.0.0.1:9/"}, b"")
    assert "not followed" in act(tmp_path, type="http", url=f"{secure.url}/down").detail


def test_a_port_without_tls_is_failed(pages, tmp_path):
    outcome = act(tmp_path, type="tls", host="127.0.0.1", port=pages.server_port)
    assert (outcome.status, "TLS failed" in outcome.detail) == ("failed", True)


# -- metric


@pytest.mark.parametrize(
    ("inputs", "status"),
    [
        ({"metric": "queue_length", "expect": {"max": 20}}, "passed"),
        ({"metric": "queue_length", "expect": {"min": 20}}, "failed"),
        ({"metric": "up", "labels": {"job": "web"}, "expect": {"equals": 1}}, "passed"),
        ({"metric": "up", "labels": {"job": "db"}, "expect": {"equals": 1}}, "failed"),
        ({"metric": "up", "expect": {"max": 5}}, "failed"),
        ({"metric": "down", "expect": {"max": 5}}, "failed"),
        ({"metric": "temperature", "expect": {"max": 5}}, "failed"),
        ({"metric": "space", "expect": {"min": 5}}, "passed"),
    ],
)
def test_one_sample_of_a_page(pages, tmp_path, inputs, status):
    pages.pages["/metrics"] = (200, {}, METRICS)
    assert act(tmp_path, type="metric", url=f"{pages.url}/metrics", **inputs).status == status


@given(st.text(alphabet='ab\\"{}=, \n', max_size=12), st.integers(-(10**6), 10**6))
def test_labels_are_read_as_they_are_written(text, value):
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    page = f'x{{a="1",b="{quoted}"}} {value}\nx{{a="2"}} 0\n'
    assert list(matching(page, "x", {"b": text})) == [value]


@given(st.text(max_size=80))
def test_any_page_can_be_read(page):
    assert all(isinstance(value, float) for value in matching(page, "x", {}))


# -- file


def test_files(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x" * (1 << 20) + b"needle across")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()

    def status(path=file, **expect):
        return act(tmp_path, type="file", path=str(path), expect=expect).status

    assert status() == status(min_size="1MiB", contains="needle", sha256=digest, max_age="1h") == "passed"
    assert status(min_size="2MiB") == status(contains="nadel") == status(sha256="0" * 64) == "failed"
    assert status(exists=False) == status(tmp_path / "gone") == status(tmp_path, contains="x") == "failed"
    assert status(tmp_path / "gone", exists=False) == "passed"
    os.utime(file, (0, 0))
    assert status(max_age="1h") == "failed"


@given(st.integers((1 << 20) - 12, 1 << 20))
def test_content_is_found_wherever_it_lies(before):
    import tempfile

    from drtool.plans.actions.probing.local import ask_file
    from drtool.plans.language.probes import FileExpect, FileProbe

    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x" * before + b"needle")
        file.flush()
        one = FileProbe(path=file.name, expect=FileExpect(contains="needle"))
        assert ask_file(one, time.monotonic() + 10).good


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert act(tmp_path, type="file", path=f"{tmp_path}/pipe", expect={"contains": "x"}).status == "failed"


def test_a_file_that_may_not_be_inspected_is_unproven(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    outcome = act(tmp_path, type="file", path=str(loop))
    assert outcome.status == "unproven"
    assert preview(tmp_path, type="file", path=str(loop)).verdict == "cannot run"


# -- command


def test_commands(tmp_path):
    outcome = act(tmp_path, type="command", argv=["sh", "-c", "echo out; exit 2"], expect={"exit_codes": [2]})
    assert (outcome.status, outcome.outputs["value"], outcome.outputs["status"]) == ("passed", "out", 2)
    assert act(tmp_path, type="command", argv=["false"]).status == "failed"
    assert act(tmp_path, type="command", argv=["cat"], stdin="in", expect={"stdout_contains": "in"}).status == "passed"
    assert act(tmp_path, 0.4, type="command", argv=["sleep", "60"]).status == "failed"


def test_a_program_that_is_not_there_is_unproven_and_cannot_run(tmp_path):
    inputs = {"type": "command", "argv": ["no-such-program"]}
    assert act(tmp_path, **inputs).status == "unproven"
    found = preview(tmp_path, {"needs": (SimpleNamespace(step="start"),)}, **inputs)
    assert (found.verdict, "no-such-program" in found.detail) == ("cannot run", True)


def test_no_secret_of_a_command_is_shown(tmp_path):
    inputs = {"type": "command", "argv": ["sh", "-c", 'echo "$T"; echo "$T" >&2; exit 1'], "env": {"T": CANARY}}
    assert CANARY not in repr((act(tmp_path, **inputs), preview(tmp_path, **inputs)))
