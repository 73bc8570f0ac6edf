"""Running programs with an end: each in a process group of its own, killed with all its children when time is up.

Invariants
    No shell, no Python between fork and exec. Output beyond what is kept is read and dropped, so nobody blocks on a full pipe.
    Whatever happens, when a call returns no process of the group is left; what could not be ended is an error that names it.
    A program that runs as another user has that user's groups, and none of ours.
"""

import os
import pwd
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import IO, Any, Literal

from drtool.errors import DrtoolError
from drtool.plans.actions.port import ChildResult

KEPT_BYTES = 16 << 20
ERRORS_BYTES = 64 << 10
LOOK_S = 0.1
GRACE_S = 5.0
KILL_S = 10.0
DRAIN_BYTES = 1 << 20
"""What a pipe holds at most: so much is read after a program's end, however much others go on writing into it."""
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
    """Runs `argv` to its end, or ends it. `ends_at` is by `time.monotonic()`. Raises DrtoolError if it cannot be started."""
    began_at = time.monotonic()
    child = _started(argv, env, cwd, stdin, user, pass_fds)
    try:
        ended_by, stdout, stderr, truncated = _follow(child, stdin or b"", ends_at, cancelled)
    finally:
        _end_group(child)
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
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            **_identity(user),
            start_new_session=True,
            pass_fds=tuple(pass_fds),
            bufsize=0,
        )
    except FileNotFoundError:
        if cwd is not None and not cwd.is_dir():
            raise DrtoolError(f"{argv[0]} cannot be started: there is no directory {cwd}") from None
        raise DrtoolError(f"there is no program {argv[0]}", hint="install it, or name it by its whole path") from None
    except (OSError, ValueError, LookupError, subprocess.SubprocessError) as error:
        raise DrtoolError(f"{argv[0]} cannot be started: {error}") from None


def _identity(user: str | None) -> dict[str, Any]:
    """User and groups to run as; nothing if that is who we are. LookupError if there is no such user."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    if entry.pw_uid == os.geteuid():
        return {}
    groups = os.getgrouplist(user, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}


def _follow(
    child: "subprocess.Popen[bytes]", stdin: bytes, ends_at: float, cancelled: Event | None
) -> tuple[Literal["itself", "timeout", "cancelled"], bytes, bytes, bool]:
    """Feeds and reads it until it ends, or has to."""
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
    """What goes into a child and what comes out, without blocking on any of it."""

    def __init__(self, child: "subprocess.Popen[bytes]", stdin: bytes) -> None:
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
        """How many bytes came."""
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
        """What was written before the end is still in the pipes."""
        stdin = self._child.stdin
        if stdin is not None and not stdin.closed:
            self.selector.unregister(stdin)  # nobody reads it any more
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
    """None: nothing yet; empty: nothing any more."""
    try:
        return os.read(descriptor, _CHUNK)
    except BlockingIOError:
        return None


def _fed(selector: selectors.BaseSelector, stream: IO[bytes], waiting: memoryview) -> memoryview:
    try:
        waiting = waiting[os.write(stream.fileno(), waiting[:_CHUNK]) :]
    except BrokenPipeError:  # it does not want the rest
        waiting = waiting[len(waiting) :]
    if not waiting:
        selector.unregister(stream)
        stream.close()
    return waiting


def _end_group(child: "subprocess.Popen[bytes]") -> None:
    """Asks, then kills: the child and whatever it started and left in its group. DrtoolError if somebody will not end."""
    try:
        for number, patience_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, KILL_S)):
            if not _left(child):
                return
            _signal(child.pid, number)
            until = time.monotonic() + patience_s
            while time.monotonic() < until and _left(child):
                time.sleep(0.02)
        if left := _left(child):
            raise DrtoolError(
                f"could not be ended: {', '.join(f'process {pid}' for pid in left)}",
                hint="it runs as somebody else, or hangs in the kernel; end it by hand",
            )
    finally:
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                stream.close()


def _left(child: "subprocess.Popen[bytes]") -> list[int]:
    """Who is left in the group, but for those that ended and whom nobody has buried yet (there may be nobody who does)."""
    if child.poll() is None:
        return [child.pid]
    try:
        os.killpg(child.pid, 0)
    except ProcessLookupError:
        return []
    except PermissionError:
        pass  # somebody is, and not ours
    return [pid for pid, group, state in _processes() if group == child.pid and state not in "ZX"]


def _processes() -> Iterator[tuple[int, int, str]]:
    """(pid, group, state) of each on this host."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            yield int(name), int(fields[2]), fields[0].decode()


def _signal(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass  # whoever is left then is told by name
