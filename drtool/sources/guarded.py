"""A scratch server of any kind: a private directory, a program in it, and a guard that ends both.

Invariants
    The server ends with the process that started it, however that ends: a shell waits at a pipe that only this process holds
    open, then stops the server and removes its directory.
    The directory is private, and its name is short enough for a socket.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL

from drtool.errors import DrtoolError
from drtool.sources import children

STOP_S = 60.0
_SOCKET_ROOM = 70
_GUARD = """
trap '' HUP INT TERM
directory=$1 signal=$2
shift 2
"$@" >"$directory/log" 2>&1 </dev/null &
server=$!
read -r _
kill "-$signal" $server 2>/dev/null
wait $server 2>/dev/null
cd /
rm -rf "$directory"
"""


class Guarded:
    """A directory, and after `start` a server in it. Always call `stop`."""

    def __init__(
        self, roots: Sequence[Path], environ: Mapping[str, str], *, prefix: str, user: str | None, size_bytes: int
    ) -> None:
        """Create the directory. `user` runs the server (None: the current user). Raises DrtoolError if there is no place."""
        self.user = user
        self.directory = _made(roots, prefix, size_bytes, user)
        # A starting MariaDB or MySQL deletes all #sql* files in its temporary directory, those of other servers as well.
        self.environ = {**environ, "LC_MESSAGES": "C", "TMPDIR": str(self.directory)}
        self._guard: subprocess.Popen[bytes] | None = None

    def start(self, argv: Sequence[str], *, signal: str = "TERM") -> None:
        """Start the server. `signal` shuts it down cleanly."""
        words = ["/bin/sh", "-c", _GUARD, "sh", str(self.directory), signal, *argv]
        children.program(argv[0], self.environ)
        try:
            self._guard = _started(words, self.environ, self.directory, self.user)
        except (OSError, LookupError, subprocess.SubprocessError) as error:
            raise DrtoolError(f"{argv[0]} cannot be started: {error}") from None

    def log(self) -> str:
        """Return the last messages of the server."""
        with suppress(OSError):  # there are none yet
            return children.told((self.directory / "log").read_bytes(), ())
        return ""

    def stop(self) -> list[str]:
        """End the server and remove its directory. Return leftovers in words. Repeated calls are harmless."""
        left = []
        guard, self._guard = self._guard, None
        if guard is not None:
            assert guard.stdin is not None
            with suppress(OSError):
                guard.stdin.close()
            try:
                guard.wait(STOP_S)
            except subprocess.TimeoutExpired:
                left.append(f"the scratch server in {self.directory} did not stop and was killed")
                os.killpg(guard.pid, SIGKILL)
                guard.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.directory.exists():
            left.append(f"the directory {self.directory} of the scratch server could not be removed")
        return left


def _started(
    words: Sequence[str], environ: Mapping[str, str], directory: Path, user: str | None
) -> "subprocess.Popen[bytes]":
    """Start a process that is not tethered, because it must outlive us until the server has shut down."""
    return subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=dict(environ),
        cwd=directory,
        user=user,
        group=None if user is None else pwd.getpwnam(user).pw_gid,
        extra_groups=None if user is None else [],
        start_new_session=True,
    )


def user_of(name: str, package: str) -> str | None:
    """Return the user for a server that refuses root, or None for the current user. Raises DrtoolError."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(name).pw_name
    except KeyError:
        raise DrtoolError(
            f"a scratch server does not run as root, and there is no user {name}", hint=f"install {package}"
        ) from None


def _made(roots: Sequence[Path], prefix: str, size_bytes: int, user: str | None) -> Path:
    """Create a directory in the first suitable root. Raises DrtoolError."""
    problems = []
    for root in dict.fromkeys([*roots, Path("/var/tmp"), Path(tempfile.gettempdir())]):  # noqa: S108 - made privately below
        problem = _unfit(root, size_bytes, user)
        if problem:
            problems.append(f"{root} {problem}")
            continue
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        if user is not None:
            shutil.chown(made, user)
        return made
    raise DrtoolError(f"there is no place for a scratch server: {'; '.join(problems)}")


def _unfit(root: Path, size_bytes: int, user: str | None) -> str:
    if not root.is_dir() or not os.access(root, os.W_OK):
        return "is not writable"
    if len(os.fsencode(root)) > _SOCKET_ROOM:
        return "has too long a name for a socket"
    if user is not None and not all(above.stat().st_mode & 0o001 for above in (root, *root.parents)):
        return f"cannot be entered by {user}"
    status = os.statvfs(root)
    free_bytes = status.f_bavail * status.f_frsize
    return f"has {free_bytes} bytes free, but {size_bytes} are needed" if free_bytes < size_bytes else ""
