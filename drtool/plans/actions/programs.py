"""Running programs with a deadline. Each is killed with all its children when the time is up or this process dies.

Invariants
    No shell, and no Python between fork and exec. Output beyond the limit is read and dropped, so no full pipe blocks.
    When a call returns, none of its processes is left. One that could not be ended is an error that names it.
    A program that runs as another user has that user's groups, and none of ours.
"""

import os
import pwd
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import IO, Literal

from drtool.errors import DrtoolError
from drtool.plans.actions.port import ChildResult
from drtool.sources import children
from drtool.sources.tethered import Identity, Tethered

KEPT_BYTES = 16 << 20
ERRORS_BYTES = 64 << 10
LOOK_S = 0.1
DRAIN_BYTES = 1 << 20
"""The capacity of a pipe: at most this is read after a program's end, even if others keep writing into it."""
_CHUNK = 1 << 16


def run_program(
    argv: Sequence[str],
    *,
    ends_at: float,
    cancelled: Event | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    user: str | None = None,
    pass_fds: Sequence[int] = (),
) -> ChildResult:
    """Run `argv` until it ends, or end it. `ends_at` is by `time.monotonic()`. Raises DrtoolError if it cannot be started."""
    began_at = time.monotonic()
    child = _started(argv, env, cwd, stdin, user, pass_fds)
    try:
        ended_by, stdout, stderr, truncated = _follow(child, stdin or b"", ends_at, cancelled)
    finally:
        children.kill_group(child)
    return ChildResult(
        exit_code=child.returncode,
        stdout=stdout,
        stderr=stderr.decode("utf-8", "backslashreplace"),
        seconds=round(time.monotonic() - began_at, 3),
        ended_by=ended_by,
        truncated=truncated,
    )


def _started(
    argv: Sequence[str],
    env: Mapping[str, str] | None,
    cwd: Path | None,
    stdin: bytes | None,
    user: str | None,
    pass_fds: Sequence[int],
) -> Tethered:
    try:
        return Tethered(
            argv,
            env=env,
            cwd=cwd,
            identity=_identity(user),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            pass_fds=pass_fds,
        )
    except FileNotFoundError:
        if cwd is not None and not cwd.is_dir():
            raise DrtoolError(f"{argv[0]} cannot be started: there is no directory {cwd}") from None
        raise DrtoolError(f"there is no program {argv[0]}", hint="install it, or give its full path") from None
    except (OSError, ValueError, LookupError, subprocess.SubprocessError) as error:
        raise DrtoolError(f"{argv[0]} cannot be started: {error}") from None


def _identity(user: str | None) -> Identity | None:
    """Return the identity to run as, or None for the current user. Raises LookupError if there is no such user."""
    if user is None:
        return None
    entry = pwd.getpwnam(user)
    if entry.pw_uid == os.geteuid():
        return None
    return entry.pw_uid, entry.pw_gid, os.getgrouplist(user, entry.pw_gid)


def _follow(
    child: Tethered, stdin: bytes, ends_at: float, cancelled: Event | None
) -> tuple[Literal["itself", "timeout", "cancelled"], bytes, bytes, bool]:
    """Feed and read a child until it ends or must be ended."""
    streams = _Streams(child, stdin)
    with streams.selector:
        while child.poll() is None:
            streams.move(LOOK_S)
            if cancelled is not None and cancelled.is_set():
                return "cancelled", *streams.results
            if time.monotonic() >= ends_at:
                return "timeout", *streams.results
        streams.drain()
    return "itself", *streams.results


class _Streams:
    """The pipes of a child, served without blocking."""

    def __init__(self, child: Tethered, stdin: bytes) -> None:
        self.selector = selectors.DefaultSelector()
        self._child, self._waiting = child, memoryview(stdin)
        self._kept, self._errors, self._truncated = bytearray(), bytearray(), False
        for stream in (child.stdout, child.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            self.selector.register(stream, selectors.EVENT_READ)
        if child.stdin is not None:
            os.set_blocking(child.stdin.fileno(), False)
            self.selector.register(child.stdin, selectors.EVENT_WRITE)

    @property
    def results(self) -> tuple[bytes, bytes, bool]:
        return bytes(self._kept), bytes(self._errors), self._truncated

    def move(self, patience_s: float) -> int:
        """Move data once, and return the number of bytes read."""
        came = 0
        for key, _ in self.selector.select(patience_s):
            if key.fileobj is self._child.stdin:
                self._waiting = _fed(self.selector, self._child.stdin, self._waiting)
                continue
            part = _part(key.fd)
            if part is None:
                continue
            if not part:
                self.selector.unregister(key.fileobj)
            came += len(part)
            self._keep(part, errors=key.fileobj is self._child.stderr)
        return came

    def drain(self) -> None:
        """Read the data that was written before the end and is still in the pipes."""
        stdin = self._child.stdin
        if stdin is not None and not stdin.closed:
            self.selector.unregister(stdin)  # it has no reader any more
        came = 0
        while came < 2 * DRAIN_BYTES and (more := self.move(0)):
            came += more

    def _keep(self, part: bytes, *, errors: bool) -> None:
        if errors:
            self._errors += part
            del self._errors[:-ERRORS_BYTES]
        else:
            self._truncated |= len(self._kept) + len(part) > KEPT_BYTES
            self._kept += part[: KEPT_BYTES - len(self._kept)]


def _part(descriptor: int) -> bytes | None:
    """Return the next bytes, None if there are none yet, or empty bytes at the end."""
    try:
        return os.read(descriptor, _CHUNK)
    except BlockingIOError:
        return None


def _fed(selector: selectors.BaseSelector, stream: IO[bytes], waiting: memoryview) -> memoryview:
    try:
        waiting = waiting[os.write(stream.fileno(), waiting[:_CHUNK]) :]
    except BrokenPipeError:  # it closed its stdin
        waiting = waiting[len(waiting) :]
    if not waiting:
        selector.unregister(stream)
        stream.close()
    return waiting
