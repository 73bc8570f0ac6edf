"""Running programs with an end: each in a process group of its own, killed with all its children when time is up.

Invariants
    No shell, no Python between fork and exec. Output beyond what is kept is read and dropped, so nobody blocks on a full pipe.
    Whatever happens, when a call returns no process of the group is left.
"""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import IO, Literal

from drtool.errors import DrtoolError
from drtool.plans.actions.port import ChildResult

KEPT_BYTES = 16 << 20
ERRORS_BYTES = 64 << 10
LOOK_S = 0.1
GRACE_S = 5.0
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
            user=user,
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


def _follow(
    child: "subprocess.Popen[bytes]", stdin: bytes, ends_at: float, cancelled: Event | None
) -> tuple[Literal["itself", "timeout", "cancelled"], bytes, bytes, bool]:
    """Feeds and reads it until it ends, or has to."""
    kept, errors, truncated = bytearray(), bytearray(), False
    assert child.stdout is not None
    assert child.stderr is not None
    with selectors.DefaultSelector() as selector:
        for stream in (child.stdout, child.stderr):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        waiting = memoryview(stdin)
        if child.stdin is not None:
            os.set_blocking(child.stdin.fileno(), False)
            selector.register(child.stdin, selectors.EVENT_WRITE)
        while child.poll() is None or _readable(selector):
            for key, _ in selector.select(LOOK_S):
                if key.fileobj is child.stdin:
                    waiting = _fed(selector, child.stdin, waiting)
                    continue
                part = _part(key.fd)
                if not part:
                    selector.unregister(key.fileobj)
                elif key.fileobj is child.stdout:
                    truncated |= len(kept) + len(part) > KEPT_BYTES
                    kept += part[: KEPT_BYTES - len(kept)]
                else:
                    errors += part
                    del errors[:-ERRORS_BYTES]
            if cancelled is not None and cancelled.is_set():
                return "cancelled", bytes(kept), bytes(errors), truncated
            if time.monotonic() >= ends_at:
                return "timeout", bytes(kept), bytes(errors), truncated
    return "itself", bytes(kept), bytes(errors), truncated


def _readable(selector: selectors.BaseSelector) -> bool:
    """Whether something that was written before the end is still to be read."""
    return any(key.events & selectors.EVENT_READ and mask for key, mask in selector.select(0))


def _part(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK)
    except BlockingIOError:
        return b""


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
    """Asks, then kills: the child and whatever it started and left in its group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not _signalled(child.pid, number) and child.poll() is not None:
            break
        ends_at = time.monotonic() + (GRACE_S if number == signal.SIGTERM else GRACE_S * 2)
        while time.monotonic() < ends_at and (child.poll() is None or _signalled(child.pid, 0)):
            time.sleep(0.02)
    child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()


def _signalled(group: int, number: int) -> bool:
    """False if nobody is left in the group."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
