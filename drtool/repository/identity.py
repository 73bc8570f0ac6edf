"""Who this process is, and whether another one of this host is provably gone.

Invariants
    The host id is drawn on first use and drawn anew on a cloned image (another machine-id): two hosts never share one.
    Gone is only said with proof: same host, and another boot, or the same pid namespace without that pid and start time.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import Struct

from drtool.manifest import Author
from drtool.manifest.records import Session
from drtool.model import SessionId
from drtool.repository.cache import write_atomically
from drtool.repository.processes import Standing, pid_namespace, start_time

_FILE = "host.json"

Process: TypeAlias = Standing


class _HostFile(Struct, frozen=True):
    host_id: str
    machine_id: str


class Identity(Struct, frozen=True):
    """This process, as a session names it."""

    host_id: str
    boot_id: str
    pid_namespace: str
    pid: int
    start_time: int


def identify(state_dir: Path) -> Identity:
    """This process; draws the host id if there is none yet."""
    return Identity(
        _host_id(state_dir),
        _read("/proc/sys/kernel/random/boot_id"),
        pid_namespace(),
        os.getpid(),
        start_time(os.getpid()) or 0,
    )


def author(state_dir: Path, host: str) -> Author:
    """This process, as the manifest's sessions name it; `host` is the label that people see."""
    me = identify(state_dir)
    return Author(
        host_id=me.host_id,
        host=host,
        boot_id=me.boot_id,
        pid_namespace=me.pid_namespace,
        pid=me.pid,
        start_time=me.start_time,
    )


def gone(sessions: Iterable[Session], me: Identity) -> tuple[SessionId, ...]:
    """The sessions whose process is provably gone, seen from this one."""
    return tuple(session.id for session in sessions if process_of(session, me) == "gone")


def process_of(session: Session, me: Identity) -> Process:
    """What this process can tell of the one that opened the session."""
    if session.host_id != me.host_id:
        return "elsewhere"
    if not session.boot_id or not me.boot_id:
        return "unknown"
    if session.boot_id != me.boot_id:
        return "gone"
    if session.pid_namespace != me.pid_namespace or not me.pid_namespace:
        return "unknown"
    return "alive" if start_time(session.pid) == session.start_time else "gone"


def _host_id(state_dir: Path) -> str:
    machine_id = _read("/etc/machine-id")
    path = state_dir / _FILE
    try:
        known = msgspec.json.decode(path.read_bytes(), type=_HostFile)
        if known.machine_id == machine_id:
            return known.host_id
    except (OSError, msgspec.MsgspecError):
        pass  # first use, or a file that nobody can read: draw one
    drawn = _HostFile(os.urandom(16).hex(), machine_id)
    write_atomically(path, msgspec.json.encode(drawn))
    return msgspec.json.decode(path.read_bytes(), type=_HostFile).host_id


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
