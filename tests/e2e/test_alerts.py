"""Every way in which people are alerted, with a web server and a mail server on this machine."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from command_shell import shell_in
from smtp_server import smtp_server


class Heard(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.heard.append((self.path, ""))
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["message"]
        self.server.heard.append((self.path, said))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_words):
        pass


class Receivers:
    """Who is alerted: a web server, a mail server and a program."""

    def __init__(self, shell, web, box):
        self.shell, self.web, self.box = shell, web, box
        self.program = shell.directory / "told"

    def all_heard(self, code, *reasons):
        """Check that each was told once since the last call, with the exit code and the reasons."""
        pings = [path for path, said in self.web.heard if not said]
        posted = [said for path, said in self.web.heard if said]
        mailed = [message.get_content() for _, message, _ in self.box.mails]
        printed = [json.loads(line)["message"] for line in self.program.read_text().splitlines()]
        self.web.heard.clear()
        self.box.mails.clear()
        self.program.unlink()
        assert pings == ["/fail"]
        for told in (posted, mailed, printed):
            (text,) = told
            assert f"ended with {code}" in text
            for reason in reasons:
                assert reason in text


@pytest.fixture(scope="module")
def alerted(tmp_path_factory):
    shell = shell_in(tmp_path_factory.mktemp("alerts"))
    web = ThreadingHTTPServer(("127.0.0.1", 0), Heard)
    web.heard = []
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    (shell.directory / "tree").mkdir()
    (shell.directory / "tree/file").write_text("hello\n")
    assert shell("init", *(w for site in "abc" for w in ("--target", f"{site}={shell.directory / site}"))).code == 0
    url = f"http://127.0.0.1:{web.server_port}"
    with smtp_server() as box:
        with (shell.directory / "drtool.yaml").open("a") as config:
            config.write(f"""
sources:
  home: {{paths: [tree]}}
  part: {{paths: [tree, nowhere]}}
  dump: {{stream: {{command: [sh, -c, "echo dying >&2; exit 1"], name: d}}}}
hooks:
  after_backup: ["{url}/good"]
  after_verify: ["{url}/good"]
  on_failure: ["{url}/fail", notify:chat, notify:mail, notify:program]
notify:
  channels:
    chat: {{webhook: "{url}/chat"}}
    mail: {{email: {{to: [ops@example.org], from: drtool@example.org, server: "{box.url}"}}}}
    program: {{command: [sh, -c, "cat >> told"]}}
""")
        yield Receivers(shell, web, box)
    web.shutdown()
    thread.join()
    web.server_close()


def test_a_good_run_sends_the_heartbeat_and_nothing_else(alerted):
    assert alerted.shell("backup", "--source", "home").code == 0
    assert alerted.web.heard == [("/good", "")]
    alerted.web.heard.clear()
    assert alerted.box.mails == []


def test_a_source_that_fails_is_named_to_all(alerted):
    assert alerted.shell("backup").code == 1
    alerted.all_heard(1, "source dump was not stored", "dying", "source part", "nowhere")


def test_a_file_that_is_missing_is_named_to_all(alerted):
    assert alerted.shell("backup", "--source", "part").code == 3
    alerted.all_heard(3, "source part", "nowhere: it does not exist")


def test_damage_that_verify_finds_is_named_to_all(alerted):
    pack = next(path for path in sorted((alerted.shell.directory / "a/packs").rglob("*")) if path.is_file())
    whole = pack.read_bytes()
    pack.chmod(0o600)
    pack.write_bytes(bytes(len(whole)))
    try:
        assert alerted.shell("verify", "--level", "full").code == 4
    finally:
        pack.write_bytes(whole)
    alerted.all_heard(4, f"packs/{pack.parent.name}/{pack.name} at a/main")


def test_a_command_that_cannot_begin_says_why_to_all(alerted):
    for site in "bc":
        (alerted.shell.directory / site).rename(alerted.shell.directory / f"{site}-away")
    try:
        code = alerted.shell("prune").code
    finally:
        for site in "bc":
            (alerted.shell.directory / f"{site}-away").rename(alerted.shell.directory / site)
    assert code == 6
    alerted.all_heard(6, "the manifest needs 2 of 3 sites", "there is no directory")
