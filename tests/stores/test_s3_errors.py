"""Failures at a bucket give one sentence and the right kind of error, and nothing was written."""

import socket
import threading
from pathlib import Path

import pytest
import seaweed
from msgspec.structs import replace

from drtool.errors import ObjectMissing, StoreError, TargetBusy, TargetOffline, UsageError
from drtool.stores.s3 import S3Store, s3_place


@pytest.fixture
def place(tmp_path: Path):
    return seaweed.shared().place(tmp_path)


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [("s3://acme-dr", "acme-dr", ""), ("s3://acme-dr/", "acme-dr", ""), ("s3://a.b.c/dr/tool/", "a.b.c", "dr/tool/")],
)
def test_a_url_names_a_bucket_and_a_prefix(url, bucket, prefix):
    assert (s3_place(url).bucket, s3_place(url).prefix) == (bucket, prefix)


@pytest.mark.parametrize(
    "url", ["s3://", "s3://A/b", "s3:/bucket", "http://b/x", "s3://bucket/UP", "s3://bucket/a/../b"]
)
def test_an_invalid_bucket_url_is_a_usage_error(url):
    with pytest.raises(UsageError) as caught:
        s3_place(url)
    assert repr(url) in caught.value.message


def test_a_bucket_that_is_not_there_is_offline(place):
    with pytest.raises(TargetOffline, match="there is no such bucket"):
        S3Store.open(replace(place, bucket="not-there"))


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_wrong_credentials_are_named_and_never_tried_again(place, monkeypatch, name):
    secret = "this-is-not-it"
    monkeypatch.setenv(name, secret)
    with pytest.raises(StoreError, match="does not accept these credentials") as caught:
        S3Store.open(place)
    assert not caught.value.transient
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint
    assert secret not in caught.value.message + caught.value.hint


def test_without_credentials_the_error_says_where_to_put_them(place, monkeypatch):
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError, match="no credentials") as caught:
        S3Store.open(place)
    assert not caught.value.transient


def test_a_profile_that_is_not_there_is_named(place):
    with pytest.raises(StoreError, match="nobody"):
        S3Store.open(replace(place, profile="nobody"))


@pytest.mark.thorough
def test_a_server_that_is_killed_is_offline_and_everything_is_there_when_it_is_back(tmp_path):
    seaweed.shared()  # or skip
    server = seaweed.Seaweed(tmp_path / "server")
    server.root.mkdir()
    server.start()
    try:
        server.client().create_bucket(Bucket=seaweed.BUCKET)
        store = S3Store.open(server.place(tmp_path))
        store.put("packs/aa/aa01", b"kept" * 1000)
        server.kill()
        for call in (lambda: store.get("packs/aa/aa01"), lambda: store.put("x", b""), lambda: list(store.list())):
            with pytest.raises(TargetOffline) as caught:
                call()
            assert caught.value.transient
        server.start()
        assert store.get("packs/aa/aa01") == b"kept" * 1000
        store.close()
    finally:
        server.kill()


class OneAnswer:
    """A server that sends the same bytes to each client and hangs up."""

    def __init__(self, answer: bytes) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.asked = 0
        self._answer = answer
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                self.asked += 1
                connection.recv(65536)
                connection.sendall(self._answer)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)


def answered(status: str, body: bytes = b"", length: int | None = None) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Length: {len(body) if length is None else length}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def error_of(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{code} it is</Message></Error>".encode()


@pytest.fixture
def at(monkeypatch):
    """Return a store at a server that always gives this answer."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    servers, stores = [], []

    def made(answer):
        servers.append(OneAnswer(answer))
        place = s3_place("s3://bucket/there", endpoint=servers[-1].endpoint)
        stores.append(S3Store.unasked(place))
        return stores[-1], servers[-1]

    yield made
    for one in (*stores, *servers):
        one.close()


@pytest.mark.parametrize(
    ("status", "code", "kind", "transient"),
    [
        ("503 Slow Down", "SlowDown", TargetBusy, True),
        ("500 Oops", "InternalError", TargetBusy, True),
        ("429 Too Many", "TooManyRequests", TargetBusy, True),
        ("403 Forbidden", "RequestTimeTooSkewed", StoreError, False),
        ("403 Forbidden", "AccessDenied", StoreError, False),
        ("404 Not Found", "NoSuchKey", ObjectMissing, False),
        ("404 Not Found", "NoSuchBucket", TargetOffline, True),
        ("400 Bad", "Whatever", StoreError, False),
    ],
)
def test_each_answer_is_one_kind_of_error_and_no_request_is_repeated(at, status, code, kind, transient):
    store, server = at(answered(status, error_of(code)))
    with pytest.raises(StoreError) as caught:
        store.get("x")
    assert type(caught.value) is kind
    assert caught.value.transient is transient
    assert "s3://bucket/there/x" in caught.value.message
    assert server.asked == 1


@pytest.mark.parametrize("status", ["412 Precondition Failed", "409 Conflict", "404 Not Found"])
def test_a_refused_condition_only_means_not_known_to_be_ours(at, status):
    store, server = at(answered(status))
    assert store.put_if_absent("v-1", b"x") is False
    assert store.compare_and_swap("v-1", b"x", '"tag"') is None
    assert server.asked == 2


@pytest.mark.parametrize(("status", "code"), [("507 Insufficient Storage", ""), ("403 Forbidden", "QuotaExceeded")])
def test_a_bucket_without_room_is_full(at, status, code):
    store, _ = at(answered(status, error_of(code)))
    with pytest.raises(StoreError) as caught:
        store.put("x", b"1")
    assert caught.value.kind == "target_full"


def test_credentials_that_may_not_write_make_a_target_read_only(at):
    store, _ = at(answered("403 Forbidden", error_of("AccessDenied")))
    for call in (lambda: store.put("x", b"1"), lambda: store.delete("x"), lambda: store.put_if_absent("x", b"1")):
        with pytest.raises(StoreError) as caught:
            call()
        assert caught.value.kind == "target_read_only"


@pytest.mark.parametrize("answer", [answered("200 OK", b"half", 8), b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
def test_half_a_body_is_not_an_object(at, answer):
    store, _ = at(answer)
    for call in (lambda: store.get("x"), lambda: store.read_tagged("x")):
        with pytest.raises(TargetOffline):
            call()


def test_a_register_s_record_that_is_too_large_is_not_read(at):
    store, _ = at(answered("200 OK", b"", 100 << 20))
    with pytest.raises(StoreError, match="larger than a register's record"):
        store.read_tagged("x")
