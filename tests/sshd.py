"""A real SSH server for tests: OpenSSH's sshd on a free port of the loopback, with keys of its own; stopped in the end."""

import atexit
import functools
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import loopback_ports
import pytest

from drtool.stores.sftp_login import SftpPlace

START_TIMEOUT_S = 20


def program() -> str | None:
    """sshd wants to be called by its absolute path."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin")


def demand() -> None:
    """A skip, or in CI a failure, where the programs are not here."""
    if program() is None or shutil.which("ssh-keygen") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("sshd is not here: apt-get install openssh-server")


class Sshd:
    """One server below `root`; it can be killed and started again. `words`: more lines of its configuration."""

    def __init__(self, root: Path, *words: str, subsystem: str = "internal-sftp") -> None:
        self.root = root
        self.port = loopback_ports.reserve(1)[0]
        self._words, self._subsystem = words, subsystem
        self._was_up = False
        self.known_hosts, self.identity = root / "known_hosts", root / "id"
        root.mkdir(parents=True, exist_ok=True)
        self.new_host_key()
        _keygen(self.identity)
        shutil.copy(self.identity.with_suffix(".pub"), root / "authorized_keys")
        self._configure()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped: list[int] = []

    def _configure(self) -> None:
        lines = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.root / 'host'}",
            f"AuthorizedKeysFile {self.root / 'authorized_keys'}",
            f"PidFile {self.root / 'pid'}",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "MaxStartups 200",
            "MaxSessions 100",
            f"Subsystem sftp {self._subsystem}",
            *self._words,
        ]
        (self.root / "sshd_config").write_text("\n".join(lines) + "\n")

    def new_host_key(self) -> None:
        """As after a reinstallation; `known_hosts` is not told."""
        before = (self.root / "host").exists()
        for name in ("host", "host.pub"):
            (self.root / name).unlink(missing_ok=True)
        _keygen(self.root / "host")
        if not before:
            self._know_host()

    def _know_host(self) -> None:
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {(self.root / 'host.pub').read_text()}")

    def start(self) -> None:
        """Return when it answers. A server whose address is known already keeps its port."""
        if self._was_up:
            self._start()
        else:
            loopback_ports.starting(self._start, self._draw_another_port)
        self._was_up = True

    def _draw_another_port(self) -> None:
        self.kill()
        self.port = loopback_ports.reserve(1)[0]
        self._configure()
        self._know_host()

    def _start(self) -> None:
        Path("/run/sshd").mkdir(exist_ok=True) if os.geteuid() == 0 else None
        with (self.root / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program() or "sshd", "-D", "-e", "-f", self.root / "sshd_config"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        ends_at = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < ends_at and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as line:
                    if line.recv(4) == b"SSH-":
                        return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"sshd did not start: {(self.root / 'sshd.log').read_text(errors='replace')[-2000:]}")

    def kill(self) -> None:
        """As kill -9 does, to the server and to every connection of it."""
        process, self._process = self._process, None
        if process is not None:
            for pid in _family(process.pid):
                _kill(pid)
            process.wait()

    def stop_connections(self) -> None:
        """As if every connection's process stood still; the server itself goes on, and new connections with it."""
        assert self._process is not None
        self._stopped = _family(self._process.pid)[1:]
        for pid in self._stopped:
            _kill(pid, signal.SIGSTOP)

    def wake(self) -> None:
        """What was stopped goes on."""
        stopped, self._stopped = self._stopped, []
        for pid in stopped:
            _kill(pid, signal.SIGCONT)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.root, ignore_errors=True)

    def place(self, path: Path) -> SftpPlace:
        return SftpPlace(
            host="127.0.0.1",
            port=self.port,
            user=getpass.getuser(),
            path=str(path),
            identity_file=str(self.identity),
            known_hosts=str(self.known_hosts),
        )

    def url(self, path: Path) -> str:
        """With what lets this host in."""
        keys = f"identity_file={self.identity}&known_hosts={self.known_hosts}"
        return f"sftp://{getpass.getuser()}@127.0.0.1:{self.port}{path}?{keys}"


def _keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "drtool-test", "-f", path], check=True)


def _family(pid: int) -> list[int]:
    """A process and all below it, the youngest last; sshd makes each connection a session of its own."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(words[1]), []).append(int(status.parent.name))
    family = [pid]
    for member in family:
        family += children.get(member, [])
    return family


def _kill(pid: int, how: signal.Signals = signal.SIGKILL) -> None:
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        pass


@functools.cache
def shared() -> Sshd:
    """One server for all tests of this process."""
    demand()
    server = Sshd(Path(tempfile.mkdtemp(prefix="drtool-sshd-")))
    atexit.register(server.remove)
    server.start()
    return server
