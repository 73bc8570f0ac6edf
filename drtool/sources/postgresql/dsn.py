"""A DSN of PostgreSQL, as what libpq reads from the environment: in an argument it would stand in `ps`.

Invariants
    Of a DSN that cannot be understood nothing is repeated: it may hold a password.
"""

import re
from urllib.parse import parse_qsl, unquote, urlsplit

_PAIR = re.compile(r"\s*([a-z_]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))\s*", re.DOTALL)
_VARIABLES = {
    "service": "PGSERVICE",
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "passfile": "PGPASSFILE",
    "application_name": "PGAPPNAME",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "channel_binding": "PGCHANNELBINDING",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
    "gssencmode": "PGGSSENCMODE",
    "krbsrvname": "PGKRBSRVNAME",
    "requirepeer": "PGREQUIREPEER",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "options": "PGOPTIONS",
}
_HOW = "write host=/run/postgresql user=backup, service=NAME, or postgresql://USER@HOST/"


def dsn_environment(dsn: str) -> dict[str, str]:
    """Variables of libpq. Raises ValueError."""
    pairs = _of_uri(dsn) if "://" in dsn else _of_keywords(dsn)
    unknown = sorted(set(pairs) - set(_VARIABLES))
    if unknown:
        raise ValueError(f"the DSN sets {', '.join(unknown)}, which cannot be handed over without a command line")
    return {_VARIABLES[name]: value for name, value in pairs.items() if value}


def _of_uri(dsn: str) -> dict[str, str]:
    try:
        parts = urlsplit(dsn)
    except ValueError:
        raise ValueError(f"the DSN is no URL that can be understood; {_HOW}") from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError(f"the DSN is none of PostgreSQL; {_HOW}")
    login, _, places = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    hosts, ports = zip(*map(_place, places.split(",")), strict=True)
    pairs = {
        "host": ",".join(hosts),
        "port": ",".join(ports) if any(ports) else "",
        "user": unquote(user),
        "password": unquote(password),
        "dbname": unquote(parts.path.removeprefix("/")),
    }
    return {name: value for name, value in pairs.items() if value} | dict(
        parse_qsl(parts.query, keep_blank_values=True)
    )


def _place(text: str) -> tuple[str, str]:
    """Host and port; an IPv6 address stands in brackets."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.removeprefix(":")
    host, _, port = text.partition(":")
    return unquote(host), port


def _of_keywords(dsn: str) -> dict[str, str]:
    pairs, at = {}, 0
    while at < len(dsn):
        match = _PAIR.match(dsn, at)
        if match is None or match.end() == at:
            raise ValueError(f"the DSN is none of PostgreSQL; {_HOW}")
        value = match[3] if match[2] is None else match[2]
        pairs[match[1]] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        at = match.end()
    return pairs


def of_database(name: str) -> str:
    """What `--dbname=` takes to mean exactly this database, whatever is in its name, and whatever a service file says."""
    return "dbname='" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"
