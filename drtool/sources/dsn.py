"""The parts of a database URL, read as by libpq.

Invariants
    A password may contain any character except `/` and `@`, which are written `%2F` and `%40`. A `+` is a plus sign.
    No error repeats any part of a DSN, because each part may contain a piece of a password.
"""

import re
from typing import NamedTuple
from urllib.parse import unquote

_PLACE = re.compile(r"(?:\[([^\]\[]*)\]|([^:\[\]]*))(?::([0-9]*))?")
PORT_MAX = 65535


class Url(NamedTuple):
    """The decoded parts. Hosts and ports of several servers are joined by commas."""

    scheme: str
    user: str
    password: str
    host: str
    port: str
    path: str
    """The part between the host and `?`, with its leading slash."""
    query: dict[str, str]


def parse_url(dsn: str) -> Url:
    """Split `scheme://user:password@host:port/path?name=value`. Raises ValueError, which does not repeat any of it."""
    scheme, _, rest = dsn.partition("://")
    login, rest = _login(rest)
    places, path, query = re.fullmatch(r"([^/?]*)([^?]*)(?:\?(.*))?", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    user, _, password = login.partition(":")
    found = [_place(place) for place in places.split(",")]
    ports = [port for _, port in found]
    return Url(
        scheme.lower(),
        unquote(user),
        unquote(password),
        ",".join(host for host, _ in found),
        ",".join(ports) if any(ports) else "",
        unquote(path),
        _pairs(query or ""),
    )


def _login(rest: str) -> tuple[str, str]:
    """Return (user and password, the rest). They end at the last `@` before the first `/`."""
    login, at, _ = rest.partition("/")[0].rpartition("@")
    return login, rest[len(login) + len(at) :]


def _place(text: str) -> tuple[str, str]:
    """Return (host, port). An IPv6 address is in brackets."""
    match = _PLACE.fullmatch(text)
    if match is None or int(match[3] or 0) > PORT_MAX:
        raise ValueError("the host or port of the DSN is invalid; write / and @ in a password as %2F and %40")
    return unquote(match[1] or match[2] or ""), match[3] or ""


def _pairs(query: str) -> dict[str, str]:
    pairs = {}
    for part in query.split("&") if query else ():
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise ValueError("the parameters after ? in the DSN are not all NAME=VALUE")
        pairs[unquote(name)] = unquote(value)
    return pairs


def unknown_names(names: set[str], known: frozenset[str]) -> str:
    """Name the parameters that can be named without repeating a part of a password, or return an empty string."""
    return ", ".join(sorted(names & known)) or ("an unknown parameter" if names else "")
