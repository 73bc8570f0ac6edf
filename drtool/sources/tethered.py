"""Programs that end with the process that started them, however that ends, by a line that only this process holds.

`tether.py` is the program's parent, between the two. It costs ten milliseconds per program.

Invariants
    No shell, and no Python between fork and exec in this process, which has threads.
    The program is in a session of its own without a terminal. Its children are ended with it. Processes that start a session
    of their own (`setsid`, a daemon) are ended too with `adopts`, and escape without.
"""

import marshal
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL

from drtool.errors import DrtoolError
from drtool.sources import tether

GRACE_S = 5.0
KILL_S = 10.0
_LOOK_S = 0.02
Identity = tuple[int, int, Sequence[int]]


class Tethered(subprocess.Popen[bytes]):
    """A `Popen` with pipes for stdout and stderr. `pid` is the tether's, `session` the program's. Always call `end`."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        identity: Identity | None = None,
        stdin: int = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
        adopts: bool = False,
    ) -> None:
        """Start a program. `identity`: user, group and groups to run as. None, as in `env`: our own.

        With `adopts`, daemons that the program starts end with it. Raises OSError or ValueError if it cannot start.
        """
        order = _order(argv, env, cwd, identity, pass_fds, adopts=adopts)
        self._line, theirs = socket.socketpair()
        try:
            with theirs:
                super().__init__(
                    [sys.executable, "-I", "-S", tether.__file__, str(theirs.fileno())],
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                    pass_fds=(theirs.fileno(), *pass_fds),
                    bufsize=0,
                )
            self.session = self._begun(order, argv[0])
        except BaseException:
            self._line.close()
            raise

    def _begun(self, order: bytes, name: str) -> int:
        """Return the program's PID."""
        try:
            self._line.sendall(order)
            answer = self._line.recv(1 << 16)
            failure = (0, 0, "the tether process did not start")
            program, number, text = marshal.loads(answer) if answer else failure  # noqa: S302 - sent by our own child
        except OSError as error:
            program, number, text = 0, 0, f"the tether process did not start: {error}"
        if program:
            return int(program)
        self._line.close()
        self.wait()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        raise OSError(number, text, name) if number else ValueError(text)

    def end(self) -> None:
        """Ask the program to end, then kill it with all its children. Repeatable. Raises DrtoolError if a process is left."""
        if self.poll() is None:
            with suppress(OSError):  # it is already ending
                self._line.send(tether.END)
            with suppress(subprocess.TimeoutExpired):
                self.wait(GRACE_S + KILL_S)
        self._line.close()
        if self.returncode is not None and self.returncode >= 0:
            return  # the tether has ended the session
        until = time.monotonic() + KILL_S
        while left := [pid for pid, _ in tether.members(self.session)]:  # otherwise the tether was killed
            if self.returncode is None or time.monotonic() > until:
                raise DrtoolError(
                    f"could not be ended: {', '.join(f'process {pid}' for pid in left)}",
                    hint="it runs as another user, or hangs in the kernel; end it manually",
                )
            tether.tell(self.session, SIGKILL)
            time.sleep(_LOOK_S)


def _order(
    argv: Sequence[str],
    env: Mapping[str, str] | None,
    cwd: Path | None,
    identity: Identity | None,
    pass_fds: Sequence[int],
    *,
    adopts: bool,
) -> bytes:
    """Encode the order for the tether as bytes, because file names need not be text."""
    data = marshal.dumps(
        (
            [os.fsencode(word) for word in argv],
            None if env is None else {os.fsencode(name): os.fsencode(value) for name, value in env.items()},
            None if cwd is None else os.fsencode(cwd),
            None if identity is None else (identity[0], identity[1], list(identity[2])),
            list(pass_fds),
            GRACE_S,
            adopts,
        )
    )
    return len(data).to_bytes(tether.LENGTH_BYTES, "big") + data
