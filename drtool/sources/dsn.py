"""The parts of a database's URL, read as libpq reads them.

Invariants
    A password may hold any character but `/` and `@`, which are written `%2F` and `%40`. A `+` is a plus sign.
    No error repeats any part of a DSN: each part may hold a piece of a password.
"""

import re
from typing import NamedTuple
from urllib.parse import unquote

_PLACE = re.compile(r"(?:\[([^\]\[]*)\]|([^:\[\]]*))(?::([0-9]*))?")
PORT_MAX = 65535


class Url(NamedTuple):
    """Decoded parts. Hosts and ports of several servers are joined by commas."""

    scheme: str
    user: str
    password: str
    host: str
    port: str
    path: str
    """What stands between the host and `?`, with its leading slash."""
    query: dict[str, str]


def parse_url(dsn: str) -> Url:
    """Split `scheme://user:password@host:port/path?name=value`. Raises ValueError, which repeats nothing of it."""
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
    """(user and password, what follows): they end at the last `@` before the first `/`."""
    login, at, _ = rest.partition("/")[0].rpartition("@")
    return login, rest[len(login) + len(at) :]


def _place(text: str) -> tuple[str, str]:
    """(host, port); an IPv6 address stands in brackets."""
    match = _PLACE.fullmatch(text)
    if match is None or int(match[3] or 0) > PORT_MAX:
        raise ValueError("the host or port of the DSN cannot be understood: write / and @ in a password as %2F and %40")
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
    """Name the parameters that can be named without repeating a part of a password; empty if there are none."""
    return ", ".join(sorted(names & known)) or ("a parameter that is not known" if names else "")
