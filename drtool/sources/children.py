"""Programs with output that is stored: read as it comes, and judged by the exit code.

Invariants
    A program is a list of words, without a shell. It has no terminal, so it cannot prompt for a password. It runs in a session
    of its own, which is killed as a whole when the reader gives up or dies.
    An output ends with its program, not with its pipe, because a process left behind may hold the pipe open.
    A content is complete only if its program exited with 0. Otherwise the error contains its last messages, without secrets.
    stderr is read while the program runs, so that it never blocks on it. The last 64 KiB are kept.
"""

import fcntl
import os
import select
import shutil
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from drtool.errors import DrtoolError
from drtool.sources.tethered import Identity, Tethered

KEPT_BYTES = 64 << 10
Heard = Callable[[str], None]
"""Called with each line that a successful program printed on stderr."""
WAIT_MS = 1000
_LINES, _CHARACTERS = 5, 1000


class ProgramFailed(DrtoolError):
    """Raised when a program could not be started, or failed, so that its output is incomplete."""

    @property
    def kind(self) -> str:
        return "drtool_error"


def program(name: str, environ: Mapping[str, str], cwd: Path | None = None) -> str:
    """Return the path of a program; a name with a slash is relative to `cwd`. Raises DrtoolError if it is not installed."""
    found = shutil.which(os.path.join(cwd or "", name) if "/" in name else name, path=environ.get("PATH", os.defpath))
    if found is None:
        raise DrtoolError(f"there is no program {name}", hint="install it, or give its full path")
    return found


class Output:
    """The output of a running program, as an implementation of `port.Readable`."""

    def __init__(self, child: Tethered) -> None:
        assert child.stdout is not None
        assert child.stderr is not None
        self._child = child
        self._out, self._errors = child.stdout.fileno(), child.stderr.fileno()
        os.set_blocking(self._errors, False)
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLIN)
        self._poll.register(self._errors, select.POLLIN)
        self._complaints = b""
        self._listening = True
        self._rest_bytes: int | None = None
        self.read_bytes = 0

    def readinto(self, buffer: memoryview, /) -> int | None:
        ready = dict(self._poll.poll(WAIT_MS))
        if self._errors in ready:
            self._listen()
        rest_bytes = self._rest()
        if rest_bytes is None and self._out not in ready:
            return None
        got = os.readv(self._out, [buffer if rest_bytes is None else buffer[:rest_bytes]]) if rest_bytes != 0 else 0
        if self._rest_bytes is not None:
            self._rest_bytes -= got
        self.read_bytes += got
        return got

    def _rest(self) -> int | None:
        """Return how many bytes are left once the program has ended, even if its pipe is still open, or None before that."""
        if self._rest_bytes is None and self._child.poll() is not None:
            self._rest_bytes = int.from_bytes(fcntl.ioctl(self._out, termios.FIONREAD, bytes(4)), sys.byteorder)
        return self._rest_bytes

    def _listen(self) -> None:
        try:
            text = os.read(self._errors, KEPT_BYTES)
        except BlockingIOError:
            return
        if not text and self._listening:
            self._listening = False
            self._poll.unregister(self._errors)
        self._complaints = (self._complaints + text)[-KEPT_BYTES:]

    def end(self) -> int:
        """Wait for the program after the end of its output, and return its exit code."""
        self._poll.unregister(self._out)
        while self._child.poll() is None:
            if not self._listening:
                self._child.wait()
            elif self._poll.poll(WAIT_MS // 10):
                self._listen()
        while self._listening and self._poll.poll(0):
            self._listen()
        return self._child.returncode

    def complaints(self, secrets: Sequence[str]) -> str:
        """Return the last lines that it printed on stderr."""
        return told(self._complaints, secrets)

    def lines(self, secrets: Sequence[str]) -> list[str]:
        """Return all kept lines that it printed on stderr."""
        return _lines_of(self._complaints, secrets)


def told(stderr: bytes, secrets: Sequence[str]) -> str:
    """Return the last lines of a program's stderr on one line, without secrets."""
    lines = [line.strip() for line in stderr.decode("utf-8", "backslashreplace").splitlines() if line.strip()]
    return redacted(" / ".join(lines[-_LINES:])[-_CHARACTERS:], secrets)


def _lines_of(stderr: bytes, secrets: Sequence[str]) -> list[str]:
    lines = stderr.decode("utf-8", "backslashreplace").splitlines()
    return [redacted(line.strip(), secrets)[:_CHARACTERS] for line in lines if line.strip()]


def redacted(text: str, secrets: Sequence[str]) -> str:
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


@contextmanager
def piped(
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    cwd: Path | None = None,
    user: str | None = None,
    secrets: Sequence[str] = (),
    heard: Heard | None = None,
) -> Iterator[Output]:
    """Run `argv` while its output is read. Raises ProgramFailed if it cannot be started or fails."""
    child = started(argv, environ, cwd=cwd, user=user, adopts=True)
    try:
        output = Output(child)
        yield output
        code = output.end()
    finally:
        kill_group(child)
    if code:
        why = output.complaints(secrets)
        raise ProgramFailed(f"{argv[0]} {ending(code)}{': ' + why if why else ' without a message'}")
    if heard is not None:
        for line in output.lines(secrets):
            heard(line)


def ending(code: int) -> str:
    """Return how a program ended, in words."""
    return f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"


def started(
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    cwd: Path | None = None,
    user: str | None = None,
    stdin: int = subprocess.DEVNULL,
    adopts: bool = False,
) -> Tethered:
    """Start a program with pipes for stdout and stderr. Raises DrtoolError."""
    program(argv[0], environ, cwd)
    try:
        return Tethered(argv, env=environ, cwd=cwd, identity=_identity(user), stdin=stdin, adopts=adopts)
    except (OSError, ValueError, LookupError, subprocess.SubprocessError) as error:
        raise ProgramFailed(f"{argv[0]} cannot be started: {error}") from None


def _identity(user: str | None) -> Identity | None:
    if user is None:
        return None
    import pwd

    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid, ()


def kill_group(child: Tethered) -> None:
    """End a running program and all its children, and close its pipes. Raises DrtoolError if a process is left."""
    try:
        child.end()
    finally:
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                with suppress(OSError):  # unwritten data has no reader any more
                    pipe.close()


def watched(child: Tethered, stdin: bytes | None, watch: Callable[[], None] | None) -> tuple[bytes, bytes]:
    """Feed a program and read its output to the end. `watch` is called every second, and may raise."""
    while True:
        try:
            return child.communicate(stdin, timeout=None if watch is None else 1.0)
        except subprocess.TimeoutExpired:
            assert watch is not None
            watch()
            stdin = None  # already passed on, and must not be passed again


def complaints(
    argv: Sequence[str],
    environ: Mapping[str, str],
    stdin: bytes,
    *,
    user: str | None = None,
    secrets: Sequence[str] = (),
    cwd: Path | None = None,
    watch: Callable[[], None] | None = None,
) -> list[str]:
    """Return what a program prints on stderr about `stdin`, as lines without secrets. Raises DrtoolError if it fails."""
    child = started(argv, environ, cwd=cwd, user=user, stdin=subprocess.PIPE)
    try:
        _, errors = watched(child, stdin, watch)
    finally:
        kill_group(child)
    text = redacted(errors.decode("utf-8", "replace"), secrets)
    if child.returncode:
        raise DrtoolError(f"{argv[0]} {ending(child.returncode)}: {text.strip()[-500:]}")
    return text.splitlines()


def fed(
    argv: Sequence[str],
    environ: Mapping[str, str],
    file: Path,
    *,
    user: str | None = None,
    secrets: Sequence[str] = (),
    cwd: Path | None = None,
    watch: Callable[[], None] | None = None,
) -> tuple[int, str]:
    """Run a program with a file as stdin, which its user need not be able to open. Return exit code and stderr."""
    with file.open("rb") as stdin:
        child = started(argv, environ, cwd=cwd, user=user, stdin=stdin.fileno())
    try:
        _, errors = watched(child, None, watch)
    finally:
        kill_group(child)
    return child.returncode, redacted(errors.decode("utf-8", "replace"), secrets)


def run(
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    stdin: bytes | None = None,
    user: str | None = None,
    secrets: Sequence[str] = (),
    cwd: Path | None = None,
    limit_bytes: int = 64 << 20,
    success: Sequence[int] = (0,),
    watch: Callable[[], None] | None = None,
    heard: Heard | None = None,
) -> bytes:
    """Return a program's whole output. Raises ProgramFailed if it cannot start, fails, or prints more than `limit_bytes`."""
    child = started(
        argv, environ, cwd=cwd, user=user, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL
    )
    try:
        out, errors = watched(child, stdin, watch)
    finally:
        kill_group(child)
    if child.returncode not in success:
        why = told(errors, secrets)
        raise ProgramFailed(f"{argv[0]} {ending(child.returncode)}{': ' + why if why else ' without a message'}")
    if len(out) > limit_bytes:
        raise ProgramFailed(f"{argv[0]} printed {len(out)} bytes, more than the {limit_bytes} expected at most")
    if heard is not None:
        for line in _lines_of(errors, secrets):
            heard(line)
    return out


def read_until(out: int, end: bytes, watch: Callable[[], None]) -> bytes | None:
    """Return the output before `end`, or None if the output ends first. `watch` is called at least once per second."""
    text = bytearray()
    while not text.endswith(end):
        watch()
        if select.select([out], [], [], 1.0)[0]:
            got = os.read(out, 1 << 16)
            if not got:
                return None
            text += got
    return bytes(text[: -len(end)])
