"""A server that falls silent at any point: the call ends in bounded time, and the next one works."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sshd
from msgspec.structs import replace
from slow_line import Line

from drtool.errors import StoreError, TargetHung, TargetOffline
from drtool.stores import sftp_link, sftp_login
from drtool.stores.sftp import SftpStore

BIG_BYTES = 24 << 20
SOON_S = 30.0


@pytest.fixture
def server(tmp_path: Path):
    """A server for this test alone, which may be stopped."""
    sshd.demand()
    own = sshd.Sshd(tmp_path / "sshd")
    own.start()
    yield own
    own.wake()
    own.remove()


@pytest.fixture
def store(server, tmp_path, monkeypatch):
    """Shorten the timeouts only once the large object is stored, which takes a while on a busy machine."""
    opened = SftpStore.create(server.place(tmp_path / "site"))
    opened.put("packs/big", os.urandom(BIG_BYTES))
    monkeypatch.setattr(sftp_link, "CALL_S", 1.0)
    monkeypatch.setattr(sftp_link, "SLOWEST_BYTES_S", 64 << 20)
    yield opened
    server.wake()
    opened.close()


def ends_soon(call) -> BaseException:
    began = time.monotonic()
    with pytest.raises(StoreError) as caught:
        call()
    assert time.monotonic() - began < SOON_S
    return caught.value


CALLS = {
    "read": lambda store: store.get("packs/big"),
    "write": lambda store: store.put("packs/other", os.urandom(BIG_BYTES)),
    "record": lambda store: store.put_if_absent("reg/1", b"mine"),
    "listing": lambda store: list(store.list()),
    "deletion": lambda store: store.delete("packs/big"),
}


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.spread(4)
def test_a_server_that_stopped_ends_the_call_and_is_used_again_when_it_goes_on(server, store, kind):
    server.stop_connections()
    assert isinstance(ends_soon(lambda: CALLS[kind](store)), TargetHung)
    server.wake()
    store.put("packs/after", b"1")
    assert store.get("packs/after") == b"1"
    assert [row for row in threading.enumerate() if row.name == "drtool-sftp"] == []


def again_and_again(call, store) -> None:
    ends_at = time.monotonic() + SOON_S
    while time.monotonic() < ends_at:
        call(store)


@pytest.mark.parametrize("kind", ["read", "write"])
def test_a_server_that_stops_in_the_midst_of_a_transfer(server, store, kind):
    later = threading.Timer(0.03, server.stop_connections)
    later.start()
    began = time.monotonic()
    with pytest.raises(TargetHung):
        again_and_again(CALLS[kind], store)
    later.join()
    assert time.monotonic() - began < 2 * SOON_S
    server.wake()
    store.put("packs/after", b"1")
    assert store.get("packs/after") == b"1"


def test_closing_while_a_server_is_silent_takes_seconds(server, store):
    store.put("x", b"1")
    server.stop_connections()
    began = time.monotonic()
    store.close()
    assert time.monotonic() - began < SOON_S


def test_a_silent_listener_is_reported_in_bounded_time(tmp_path, monkeypatch):
    monkeypatch.setattr(sftp_login, "GETTING_IN_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = replace(sshd.shared().place(tmp_path / "site"), port=silent.getsockname()[1])
        error = ends_soon(lambda: SftpStore.open(place))
    assert isinstance(error, TargetOffline)
    assert "did not complete the login within 1 s" in error.message


@pytest.mark.thorough
def test_a_server_that_starts_no_sftp_is_reported_in_bounded_time(tmp_path, monkeypatch):
    sshd.demand()
    monkeypatch.setattr(sftp_login, "GETTING_IN_S", 2.0)
    server = sshd.Sshd(tmp_path / "sshd", subsystem="/bin/sleep 60")
    server.start()
    try:
        error = ends_soon(lambda: SftpStore.open(server.place(tmp_path / "site")))
    finally:
        server.remove()
    assert isinstance(error, TargetOffline)
    assert "within 2 s" in error.message


INTERRUPTED = """
import os, signal, sys, threading
from msgspec.json import decode
from drtool.stores.sftp import SftpPlace, SftpStore
store = SftpStore.open(decode(sys.argv[1], type=SftpPlace))
print("open", flush=True)
sys.stdin.readline()
threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    store.get("x")
except KeyboardInterrupt:
    print("interrupted", flush=True)
    if sys.argv[2] == "close":
        store.close()
"""


@pytest.mark.parametrize("then", ["close", "exit"])
def test_ctrl_c_during_a_silent_call_ends_the_process_quietly(server, tmp_path, then):
    from msgspec.json import encode

    store = SftpStore.create(server.place(tmp_path / "site"))
    store.put("x", b"1")
    store.close()
    place = encode(server.place(tmp_path / "site")).decode()
    command = [sys.executable, "-c", INTERRUPTED, place, then]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True) as run:
        assert run.stdout.readline() == "open\n"
        server.stop_connections()
        try:
            told, complaints = run.communicate("\n", timeout=20)
        except subprocess.TimeoutExpired:
            run.kill()
            raise
    assert (told, complaints, run.returncode) == ("interrupted\n", "", 0)


@pytest.mark.thorough
def test_a_hung_call_on_another_thread_does_not_hold_up_the_end_of_the_process(server, tmp_path):
    from msgspec.json import encode

    SftpStore.create(server.place(tmp_path / "site")).close()
    place = encode(server.place(tmp_path / "site")).decode()
    script = (
        "import sys, threading, time\nfrom msgspec.json import decode\n"
        "from drtool.stores.sftp import SftpPlace, SftpStore\n"
        "store = SftpStore.open(decode(sys.argv[1], type=SftpPlace))\n"
        "print('open', flush=True); sys.stdin.readline()\n"
        "threading.Thread(target=store.get, args=('x',), daemon=True).start()\n"
        "time.sleep(0.5)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, place], stdin=-1, stdout=-1, stderr=-1, text=True) as run:
        assert run.stdout.readline() == "open\n"
        server.stop_connections()
        try:
            _, complaints = run.communicate("\n", timeout=20)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            raise
    assert (complaints, run.returncode) == ("", 0)


@pytest.mark.thorough
def test_a_transfer_that_takes_longer_than_the_bound_ends_well_while_it_moves(server, tmp_path, monkeypatch):
    """The bound (1 s here) applies to a time without progress."""
    direct = server.place(tmp_path / "site")
    SftpStore.create(direct).close()
    with Line(server.port) as line:
        known = tmp_path / "known_through_the_line"
        known.write_text(Path(direct.known_hosts).read_text().replace(f":{server.port}", f":{line.port}"))
        store = SftpStore.open(replace(direct, port=line.port, known_hosts=str(known)))
        monkeypatch.setattr(sftp_link, "CALL_S", 1.0)
        line.rate_bytes_s = 2_000_000
        data = os.urandom(6_000_000)
        began = time.monotonic()
        store.put("packs/slow", data)
        assert store.get("packs/slow") == data
        assert time.monotonic() - began > 4.0
        store.close()
