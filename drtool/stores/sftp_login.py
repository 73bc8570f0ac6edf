"""Getting into an SSH server: where it is, whether it is the one that is meant, and with which key.

Invariants
    A server is spoken to only if known_hosts has its key; no line of ~/.ssh/config can switch that off.
    Nobody is ever asked for a password or a passphrase.
    Where a key is named, no other is offered: servers count the keys that they refuse.
    Getting in takes `GETTING_IN_S` at most, from the first packet to a working SFTP session.

asyncssh is imported when the first server is reached: it takes a quarter of a second.
"""

import asyncio
import base64
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from msgspec import Struct

from drtool.errors import StoreError, TargetOffline, UsageError

if TYPE_CHECKING:
    from asyncssh import SFTPClient, SSHClientConnection

GETTING_IN_S = 10.0
"""Less than those who open a place wait for it (12 s): so that they hear why."""
ALIVE_S = 8.0
KEEPALIVE_S = 15
"""Three that are not answered end the connection."""
# AES-GCM first: with the processor's own instructions it is several times as fast as ChaCha20
_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
_OPENSSH_KEY = b"openssh-key-v1\0"
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
    bound = asyncio.timeout(GETTING_IN_S)
    try:
        async with bound:
            connection = await _connection(place, shown)
            client = await connection.start_sftp_client(path_errors="surrogateescape")
    except BaseException as error:
        if connection is not None:
            connection.abort()
        if isinstance(error, TimeoutError) and bound.expired():
            raise TargetOffline(
                f"{where}: {place.server} did not let this host in within {GETTING_IN_S:g} s",
                hint="check the network, and that an SSH server answers on that port",
            ) from error
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
    if place.identity_file:
        wanted |= {"client_keys": [place.identity_file], "agent_identities": [public_part(place.identity_file)]}
    return await asyncssh.connect(
        place.host,
        **{key: value for key, value in wanted.items() if value is not None},
        client_factory=Client,
        known_hosts=_known_hosts(place),
        ignore_encrypted=True,  # an agent may have it; if not, `_why_not` says so
        login_timeout=0,  # `log_in` has one bound for all of it
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
    return [path for name in _KNOWN_HOSTS if _exists(path := os.path.expanduser(name))] or b""


def _exists(path: str) -> bool:
    """Absent is fine; what is there and cannot be read is an error that names it, when it is read."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def public_part(identity_file: str) -> bytes:
    """The public key of a private one, also of one with a passphrase: its agent is asked for this key alone."""
    import asyncssh

    path = os.path.expanduser(identity_file)
    try:
        return asyncssh.read_private_key(path).public_data
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        with open(path, "rb") as file:
            public = _public_of_locked(file.read())
        if public is not None:
            return public
        try:
            return asyncssh.read_public_key(f"{path}.pub").public_data
        except (OSError, asyncssh.KeyImportError):
            raise error from None


def _public_of_locked(text: bytes) -> bytes | None:
    """OpenSSH's own form has the public key in the clear, behind the names of the cipher and of the key's derivation."""
    try:
        data = base64.b64decode(b"".join(line for line in text.splitlines() if not line.startswith(b"-----")))
        if not data.startswith(_OPENSSH_KEY):
            return None
        at = len(_OPENSSH_KEY)
        for _ in range(3):
            at += 4 + int.from_bytes(data[at : at + 4])
        at += 4  # how many keys: one
        return data[at + 4 : at + 4 + int.from_bytes(data[at : at + 4])]
    except ValueError:
        return None


def _why_not(error: Exception, place: SftpPlace, where: str, shown: list[str]) -> StoreError:
    """The error of ours that a failure to connect stands for."""
    import asyncssh

    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return _stranger(place, where, shown)
    if isinstance(error, asyncssh.PermissionDenied):
        return _not_let_in(place, where)
    if isinstance(error, OSError) and error.filename:
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
    return TargetOffline(
        f"{where}: {place.server} does not answer as an SSH server ({type(error).__name__}: {said(error)})",
        hint="check the address and the port",
    )


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
    tried = f"the key {place.identity_file}" if place.identity_file else "the agent's keys or those in ~/.ssh"
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
