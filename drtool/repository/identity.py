"""The identity of this process, and proof that another process of this host is gone.

Invariants
    The host id is drawn on first use, and again on a copy that got another machine-id. A copy that kept its machine-id
    has the same host id, so a host id alone proves nothing.
    A process is reported gone only with proof: this very boot of the machine, this very state directory (`lifelines`),
    and a process that has ended. Another boot proves nothing: a clone, or a machine restored from an image, has another
    boot while the first one still runs.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec
from msgspec import Struct

from drtool.manifest import Author
from drtool.manifest.records import Session
from drtool.model import SessionId
from drtool.repository.cache import write_atomically
from drtool.repository.lifelines import is_released, was_opened_here
from drtool.repository.processes import Standing, life_of, pid_namespace, start_time

if TYPE_CHECKING:
    from drtool.repository.repository import Repository

_FILE = "host.json"

Process: TypeAlias = Standing


class _HostFile(Struct, frozen=True):
    host_id: str
    machine_id: str


class Identity(Struct, frozen=True):
    """This process as recorded in sessions, and the directory of the lifelines of its repository's sessions."""

    host_id: str
    boot_id: str
    pid_namespace: str
    pid: int
    start_time: int
    lifelines: Path


def identify(repository: "Repository") -> Identity:
    """Return this process. The host id is drawn if there is none yet."""
    me = author(repository.spec.state_dir, "")
    return Identity(me.host_id, me.boot_id, me.pid_namespace, me.pid, me.start_time, repository.lifelines)


def author(state_dir: Path, host: str) -> Author:
    """Return this process as the manifest's sessions record it. `host` is the label that people see."""
    return Author(
        host_id=_host_id(state_dir),
        host=host,
        boot_id=_read("/proc/sys/kernel/random/boot_id"),
        pid_namespace=pid_namespace(),
        pid=os.getpid(),
        start_time=start_time(os.getpid()) or 0,
    )


def gone(sessions: Iterable[Session], me: Identity) -> tuple[SessionId, ...]:
    """Return the sessions whose process is provably gone, as seen from this one."""
    return tuple(session.id for session in sessions if process_of(session, me) == "gone")


def process_of(session: Session, me: Identity) -> Process:
    """Return what is certain about the process that opened the session, as seen from this one."""
    if session.host_id != me.host_id:
        return "elsewhere"
    if not session.boot_id or session.boot_id != me.boot_id:
        return "unknown"
    if me.pid_namespace and session.pid_namespace == me.pid_namespace:
        life = life_of(session.pid, session.start_time)
        return life if life != "gone" or was_opened_here(me.lifelines, session.id) else "unknown"
    return "gone" if is_released(me.lifelines, session.id) else "unknown"


def _host_id(state_dir: Path) -> str:
    machine_id = _read("/etc/machine-id")
    path = state_dir / _FILE
    try:
        known = msgspec.json.decode(path.read_bytes(), type=_HostFile)
        if known.machine_id == machine_id:
            return known.host_id
    except (OSError, msgspec.MsgspecError):
        pass  # first use, or a file that cannot be read: draw one
    return draw_host_id(state_dir)


def draw_host_id(state_dir: Path) -> str:
    """Give this state directory a new host id, and return it."""
    path = state_dir / _FILE
    write_atomically(path, msgspec.json.encode(_HostFile(os.urandom(16).hex(), _read("/etc/machine-id"))))
    return msgspec.json.decode(path.read_bytes(), type=_HostFile).host_id


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
