"""HTTP for probes and channels: verified TLS, few redirects, bounded bodies, a deadline.

Invariants
    Certificates are always verified against the host's authorities. A redirect from https to http is not followed.
    Headers, which may contain secrets, are sent only to the origin that the plan names.
    Only the origin of a redirect's URL is shown, because its path and query may contain a secret.
    At most `BODY_BYTES` of a body are read.
"""

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Mapping
from urllib.parse import SplitResult, urljoin, urlsplit

from msgspec import Struct

from drtool import __version__
from drtool.errors import DrtoolError

BODY_BYTES = 1 << 20
REDIRECTS = 5
_MOVED = frozenset({301, 302, 303, 307, 308})
_PART = 1 << 16


class WebReply(Struct, frozen=True, kw_only=True):
    status: int
    body: bytes
    truncated: bool
    """Whether the body was longer than the part that was read."""
    url: str
    """The URL that answered, as shown to users. After a redirect, only its origin."""


def request(
    method: str,
    url: str,
    *,
    ends_at: float,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    wanted_status: int | None = None,
) -> WebReply:
    """Send a request and follow redirects, unless `wanted_status` is a redirect status. Raises DrtoolError if it fails."""
    first, shown = origin(url), url
    for _ in range(REDIRECTS + 1):
        sent = dict(headers or {}) if origin(url, shown) == first else {}
        reply, location = _once(method, (url, shown), sent, body, ends_at)
        if reply.status not in _MOVED or reply.status == wanted_status or not location or body is not None:
            return reply
        target = _target_of(url, location, shown)
        if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
            raise DrtoolError(f"{shown} redirects from https to {urlsplit(target).scheme or 'nowhere'}: not followed")
        url, shown = target, _place(target)
    raise DrtoolError(f"{shown}: more than {REDIRECTS} redirects")


def _target_of(url: str, location: str, shown: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise DrtoolError(f"{shown} redirects to an invalid URL") from None


def _place(url: str) -> str:
    """Return the origin of a URL that came from a server."""
    try:
        scheme, host, port = origin(url, "the URL of a redirect")
    except DrtoolError:
        return "the URL of a redirect"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/… (redirected)"


def origin(url: str, shown: str | None = None) -> tuple[str, str, int]:
    """Return (scheme, host, port) of an http or https URL. Raises DrtoolError, which shows the URL as `shown`."""
    shown = url if shown is None else shown
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise DrtoolError(f"{shown} is not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DrtoolError(f"{shown} is not an http or https URL")
    if parts.username is not None or parts.password is not None:
        raise DrtoolError(f"{parts.hostname}: a URL must not contain a user or a password", hint="put it into a header")
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        raise DrtoolError(f"{shown!r}: a URL must not contain blanks or control characters")
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80)


def _once(
    method: str, where: tuple[str, str], headers: Mapping[str, str], body: bytes | None, ends_at: float
) -> tuple[WebReply, str | None]:
    """Send one request. `where` is the URL, and the URL as shown."""
    url, shown = where
    scheme, host, port = origin(url, shown)
    timeout_s = max(0.05, ends_at - time.monotonic())
    connection = (
        http.client.HTTPSConnection(host, port, timeout=timeout_s, context=ssl.create_default_context())
        if scheme == "https"
        else http.client.HTTPConnection(host, port, timeout=timeout_s)
    )
    own = {"User-Agent": f"drtool/{__version__}", "Connection": "close", "Accept-Encoding": "identity"}
    try:
        connection.request(method, _target(urlsplit(url)), body=body, headers=own | dict(headers))
        with connection.getresponse() as answer:  # closes the socket of a response that is not read to its end
            data, truncated = _body(answer, ends_at)
            reply = WebReply(status=answer.status, body=data, truncated=truncated, url=shown)
            return reply, answer.getheader("Location")
    except (OSError, http.client.HTTPException, ValueError, UnicodeError) as error:
        raise DrtoolError(f"{shown}: {told(error)}") from None
    finally:
        connection.close()


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _body(answer: http.client.HTTPResponse, ends_at: float) -> tuple[bytes, bool]:
    kept = bytearray()
    while len(kept) <= BODY_BYTES:
        if time.monotonic() > ends_at:
            raise TimeoutError
        part = answer.read1(_PART)
        if not part:
            return bytes(kept), False
        kept += part
    return bytes(kept[:BODY_BYTES]), True


def told(error: Exception) -> str:
    """Return the reason of a failed request in a few words."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"the certificate cannot be verified: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or error}"
        case socket.gaierror():
            return f"the name cannot be resolved: {error.strerror}"
        case TimeoutError():
            return "no answer in time"
        case ConnectionRefusedError():
            return "the connection was refused"
        case http.client.HTTPException():
            return f"not an HTTP response: {type(error).__name__}: {error}"
        case OSError():
            return error.strerror or str(error)
        case _:
            return str(error)


def is_this_host(host: str) -> bool:
    """Return whether a host name or address is that of this machine, so that nothing leaves it."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
