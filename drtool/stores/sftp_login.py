"""Logging in to an SSH server: its address, the check of its host key, and our key.

Invariants
    A server is used only if known_hosts has its key. No line of ~/.ssh/config can disable that.
    The user is never prompted for a password or a passphrase.
    If a key is named, no other is offered, because servers count the keys that they refuse.
    Logging in takes at most `GETTING_IN_S`, from the first packet to a working SFTP session.

asyncssh is imported when the first server is contacted, because that takes a quarter of a second.
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
"""Less than the 12 s that callers wait for the opening of a target, so that they get the reason."""
ALIVE_S = 8.0
KEEPALIVE_S = 15
"""Three unanswered ones end the connection."""
# AES-GCM first, because with the processor's instructions it is several times as fast as ChaCha20
_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
_OPENSSH_KEY = b"openssh-key-v1\0"
_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts")
_FILES = "check `identity_file` and `known_hosts` in the configuration, and ~/.ssh/config"


class SftpPlace(Struct, frozen=True, kw_only=True):
    """A directory at an SSH server, and this host's access. None is left to ~/.ssh/config, then to SSH's defaults."""

    host: str
    path: str
    user: str | None = None
    port: int | None = None
    identity_file: str | None = None
    known_hosts: str | None = None

    @property
    def server(self) -> str:
        """The server as users write it."""
        who = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{who}{host}{f':{self.port}' if self.port else ''}"


def sftp_place(url: str, *, identity_file: str | None = None, known_hosts: str | None = None) -> SftpPlace:
    """Parse `sftp://user@host:port/path`, without percent-encoding. Raises UsageError for an invalid URL."""
    parts = urlsplit(url)
    if parts.password is not None:
        raise UsageError(
            "a target URL must not contain a password", hint="use an SSH key: `identity_file`, or the agent's"
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
    """Return a connection and its SFTP session. Raises StoreError with the reason; the request was then certainly not sent."""
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
                f"{where}: {place.server} did not complete the login within {GETTING_IN_S:g} s",
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
            shown.append(key.get_fingerprint())  # called for unknown keys; the message shows the fingerprint
            return False

    wanted: dict[str, Any] = {"username": place.user, "port": place.port}
    if place.identity_file:
        wanted |= {"client_keys": [place.identity_file], "agent_identities": [public_part(place.identity_file)]}
    return await asyncssh.connect(
        place.host,
        **{key: value for key, value in wanted.items() if value is not None},
        client_factory=Client,
        known_hosts=_known_hosts(place),
        ignore_encrypted=True,  # an agent may have it; otherwise `_why_not` reports it
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
    """Return the known_hosts files. asyncssh would read `UserKnownHostsFile none` as trusting every server."""
    if place.known_hosts:
        return [place.known_hosts]
    return [path for name in _KNOWN_HOSTS if _exists(path := os.path.expanduser(name))] or b""


def _exists(path: str) -> bool:
    """Return whether a file exists. One that exists but is unreadable raises an error when it is read."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def public_part(identity_file: str) -> bytes:
    """Return the public key of a private one, even with a passphrase, so that its agent is asked for this key alone."""
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
    """Return the public key of OpenSSH's own format, which follows the names of the cipher and of the key derivation."""
    try:
        data = base64.b64decode(b"".join(line for line in text.splitlines() if not line.startswith(b"-----")))
        if not data.startswith(_OPENSSH_KEY):
            return None
        at = len(_OPENSSH_KEY)
        for _ in range(3):
            at += 4 + int.from_bytes(data[at : at + 4])
        at += 4  # the number of keys, which is one
        return data[at + 4 : at + 4 + int.from_bytes(data[at : at + 4])]
    except ValueError:
        return None


def _why_not(error: Exception, place: SftpPlace, where: str, shown: list[str]) -> StoreError:
    """Return our error for a failure to connect."""
    import asyncssh

    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return _stranger(place, where, shown)
    if isinstance(error, asyncssh.PermissionDenied):
        return _not_let_in(place, where)
    if isinstance(error, OSError) and error.filename:
        return StoreError(f"{where}: {os.fsdecode(error.filename)} cannot be read: {error.strerror}", hint=_FILES)
    if isinstance(error, asyncssh.ChannelOpenError):
        return StoreError(
            f"{where}: {place.server} accepts the login, but offers no SFTP: {said(error)}",
            hint="its sshd_config needs a line: Subsystem sftp internal-sftp",
        )
    if isinstance(error, OSError | asyncssh.Error):
        return TargetOffline(
            f"{where}: {place.server} cannot be reached: {said(error)}",
            hint="check the network, the server and its port",
        )
    if isinstance(error, ValueError):  # an invalid file of keys, known hosts or configuration
        return StoreError(
            f"{where}: the keys or configuration for {place.server} cannot be used: {said(error)}", hint=_FILES
        )
    return TargetOffline(
        f"{where}: {place.server} does not answer as an SSH server ({type(error).__name__}: {said(error)})",
        hint="check the address and the port",
    )


def _stranger(place: SftpPlace, where: str, shown: list[str]) -> StoreError:
    known = place.known_hosts or _KNOWN_HOSTS[0]
    port = f" -p {place.port}" if place.port else ""
    return StoreError(
        f"{where}: {place.server} has a host key that is not in {known}{f': {shown[-1]}' if shown else ''}",
        hint=f"if it is new: ssh-keyscan{port} {place.host} >> {known}, and compare the fingerprint over another channel; "
        "if it is not new, another machine may be answering",
    )


def _not_let_in(place: SftpPlace, where: str) -> StoreError:
    if place.identity_file and _is_locked(place.identity_file):
        return StoreError(
            f"{where}: the key {place.identity_file} has a passphrase, and no agent has it",
            hint="a key with a passphrase works through an agent (SSH_AUTH_SOCK); for cron, use one without",
        )
    tried = f"the key {place.identity_file}" if place.identity_file else "the agent's keys or those in ~/.ssh"
    return StoreError(
        f"{where}: {place.server} does not accept {tried}",
        hint="put the public key into authorized_keys there, or set another key in `identity_file`",
    )


def _is_locked(identity_file: str) -> bool:
    import asyncssh

    try:
        asyncssh.read_private_key(identity_file)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        return True
    return False


def said(error: Exception) -> str:
    """Return the message of an error of the network or of asyncssh, without a full stop."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    reason = getattr(error, "reason", "") or (error.strerror if isinstance(error, OSError) else "")
    return (str(reason) or str(error) or type(error).__name__).strip().rstrip(".")
