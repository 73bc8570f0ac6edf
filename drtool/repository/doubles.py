"""Detection of two machines with one host id through the sessions that they open. This host then gets a new id.

A clone has the same host id, machine-id and name, but another boot. If a session of this host id was opened or renewed
under another boot after this boot began to use the repository, it cannot be from before a reboot, so another machine is
at work.

Invariants
    Nothing about the life of a process is concluded from this. The host id only says which sessions may be this host's.
"""

from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from drtool.manifest.facade import View
from drtool.manifest.records import Session
from drtool.repository.cache import write_atomically
from drtool.repository.ending import described
from drtool.repository.identity import author, draw_host_id

NOTES = "boot"


class _Boot(Struct, frozen=True, array_like=True):
    """The boot in which this state directory was used last, and the newest change at its first use."""

    boot_id: str
    sequence: int


def tell_apart(state_dir: Path, directory: Path, view: View) -> str:
    """Return a warning, or an empty string.

    With a warning, this host gets a new id. `directory`: the repository's state.
    """
    me, path = author(state_dir, ""), directory / NOTES
    known = _read(path)
    if known is None or known.boot_id != me.boot_id:
        with suppress(OSError):  # with a full or read-only state directory, two machines may go unnoticed
            write_atomically(path, msgspec.msgpack.encode(_Boot(me.boot_id, view.sequence)))
        return ""
    other = next((row for row in view.state.sessions if _is_double(row, me.host_id, known)), None)
    if other is None:
        return ""
    draw_host_id(state_dir)
    return (
        f"another machine with the host id of this one is at work: {described(other)}. A clone must not share a state "
        "directory, or bring a copy of it along. This host has taken a new host id"
    )


def _is_double(row: Session, host_id: str, known: _Boot) -> bool:
    return (
        row.host_id == host_id
        and bool(row.boot_id)
        and row.boot_id != known.boot_id
        and max(row.opened, row.renewed) > known.sequence
    )


def _read(path: Path) -> _Boot | None:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=_Boot)
    except (OSError, msgspec.MsgspecError):
        return None
