"""For any answer of a server, the store raises an error of its target: no bug, no hang, no invented success."""

import random
import shlex
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sshd
from thoroughness import sample, spread

from drtool.errors import ObjectMissing, StoreError
from drtool.stores.s3 import S3Store, s3_place
from drtool.stores.sftp import SftpStore

ROUNDS = sample(40)
LISTING = b"<ListBucketResult><Name>b</Name><IsTruncated>%s</IsTruncated>%s</ListBucketResult>"
BODIES = (
    b"",
    b"<html><body>please log in</body></html>",
    b"{}",
    b"\xff\xfe\x00",
    b"<Error><Code>SlowDown</Code></Error>",
    b"<Error><Code>NoSuchKey</Code>",
    b"<Error/>",
    LISTING % (b"true", b""),
    LISTING % (b"maybe", b"<Contents><Key>d/x</Key></Contents>"),
    LISTING % (b"false", b"<Contents><Size>many</Size></Contents>"),
    LISTING % (b"false", b"<Contents><Key>d/x</Key><Size>-1</Size></Contents>"),
)
HEADERS = (
    {},
    {"Location": "http://127.0.0.1:9/"},
    {"Content-Type": "text/html"},
    {"Content-Range": "bytes 7-9/10"},
    {"Content-Range": "everything"},
    {"x-amz-bucket-region": "eu-north-1"},
    {"Retry-After": "soon"},
    {"ETag": '"1"'},
)
# 303 is left out: urllib3 leaves the socket of such an answer to the garbage collector.
STATUSES = (
    200,
    204,
    206,
    301,
    302,
    307,
    308,
    400,
    401,
    403,
    404,
    405,
    407,
    409,
    412,
    416,
    418,
    429,
    500,
    503,
    599,
)


@pytest.fixture
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")


@contextmanager
def answering(answer):
    """Run a web server on a free port that answers every request with what `answer` returns: status, headers, body."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_args):
            """Ignore its requests."""

        def handle_expect_100(self):
            return True

        def reply(self):
            status, headers, body = answer()
            self.close_connection = self.command == "PUT"  # its body was not read
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if self.close_connection:
                self.send_header("Connection", "close")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD" and status != 204:
                self.wfile.write(body)

    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.reply)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request, client_address):
            """Ignore clients that hang up."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def calls(store):
    """Yield every request that a store makes, starting with those with a return value that claims storage."""
    return {
        "put": lambda: store.put("packs/x", b"data"),
        "put_if_absent": lambda: store.put_if_absent("r/v-1", b"data"),
        "read_tagged": lambda: store.read_tagged("r/state"),
        "get": lambda: store.get("packs/x"),
        "get a part": lambda: store.get("packs/x", 3, 2),
        "stat": lambda: store.stat("packs/x"),
        "list": lambda: list(store.list("packs/")),
        "names": store.names,
        "delete": lambda: store.delete("packs/x"),
        "look": store.look,
    }


@pytest.mark.usefixtures("credentials")
@pytest.mark.sampled
def test_a_bucket_that_answers_at_random_raises_errors_of_its_target():
    chance = random.Random(14)
    with answering(lambda: (chance.choice(STATUSES), chance.choice(HEADERS), chance.choice(BODIES))) as endpoint:
        store = S3Store.unasked(s3_place("s3://bucket/d", endpoint=endpoint))
        for _ in range(ROUNDS):
            for call in calls(store).values():
                with_errors_of_the_target(call)
            with_errors_of_the_target(lambda: store.compare_and_swap("r/state", b"data", '"1"'))
        store.close()


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("body", [b"", b"<html><body>please log in</body></html>"], ids=["empty", "HTML"])
def test_a_captive_portal_is_neither_an_empty_bucket_nor_a_place_that_stores(body):
    with answering(lambda: (200, {"Content-Type": "text/html"}, body)) as endpoint:
        store = S3Store.unasked(s3_place("s3://bucket/d", endpoint=endpoint))
        for name, call in calls(store).items():
            if name == "delete":
                continue  # 200 is a valid answer to a deletion; a listed object is deleted again
            with pytest.raises(StoreError) as caught:
                call()
            assert not isinstance(caught.value, ObjectMissing), name
            assert "bucket" in caught.value.message
        store.close()


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_named_and_not_followed(status):
    with answering(lambda: (status, {"Location": "https://127.0.0.1:9/"}, b"<html>moved</html>")) as endpoint:
        store = S3Store.unasked(s3_place("s3://bucket/d", endpoint=endpoint))
        for name, call in calls(store).items():
            with pytest.raises(StoreError, match="redirects to another address") as caught:
                call()
            assert caught.value.hint, name
        store.close()


@pytest.mark.usefixtures("credentials")
def test_a_server_that_ignores_ranges_still_gives_the_right_part():
    with answering(lambda: (200, {"ETag": '"1"'}, b"0123456789")) as endpoint:
        store = S3Store.unasked(s3_place("s3://bucket/d", endpoint=endpoint))
        assert store.get("packs/x", 3, 2) == b"34"
        store.close()
    with answering(lambda: (206, {"ETag": '"1"', "Content-Range": "bytes 0-1/10"}, b"01")) as endpoint:
        store = S3Store.unasked(s3_place("s3://bucket/d", endpoint=endpoint))
        with pytest.raises(StoreError, match="asked for bytes from 3"):
            store.get("packs/x", 3, 2)
        store.close()


@pytest.mark.parametrize("seed", spread(range(4)))
def test_an_ssh_server_that_answers_at_random_raises_errors_of_its_target(tmp_path, seed):
    sshd.demand()
    program = shlex.join([sys.executable, str(Path(__file__).with_name("nonsense_sftp.py")), str(seed)])
    server = sshd.Sshd(tmp_path / "ssh", subsystem=program)
    server.start()
    try:
        store = SftpStore(server.place(tmp_path / "target"))
        for call in calls(store).values():
            with_errors_of_the_target(call)
        store.close()
    finally:
        server.remove()


def test_a_server_without_ssh_is_offline(tmp_path):
    with answering(lambda: (200, {}, b"hello")) as endpoint:
        place = sshd_place(int(endpoint.rpartition(":")[2]), tmp_path)
        store = SftpStore(place)
        with pytest.raises(StoreError, match=r"127\.0\.0\.1"):
            store.look()
        store.close()


def sshd_place(port, path):
    from drtool.stores.sftp_login import SftpPlace

    return SftpPlace(host="127.0.0.1", port=port, user="nobody", path=str(path))


def with_errors_of_the_target(call):
    """Allow any answer or a `StoreError`. Everything else is our bug."""
    message = ""
    try:
        call()
    except StoreError as error:
        message = error.message
    assert "\n" not in message
