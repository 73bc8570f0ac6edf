"""The line that tests slow down and cut does what it says, and a bucket at its end is used as thriftily as it can be."""

import re
import socket
import threading
import time

import pytest
from bad_buckets import BUCKET, bad_bucket
from slow_line import Line

from drtool.errors import StoreError, TargetOffline, TargetUnanswered
from drtool.repository.put_meter import PutMeter
from drtool.stores import s3_client
from drtool.stores.s3 import S3Store, s3_place


@pytest.fixture
def bucket():
    with bad_bucket() as bucket:
        yield bucket


@pytest.fixture
def line(bucket):
    with Line(int(bucket.endpoint.rpartition(":")[2])) as line:
        yield line


@pytest.fixture
def store(line, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    monkeypatch.setattr(s3_client, "READ_TIMEOUT_S", 1)
    store = S3Store.open(s3_place(f"s3://{BUCKET}/there", endpoint=line.endpoint))
    yield store
    store.close()


def timed(call) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def test_a_get_is_one_round_trip_on_the_connection_that_is_there(bucket, line, store):
    store.put("x", b"1" * 1000)
    line.forget()
    line.latency_s = 0.1
    assert timed(lambda: store.get("x")) >= 0.2
    assert (line.turns, line.connections) == (1, 0)
    line.forget()
    assert store.read_tagged("x").data == b"1" * 1000
    assert (line.turns, line.connections) == (1, 0)


def test_a_slow_line_takes_its_time_and_counts_its_bytes(line, store):
    line.forget()
    line.rate_bytes_s = 1_000_000
    assert timed(lambda: store.put("x", b"1" * 400_000)) >= 0.35
    assert 400_000 <= line.up_bytes < 410_000


def test_pieces_that_are_lost_are_late_and_nothing_else(line, store):
    data = bytes(range(256)) * 4000
    line.stall_every, line.stall_s = 5, 0.05
    store.put("x", data)
    assert store.get("x") == data


def test_a_cut_line_is_offline_and_works_again_when_it_is_healed(line, store):
    store.put("x", b"1")
    line.cut()
    with pytest.raises(TargetOffline):
        store.get("x")
    line.heal()
    assert store.get("x") == b"1"


def test_a_cut_in_mid_upload_is_unknown_and_sent_once(bucket, line, store):
    line.forget()
    line.cut(silent=True)
    with pytest.raises(TargetUnanswered):
        store.put("x", b"1" * 100_000)
    line.heal()
    assert line.up_bytes < 110_000
    assert bucket.objects == {}
    store.put("x", b"2")
    assert store.get("x") == b"2"


def test_an_upload_that_takes_longer_than_the_timeout_succeeds_while_it_moves(line, store):
    """The timeout of a socket (1 s here) is for each piece, not for the whole object."""
    line.rate_bytes_s = 8_000_000
    assert timed(lambda: store.put("packs/x", bytes(24_000_000))) > 2.5
    line.rate_bytes_s = None
    assert store.stat("packs/x") == 24_000_000


def test_little_waits_unsent_in_the_kernel(store):
    store.put("x", b"1")
    (session,) = (store._client._endpoint.http_session,)
    pool = next(iter(session._manager.pools._container.values()))
    connection = pool.pool.get()
    unsent = connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
    pool.pool.put(connection)
    assert unsent == s3_client.UNSENT_BYTES_MAX


class Reader:
    """A server on one connection that takes the body of a large object when it is told to."""

    def __init__(self):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
        self.reads = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def endpoint(self):
        return "http://{}:{}".format(*self._listening.getsockname())

    def _serve(self):
        connection, _ = self._listening.accept()
        with connection:
            while head := self._head(connection):
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                left_bytes = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
                if left_bytes > 1000:
                    self.reads.wait(10)
                while left_bytes > 0 and (piece := connection.recv(1 << 20)):
                    left_bytes -= len(piece)
                if left_bytes == 0:
                    connection.sendall(b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 0\r\n\r\n')

    @staticmethod
    def _head(connection):
        head = b""
        while b"\r\n\r\n" not in head:
            byte = connection.recv(1)
            if not byte:
                return b""
            head += byte
        return head

    def close(self):
        self.reads.set()
        self._thread.join()
        self._listening.close()


@pytest.fixture
def reader(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    monkeypatch.setattr(s3_client, "CONNECT_TIMEOUT_S", 0.1)
    reader = Reader()
    yield reader
    reader.close()


@pytest.fixture(params=["new", "used"])
def waiting(request, reader):
    """A store whose connection was used before, or was not."""
    store = S3Store.unasked(s3_place(f"s3://{BUCKET}", endpoint=reader.endpoint))
    if request.param == "used":
        store.put("packs/x", b"1")
    yield store
    store.close()


def test_a_body_may_wait_longer_than_a_connection_may(reader, waiting):
    """urllib3 would send it under the timeout for connecting."""
    threading.Timer(0.5, reader.reads.set).start()
    waiting.put("packs/x", bytes(8 << 20))


def test_a_stalled_body_is_abandoned_with_that_reason(waiting, monkeypatch):
    monkeypatch.setattr(s3_client, "READ_TIMEOUT_S", 0.3)
    with pytest.raises(TargetUnanswered, match="neither took nor sent any data"):
        waiting.put("packs/x", bytes(8 << 20))


def test_the_bytes_of_an_upload_are_counted_while_it_is_sent(store, line):
    """A pack takes minutes on a slow line. Headers and repetitions do not count, and nothing stays of a failed write."""
    meter = PutMeter(["far"], 1)
    counter, seen = meter.counter(0), []
    line.rate_bytes_s = 8_000_000
    uploading = threading.Event()
    watching = threading.Thread(
        target=lambda: [seen.append(meter.stored_bytes()) for _ in range(1000) if not uploading.wait(0.01)]
    )
    watching.start()
    with counter.putting("far", 12_000_000):
        store.put("packs/x", bytes(12_000_000))
    uploading.set()
    watching.join()
    assert len(set(seen)) > 5
    assert meter.stored_bytes() == 12_000_000
    line.cut()
    with pytest.raises(StoreError), counter.putting("far", 100_000):
        store.put("packs/y", bytes(100_000))
    assert meter.stored_bytes() == 12_000_000
