"""Loopback ports for the servers that tests start.

A port is reserved by a lock on a file, held until this process ends, so two test processes never draw the same one and a server
that is killed gets its port back. Ports come from below the ephemeral range, so no outgoing connection takes one. A foreign
program still can: whoever starts a server draws other ports and tries again (`starting`).
"""

import fcntl
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path

LOWEST = 10_000
ATTEMPTS = 3
_locks: list[int] = []


def reserve(count: int) -> list[int]:
    """Return `count` ports on which no server listens and which no other test process has reserved."""
    ports: list[int] = []
    candidates = list(range(LOWEST, _ephemeral_start()))
    random.shuffle(candidates)
    for port in candidates:
        if len(ports) == count:
            break
        if _locked(port) and _is_free(port):
            ports.append(port)
    return ports


def starting(start: Callable[[], None], draw_other_ports: Callable[[], None]) -> None:
    """Call `start` until it succeeds, at most `ATTEMPTS` times, with other ports each time. Raises its last RuntimeError."""
    for _ in range(ATTEMPTS - 1):
        try:
            return start()
        except RuntimeError:
            draw_other_ports()
    return start()


def _ephemeral_start() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 32_768


def _locked(port: int) -> bool:
    """Whether this process holds the reservation of `port` from now on."""
    place = (
        Path("/tmp") / f"drtool-test-ports-{os.getuid()}"
    )  # one place, whatever a test calls its temporary directory
    place.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(place / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    _locks.append(lock)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
