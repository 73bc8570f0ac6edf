"""The connection to an SSH server: made when it is needed, made again when it was lost, and never kept alive by a thread.

Invariants
    A server is spoken to only if known_hosts has its key. Nobody is ever asked for a password or a passphrase.
    The event loop runs in a thread only while somebody waits for an answer: a process may fork between calls. A forked child
    has no part in its parent's connection.
    A call that was not answered in time ends the connection: what it asked for may still happen.

asyncssh is imported when the first server is reached: it takes a quarter of a second.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from msgspec import Struct

from drtool.errors import StoreError, TargetHung, TargetOffline, TargetUnanswered, UsageError

if TYPE_CHECKING:
    from asyncssh import SFTPClient, SSHClientConnection

T = TypeVar("T")

CONNECT_TIMEOUT_S = 10
LOGIN_TIMEOUT_S = 20
KEEPALIVE_S = 15
CALL_S = 60.0
SLOWEST_BYTES_S = 256 * 1024
# AES-GCM first: with the processor's own instructions it is several times as fast as ChaCha20
_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"


class SftpPlace(Struct, frozen=True, kw_only=True):
    """A directory at an SSH server, and how this host gets in. What is None is left to ~/.ssh/config, then to SSH's defaults."""

    host: str
    path: str
    user: str | None = None
    port: int | None = None
    identity_file: str | None = None
    known_hosts: str | None = None

    @property
    def server(self) -> str:
        """As people write it."""
        who = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{who}{host}{f':{self.port}' if self.port else ''}"


def sftp_place(url: str, *, identity_file: str | None = None, known_hosts: str | None = None) -> SftpPlace:
    """The place behind `sftp://user@host:port/path`, nothing percent-encoded; UsageError if it is none."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme != "sftp" or not parts.hostname or not parts.path.strip("/") or port == 0 or parts.password:
        raise UsageError(
            f"target URL {url!r} is not sftp://USER@HOST:PORT/PATH", hint="for example sftp://backup@nas/srv/drtool"
        )
    return SftpPlace(
        host=parts.hostname,
        path=os.path.normpath(parts.path),
        user=parts.username,
        port=port,
        identity_file=identity_file,
        known_hosts=known_hosts,
    )


class Runner:
    """An event loop that runs while somebody waits for it, from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._waiting = 0
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns or raises."""
        self._begin()
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
            try:
                return future.result()
            except BaseException:
                future.cancel()
                raise
        finally:
            self._end()

    def close(self) -> None:
        self._loop.close()

    def _begin(self) -> None:
        with self._lock:
            self._waiting += 1
            if self._waiting == 1:
                self._thread = threading.Thread(target=self._turn, name="drtool-sftp", daemon=True)
                self._thread.start()

    def _end(self) -> None:
        with self._lock:
            self._waiting -= 1
            if self._waiting == 0 and self._thread is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._thread = None

    def _turn(self) -> None:
        # Python runs handlers in the main thread, which must not sleep on while a signal went to this one
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        self._loop.run_forever()


class Link:
    """One connection at a time to one server; for any number of threads."""

    def __init__(self, place: SftpPlace) -> None:
        self.place = place
        self._process = os.getpid()
        self._closed = False
        self._runner = Runner()
        self._connecting = asyncio.Lock()
        self._connection: SSHClientConnection | None = None
        self._client: SFTPClient | None = None

    def call(
        self,
        work: "Callable[[SFTPClient], Awaitable[T]]",
        where: str,
        *,
        writing: bool = False,
        size_bytes: int = 0,
    ) -> T:
        """What `work` makes of a live client. `TargetOffline` if there is none to be had; `TargetUnanswered` if it went away."""
        if self._process != os.getpid() or self._closed:
            raise StoreError(f"{where}: the connection is {'closed' if self._closed else 'of another process'}")
        return self._runner.run(self._answered(work, where, CALL_S + size_bytes / SLOWEST_BYTES_S, writing=writing))

    def close(self) -> None:
        if self._process == os.getpid() and not self._closed:
            self._closed = True
            with suppress(Exception):  # the server notices anyhow; nothing is lost by a farewell that does not arrive
                self._runner.run(asyncio.wait_for(self._leave(), 2.0))
            self._runner.close()

    async def _answered(
        self, work: "Callable[[SFTPClient], Awaitable[T]]", where: str, timeout_s: float, *, writing: bool
    ) -> T:
        import asyncssh

        client = await self._connected(where)
        try:
            return await asyncio.wait_for(work(client), timeout_s)
        except TimeoutError:
            await self._drop(client)
            raise TargetHung(
                f"{where}: {self.place.server} did not answer within {timeout_s:.3g} s",
                hint="check the server and the line to it",
            ) from None
        except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.DisconnectError, OSError) as error:
            await self._drop(client)
            kind = TargetUnanswered if writing else TargetOffline
            raise kind(f"{where}: the connection to {self.place.server} was lost: {_said(error)}") from error

    async def _connected(self, where: str) -> "SFTPClient":
        async with self._connecting:
            if self._client is None or self._connection is None or self._connection.is_closed():
                self._connection, self._client = await _connect(self.place, where)
            return self._client

    async def _drop(self, client: "SFTPClient") -> None:
        """So that the next call connects anew; whoever else waits on the same connection ends as well."""
        if client is self._client:
            if self._connection is not None:
                self._connection.abort()
            self._client = self._connection = None

    async def _leave(self) -> None:
        if self._client is not None:
            self._client.exit()
        if self._connection is not None:
            self._connection.close()
            await self._connection.wait_closed()


async def _connect(place: SftpPlace, where: str) -> "tuple[SSHClientConnection, SFTPClient]":
    import asyncssh

    wanted: dict[str, Any] = {"username": place.user, "port": place.port, "known_hosts": place.known_hosts}
    wanted |= {"client_keys": [place.identity_file]} if place.identity_file else {}
    connection: SSHClientConnection | None = None
    try:
        connection = await asyncssh.connect(
            place.host,
            **{key: value for key, value in wanted.items() if value is not None},
            connect_timeout=CONNECT_TIMEOUT_S,
            login_timeout=LOGIN_TIMEOUT_S,
            keepalive_interval=KEEPALIVE_S,
            encryption_algs=_CIPHERS,
            compression_algs=["none"],
            preferred_auth="publickey",
            public_key_auth=True,
            password_auth=False,
            kbdint_auth=False,
        )
        client = await asyncio.wait_for(connection.start_sftp_client(path_errors="surrogateescape"), LOGIN_TIMEOUT_S)
    except BaseException as error:
        if connection is not None:
            connection.abort()
        if isinstance(error, Exception):
            raise _why_not(error, place, where) from error
        raise
    return connection, client


def _why_not(error: Exception, place: SftpPlace, where: str) -> StoreError:
    """The error of ours that a failure to connect stands for."""
    import asyncssh

    known = place.known_hosts or "~/.ssh/known_hosts"
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return StoreError(
            f"{where}: {place.server} shows a host key that {known} does not have for it",
            hint=f"if it is new: ssh-keyscan{_port(place)} {place.host} >> {known}, and compare the fingerprint by another way; "
            "if it is not new, somebody else may be answering in its stead",
        )
    if isinstance(error, asyncssh.PermissionDenied):
        tried = place.identity_file or "the agent's keys and those in ~/.ssh"
        return StoreError(
            f"{where}: {place.server} does not let this host in with {tried}",
            hint="put the public key into authorized_keys there, or name another: `identity_file`",
        )
    if isinstance(error, asyncssh.KeyImportError | asyncssh.KeyEncryptionError):
        return StoreError(
            f"{where}: the key {place.identity_file or ''} cannot be used: {_said(error)}",
            hint="a key with a passphrase works through an agent (SSH_AUTH_SOCK); for cron, use one without",
        )
    if isinstance(error, FileNotFoundError | PermissionError) and error.filename:
        return StoreError(f"{where}: {os.fsdecode(error.filename)} cannot be read: {error.strerror}", hint=_FILES)
    if isinstance(error, asyncssh.ChannelOpenError):
        return StoreError(
            f"{where}: {place.server} lets this host in and offers no SFTP: {_said(error)}",
            hint="its sshd_config needs a line: Subsystem sftp internal-sftp",
        )
    if isinstance(error, OSError | asyncssh.Error):
        return TargetOffline(
            f"{where}: {place.server} cannot be reached: {_said(error)}",
            hint="check the network, the server and its port",
        )
    raise error


_FILES = "check `identity_file` and `known_hosts` in the configuration"


def _port(place: SftpPlace) -> str:
    return f" -p {place.port}" if place.port else ""


def _said(error: Exception) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    reason = getattr(error, "reason", "") or (error.strerror if isinstance(error, OSError) else "")
    return (str(reason) or str(error) or type(error).__name__).strip().rstrip(".")
