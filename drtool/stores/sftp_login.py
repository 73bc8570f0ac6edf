"""Getting into an SSH server: where it is, whether it is the one that is meant, and with which key.

Invariants
    A server is spoken to only if known_hosts has its key; no line of ~/.ssh/config can switch that off.
    Nobody is ever asked for a password or a passphrase.

asyncssh is imported when the first server is reached: it takes a quarter of a second.
"""

import asyncio
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from msgspec import Struct

from drtool.errors import StoreError, TargetOffline, UsageError

if TYPE_CHECKING:
    from asyncssh import SFTPClient, SSHClientConnection

CONNECT_TIMEOUT_S = 10
LOGIN_TIMEOUT_S = 20
KEEPALIVE_S = 15
"""Three that are not answered end the connection."""
# AES-GCM first: with the processor's own instructions it is several times as fast as ChaCha20
_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts")
_FILES = "check `identity_file` and `known_hosts` in the configuration, and ~/.ssh/config"


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
    if parts.password is not None:
        raise UsageError(
            "a target URL must not hold a password", hint="use an SSH key: `identity_file`, or the agent's"
        )
    try:
        port = parts.port
    except ValueError:
        port = 0
    absent = not parts.hostname or not parts.path.strip("/")
    if parts.scheme != "sftp" or absent or port == 0 or parts.query or parts.fragment:
        raise UsageError(
            f"target URL {url!r} is not sftp://USER@HOST:PORT/PATH", hint="for example sftp://backup@nas/srv/drtool"
        )
    return SftpPlace(
        host=parts.hostname or "",
        path=os.path.normpath("/" + parts.path.strip("/")),
        user=parts.username,
        port=port,
        identity_file=identity_file,
        known_hosts=known_hosts,
    )


async def log_in(place: SftpPlace, where: str) -> "tuple[SSHClientConnection, SFTPClient]":
    """A connection and its SFTP session; a StoreError that says why there is none, which is then certain."""
    shown: list[str] = []
    connection: SSHClientConnection | None = None
    try:
        connection = await _connection(place, shown)
        client = await asyncio.wait_for(connection.start_sftp_client(path_errors="surrogateescape"), LOGIN_TIMEOUT_S)
    except BaseException as error:
        if connection is not None:
            connection.abort()
        if isinstance(error, Exception):
            raise _why_not(error, place, where, shown) from error
        raise
    return connection, client


async def _connection(place: SftpPlace, shown: list[str]) -> "SSHClientConnection":
    import asyncssh

    class Client(asyncssh.SSHClient):
        def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
            shown.append(key.get_fingerprint())  # asked about keys that are not known; what it was is told
            return False

    wanted: dict[str, Any] = {"username": place.user, "port": place.port}
    wanted |= {"client_keys": [place.identity_file] if place.identity_file else None}
    return await asyncssh.connect(
        place.host,
        **{key: value for key, value in wanted.items() if value is not None},
        client_factory=Client,
        known_hosts=_known_hosts(place),
        ignore_encrypted=True,  # an agent may have it; if not, `_why_not` says so
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


def _known_hosts(place: SftpPlace) -> list[str] | bytes:
    """Never what asyncssh makes of `UserKnownHostsFile none`: to trust everybody."""
    if place.known_hosts:
        return [place.known_hosts]
    return [path for name in _KNOWN_HOSTS if os.access(path := os.path.expanduser(name), os.R_OK)] or b""


def _why_not(error: Exception, place: SftpPlace, where: str, shown: list[str]) -> StoreError:
    """The error of ours that a failure to connect stands for."""
    import asyncssh

    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return _stranger(place, where, shown)
    if isinstance(error, asyncssh.PermissionDenied):
        return _not_let_in(place, where)
    if isinstance(error, FileNotFoundError | PermissionError) and error.filename:
        return StoreError(f"{where}: {os.fsdecode(error.filename)} cannot be read: {error.strerror}", hint=_FILES)
    if isinstance(error, asyncssh.ChannelOpenError):
        return StoreError(
            f"{where}: {place.server} lets this host in and offers no SFTP: {said(error)}",
            hint="its sshd_config needs a line: Subsystem sftp internal-sftp",
        )
    if isinstance(error, OSError | asyncssh.Error):
        return TargetOffline(
            f"{where}: {place.server} cannot be reached: {said(error)}",
            hint="check the network, the server and its port",
        )
    if isinstance(error, ValueError):  # a file of keys, of known hosts or of configuration
        return StoreError(f"{where}: what this host has for {place.server} cannot be used: {said(error)}", hint=_FILES)
    raise error


def _stranger(place: SftpPlace, where: str, shown: list[str]) -> StoreError:
    known = place.known_hosts or _KNOWN_HOSTS[0]
    port = f" -p {place.port}" if place.port else ""
    return StoreError(
        f"{where}: {place.server} shows a host key that {known} does not have for it"
        f"{f': {shown[-1]}' if shown else ''}",
        hint=f"if it is new: ssh-keyscan{port} {place.host} >> {known}, and compare the fingerprint by another way; "
        "if it is not new, somebody else may be answering in its stead",
    )


def _not_let_in(place: SftpPlace, where: str) -> StoreError:
    if place.identity_file and _is_locked(place.identity_file):
        return StoreError(
            f"{where}: the key {place.identity_file} has a passphrase, and no agent opened it",
            hint="a key with a passphrase works through an agent (SSH_AUTH_SOCK); for cron, use one without",
        )
    tried = (
        f"{place.identity_file} or the agent's keys" if place.identity_file else "the agent's keys or those in ~/.ssh"
    )
    return StoreError(
        f"{where}: {place.server} does not let this host in with {tried}",
        hint="put the public key into authorized_keys there, or name another: `identity_file`",
    )


def _is_locked(identity_file: str) -> bool:
    import asyncssh

    try:
        asyncssh.read_private_key(identity_file)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        return True
    return False


def said(error: Exception) -> str:
    """What an error of the network or of asyncssh says, without a full stop."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    reason = getattr(error, "reason", "") or (error.strerror if isinstance(error, OSError) else "")
    return (str(reason) or str(error) or type(error).__name__).strip().rstrip(".")
