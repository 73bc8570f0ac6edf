"""Servers of tests survive a port that somebody else took."""

import socket
import subprocess
import sys
from pathlib import Path

import loopback_ports
import pytest
import seaweed
import sshd


def test_no_port_is_drawn_twice_by_this_process_or_another():
    mine = loopback_ports.reserve(200)
    script = "import loopback_ports; print(*loopback_ports.reserve(200))"
    tests = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", script], cwd=tests, capture_output=True, text=True, check=True)
    theirs = [int(word) for word in done.stdout.split()]
    assert len(mine) == len(set(mine)) == len(theirs) == 200
    assert not set(mine) & set(theirs)


def test_an_ssh_server_whose_port_was_taken_starts_on_another(tmp_path):
    sshd.demand()
    server = sshd.Sshd(tmp_path / "ssh")
    taken = server.port
    with socket.create_server(("127.0.0.1", taken)):
        server.start()
    try:
        assert server.port != taken
        assert f":{server.port} " in server.known_hosts.read_text()
    finally:
        server.remove()


@pytest.mark.thorough
def test_a_bucket_server_whose_port_was_taken_starts_on_others(tmp_path):
    seaweed.demand()
    server = seaweed.Seaweed(tmp_path / "weed")
    taken = server.ports[0]
    with socket.create_server(("127.0.0.1", taken)):
        server.start()
    try:
        assert str(taken) not in server.endpoint
    finally:
        server.remove()
