"""Channels: notification of people, as configured in drtool.yaml under `notify: channels:`.

Invariants
    Sending is bounded in time. A failure never ends a run; it is returned as text.
    A message goes over stdin or in the body of a request, never in the arguments of a command.
    A header or password read from a file is a secret: it is sent over verified TLS only, or to this host itself.
"""

import os
import shutil
import socket
import time
from pathlib import Path

import msgspec

from drtool.config import nearest
from drtool.config.schema import ChannelConfig, EmailConfig, HeaderFile, NotifyConfig
from drtool.errors import DrtoolError
from drtool.escaping import printable_lines
from drtool.plans.actions.programs import run_program
from drtool.plans.bounded import bounded
from drtool.plans.web import is_this_host, origin, request

TIMEOUT_S = 15.0
_HEADER_BYTES = 16 << 10


class Channels:
    """An implementation of `RunContext.tell` and `RunContext.can_tell`."""

    def __init__(self, config: NotifyConfig, timeout_s: float = TIMEOUT_S) -> None:
        self._channels, self._timeout_s = config.channels, timeout_s

    def can_tell(self, channel: str) -> str:
        """Return why a channel cannot be used, or an empty string. Nothing is sent."""
        try:
            found = self._channel(channel)
            if found.command:
                return _cannot_start(found.command[0])
            _headers(found)
            if found.email is not None and found.email.password_file is not None:
                _secret(found.email.password_file)
        except DrtoolError as error:
            return error.message
        return ""

    def tell(self, channel: str, event: str, message: str) -> str:
        """Send a message. Return why it could not be sent, or an empty string."""
        shown = printable_lines(message)
        body = msgspec.json.encode(
            {"channel": channel, "event": event, "message": shown, "text": shown, "host": socket.gethostname()}
        )
        try:
            found = self._channel(channel)
            ends_at = time.monotonic() + self._timeout_s
            if found.email is not None:
                return _email(found.email, shown, ends_at)
            return _command(found, body, ends_at) if found.command else _webhook(found, body, ends_at)
        except DrtoolError as error:
            return error.message

    def _channel(self, name: str) -> ChannelConfig:
        if name not in self._channels:
            known = nearest(name, self._channels) or "; drtool.yaml defines none under notify: channels:"
            raise DrtoolError(f"there is no channel {name!r}{known}")
        return self._channels[name]


def _cannot_start(program: str) -> str:
    return "" if shutil.which(program) else f"there is no program {program}"


def _command(channel: ChannelConfig, body: bytes, ends_at: float) -> str:
    result = run_program(channel.command, ends_at=ends_at, stdin=body + b"\n")
    if result.ended_by != "itself":
        return f"{channel.command[0]} did not end in time"
    last = result.stderr.strip().splitlines()[-1:] or [""]
    return f"{channel.command[0]} ended with {result.exit_code} {last[0]}".rstrip() if result.exit_code else ""


def _webhook(channel: ChannelConfig, body: bytes, ends_at: float) -> str:
    assert channel.webhook is not None
    url, headers = channel.webhook, {"Content-Type": "application/json"} | _headers(channel)
    reply = bounded(lambda: request("POST", url, headers=headers, body=body, ends_at=ends_at), ends_at)
    return "" if 200 <= reply.status < 300 else f"{_place(url)} answered with status {reply.status}"


def _email(mail: EmailConfig, text: str, ends_at: float) -> str:
    from drtool.plans.mail import send

    host = socket.gethostname()
    subject = f"drtool on {host}: {text}"
    bounded(
        lambda: send(mail, subject, text, password=lambda: _secret(mail.password_file or ""), ends_at=ends_at), ends_at
    )
    return ""


def _place(url: str) -> str:
    """Return a URL without its path, because the path of a webhook may be a secret."""
    scheme, host, port = origin(url)
    return f"{scheme}://{host}:{port}"


def _headers(channel: ChannelConfig) -> dict[str, str]:
    if channel.webhook is None:
        return {}
    scheme, host, _ = origin(channel.webhook)
    secret = any(isinstance(value, HeaderFile) for value in channel.headers.values())
    if secret and scheme != "https" and not is_this_host(host):
        raise DrtoolError(f"a header from a file is not sent without TLS to {host}", hint="use https")
    return {name: value if isinstance(value, str) else _secret(value.file) for name, value in channel.headers.items()}


def _secret(file: str) -> str:
    path = Path(file)
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_mode & 0o077:
                raise DrtoolError(f"{path} is readable by others", hint=f"chmod 600 {path}")
            value = stream.read(_HEADER_BYTES).decode("latin-1").strip()
    except OSError as error:
        raise DrtoolError(f"{path} cannot be read: {error.strerror}") from None
    if not value or "\n" in value:
        raise DrtoolError(f"{path} must contain exactly one line")
    return value
