"""A line to an SSH server that breaks during each kind of request, a full disk, and a server with few sessions."""

import os
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sshd
from msgspec.structs import replace
from slow_line import Line

from drtool.errors import TargetFull, TargetOffline, TargetUnanswered
from drtool.stores.sftp import SftpStore


@pytest.fixture
def line():
    sshd.demand()
    with Line(sshd.shared().port) as line:
        yield line


@pytest.fixture
def store(line, tmp_path):
    server = sshd.shared()
    known = tmp_path / "known_hosts"
    known.write_text(server.known_hosts.read_text().replace(f":{server.port} ", f":{line.port} "))
    opened = SftpStore.create(replace(server.place(tmp_path / "site"), port=line.port, known_hosts=str(known)))
    yield opened
    opened.close()


def trips(line: Line, call) -> int:
    line.forget()
    call()
    return line.turns


def test_round_trips_are_as_documented(line, store):
    """docs/stores.md lists these, for an open connection and a known directory."""
    store.put("packs/a", b"1")
    store.put_if_absent("reg/0", b"1")
    line.latency_s = 0.04
    counted = {
        "look": trips(line, store.look),
        "put": trips(line, lambda: store.put("packs/b", bytes(100_000))),
        "put_if_absent": trips(line, lambda: store.put_if_absent("reg/1", b"1")),
        "refused": trips(line, lambda: store.put_if_absent("reg/1", b"2")),
        "get": trips(line, lambda: store.get("packs/b", 0, 1000)),
        "read_tagged": trips(line, lambda: store.read_tagged("reg/1")),
        "stat": trips(line, lambda: store.stat("packs/b")),
        "list": trips(line, lambda: list(store.list("packs/"))),
        "delete": trips(line, lambda: store.delete("packs/a")),
    }
    assert counted == {
        "look": 1,
        "put": 6,
        "put_if_absent": 7,
        "refused": 8,
        "get": 3,
        "read_tagged": 5,
        "stat": 1,
        "list": 9,
        "delete": 1,
    }


@pytest.mark.parametrize("after_turns", range(1, 8))
@pytest.mark.spread(4)
def test_a_line_cut_while_a_record_is_written_leaves_all_or_nothing_of_it(line, store, after_turns):
    """Answered writes hold. The state of unanswered ones is found by reading."""
    store.put_if_absent("reg/0", b"1")
    line.latency_s = 0.03
    line.forget()
    outcome: list[object] = []

    def write() -> None:
        try:
            outcome.append(store.put_if_absent("reg/1", b"mine"))
        except TargetOffline as error:
            outcome.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    while line.turns < after_turns and writer.is_alive():
        time.sleep(0.002)
    line.cut()
    writer.join(20)
    line.latency_s = 0.0
    line.heal()
    assert outcome[0] is True or isinstance(outcome[0], TargetUnanswered)
    found = store.read_tagged("reg/1")
    assert found is None or found.data == b"mine"
    assert not (outcome[0] is True and found is None)
    assert store.put_if_absent("reg/1", b"theirs") is (found is None)


@pytest.mark.parametrize("kind", ["read", "listing", "deletion", "pack"])
def test_a_line_cut_in_the_midst_is_a_target_that_is_offline_and_the_next_call_works(line, store, kind):
    data = os.urandom(1 << 20)
    store.put("packs/a", data)
    call = {
        "read": lambda: store.get("packs/a"),
        "listing": lambda: list(store.list()),
        "deletion": lambda: store.delete("packs/a"),
        "pack": lambda: store.put("packs/b", data),
    }[kind]
    line.latency_s = 0.05
    line.forget()
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(call)
        while not line.turns and not running.done():
            time.sleep(0.002)
        line.cut()
        error = running.exception(20)
    assert isinstance(error, TargetUnanswered if kind in ("deletion", "pack") else TargetOffline)
    line.latency_s = 0.0
    line.heal()
    store.put("packs/b", data)
    assert store.get("packs/b") == data


@pytest.fixture
def small(tmp_path):
    """A file system of 6 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "drtool-test", path], capture_output=True).returncode:
        pytest.skip("a file system may not be mounted here")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_a_full_disk_is_recognised_and_stored_objects_stay(small: Path):
    sshd.demand()
    store = SftpStore.create(sshd.shared().place(small / "site"))
    store.put("packs/a", bytes(4 << 20))
    for write in (lambda: store.put("packs/b", bytes(4 << 20)), lambda: store.put_if_absent("reg/1", bytes(3 << 20))):
        with pytest.raises(TargetFull, match="no room left"):
            write()
    assert [(row.name, row.size_bytes) for row in store.list()] == [("packs/a", 4 << 20)]
    assert [path.name for path in small.rglob(".tmp-*")] == []
    store.delete("packs/a")
    store.put("packs/b", bytes(4 << 20))
    store.close()


def test_a_server_without_sessions_is_reported_as_offering_no_sftp(tmp_path):
    sshd.demand()
    server = sshd.Sshd(tmp_path / "sshd")
    config = server.root / "sshd_config"
    config.write_text(config.read_text().replace("MaxSessions 100", "MaxSessions 0"))
    server.start()
    try:
        with pytest.raises(Exception, match="offers no SFTP") as caught:
            SftpStore.create(server.place(tmp_path / "site"))
    finally:
        server.remove()
    assert not (tmp_path / "site").exists()
    assert "Subsystem" in caught.value.hint


def strangers_turn(port: int) -> socket.socket:
    """A connection that has not logged in yet, which is the only one permitted."""
    for _ in range(50):
        waiting = socket.create_connection(("127.0.0.1", port), timeout=5)
        try:
            if waiting.recv(4) == b"SSH-":
                return waiting
        except OSError:
            pass
        waiting.close()
        time.sleep(0.1)
    raise AssertionError("the server never took a connection")


def test_a_server_that_takes_no_more_connections_is_offline_for_now(tmp_path):
    sshd.demand()
    server = sshd.Sshd(tmp_path / "sshd")
    config = server.root / "sshd_config"
    config.write_text(config.read_text().replace("MaxStartups 200", "MaxStartups 1:100:1"))
    server.start()
    try:
        with strangers_turn(server.port), pytest.raises(TargetOffline, match="cannot be reached"):
            SftpStore.create(server.place(tmp_path / "site"))
        with strangers_turn(server.port):
            pass  # it is free again once the server has noticed
        time.sleep(0.5)
        SftpStore.create(server.place(tmp_path / "site")).close()
    finally:
        server.remove()


def test_an_account_that_may_do_nothing_but_sftp_is_enough_to_vote(tmp_path):
    sshd.demand()
    server = sshd.Sshd(tmp_path / "sshd")
    keys = server.root / "authorized_keys"
    keys.write_text(f'restrict,command="internal-sftp" {keys.read_text()}')
    server.start()
    try:
        store = SftpStore.create(server.place(tmp_path / "site"))
        assert store.vote_verdict().can_vote
        store.close()
    finally:
        server.remove()
