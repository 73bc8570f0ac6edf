"""A DSN of PostgreSQL, as what libpq reads from the environment: in an argument it would stand in `ps`.

Invariants
    Of a DSN that cannot be understood nothing is repeated: it may hold a password.
"""

import re
from collections.abc import Mapping

from drtool.sources.dsn import parse_url, unknown_names

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
    "sslcrldir": "PGSSLCRLDIR",
    "sslsni": "PGSSLSNI",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "require_auth": "PGREQUIREAUTH",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
    "gssencmode": "PGGSSENCMODE",
    "krbsrvname": "PGKRBSRVNAME",
    "requirepeer": "PGREQUIREPEER",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "options": "PGOPTIONS",
}
_REFUSED = frozenset(
    [
        "client_encoding",
        "fallback_application_name",
        "gssdelegation",
        "gsslib",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "replication",
        "sslcertmode",
        "sslcompression",
        "sslnegotiation",
        "sslpassword",
        "tcp_user_timeout",
    ]
)
"""Parameters of libpq that are named when they are refused. Any other word may be a piece of a password."""
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_HOW = "write host=/run/postgresql user=backup, service=NAME, or postgresql://USER@HOST/"


def dsn_environment(dsn: str) -> dict[str, str]:
    """Variables of libpq. Raises ValueError."""
    pairs = _of_uri(dsn) if "://" in dsn else _of_keywords(dsn)
    if unknown := unknown_names(set(pairs) - set(_VARIABLES), _REFUSED):
        raise ValueError(f"the DSN sets {unknown}: only what libpq reads from its environment can be set")
    return {_VARIABLES[name]: value for name, value in pairs.items() if value}


def is_local(dsn: str, environ: Mapping[str, str]) -> bool:
    """Whether a DSN leads to a socket of this host, where the server may go by who asks."""
    given = dsn_environment(dsn)
    host = given.get("PGHOST", environ.get("PGHOST", ""))
    return "PGSERVICE" not in given and all(part == "" or part.startswith(("/", "@")) for part in host.split(","))


def _of_uri(dsn: str) -> dict[str, str]:
    if not dsn.startswith(("postgresql://", "postgres://")):
        raise ValueError(f"the DSN is none of PostgreSQL; {_HOW}")
    if _BAD_PERCENT.search(dsn):
        raise ValueError("the DSN has a % that begins no encoded character: write it as %25")
    url = parse_url(dsn)
    given = {"host": url.host, "port": url.port, "user": url.user, "password": url.password}
    given["dbname"] = url.path.removeprefix("/")
    query = dict(url.query)
    if query.pop("ssl", None) == "true":  # as of JDBC, which libpq understands in a URI
        query["sslmode"] = "require"
    return {name: value for name, value in given.items() if value} | query


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
