"""redis-cli, connected to one server.

Invariants
    A password goes only through the environment, and is removed from every message.
    An invalid DSN is never repeated, because it may contain a password.
"""

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager

from drtool.errors import DrtoolError
from drtool.sources import children
from drtool.sources.databases import Watch, nobody_watches
from drtool.sources.dsn import Url, parse_url

_HOW = "write redis://HOST:PORT, rediss://… for TLS, or unix:///PATH"
_KEYS = re.compile(r"^(db\d+):keys=(\d+)", re.MULTILINE)
_VERSION = re.compile(r"^redis_version:(\S+)", re.MULTILINE)


class Client:
    """A client of one server."""

    def __init__(self, dsn: str, environ: Mapping[str, str], *, watch: Watch = nobody_watches) -> None:
        """Raise ValueError for an invalid DSN."""
        self._options, password = connection_options(dsn)
        self.environ = {**environ, **({"REDISCLI_AUTH": password} if password else {})}
        self.secrets = tuple(filter(None, (self.environ.get("REDISCLI_AUTH"),)))
        self.watch = watch
        self.told = "the local server" if not dsn else self._options[1]

    def words(self, *more: str) -> list[str]:
        return ["redis-cli", "--no-auth-warning", *self._options, *more]

    def ask(self, *words: str) -> str:
        """Return a command's answer. Raises DrtoolError if the server is unreachable, or answers with an error."""
        try:
            argv = self.words("-e", *words)
            text = children.run(argv, self.environ, secrets=self.secrets, watch=self.watch)
        except DrtoolError as error:
            raise DrtoolError(
                f"Redis at {self.told}: {error.message}", hint=error.hint or "check that it is up, and the source's dsn"
            ) from None
        answer = text.decode("utf-8", "replace").replace("\r", "")
        if answer.startswith(("NOAUTH", "ERR ", "NOPERM", "WRONGPASS", "LOADING", "AUTH failed")):
            raise DrtoolError(f"Redis at {self.told}: {children.redacted(answer.strip(), self.secrets)}")
        return answer

    def piped(self) -> AbstractContextManager[children.Output]:
        """Return all data, as the server sends it to a replica."""
        return children.piped(self.words("--rdb", "-"), self.environ, secrets=self.secrets)

    def version(self) -> str:
        found = _VERSION.search(self.ask("INFO", "server"))
        if found is None:
            raise DrtoolError(f"the server at {self.told} does not report its version; is it Redis?")
        return found[1]

    def keys(self) -> dict[str, int | None]:
        """Return the number of keys of each database that has any."""
        return {name: int(count) for name, count in _KEYS.findall(self.ask("INFO", "keyspace"))}


def connection_options(dsn: str) -> tuple[list[str], str]:
    """Return (options of redis-cli, password). Raises ValueError."""
    if not dsn:
        return [], ""
    url = parse_url(dsn)
    if url.scheme == "unix" and not url.host and url.path:
        return ["-s", url.path, *_user(url)], url.password
    if url.scheme not in ("redis", "rediss") or not url.host or url.query or url.path not in ("", "/"):
        raise ValueError(f"the DSN is not one for Redis; {_HOW}")
    options = ["-h", url.host, *(["-p", url.port] if url.port else []), *(["--tls"] if url.scheme == "rediss" else [])]
    return [*options, *_user(url)], url.password


def _user(url: Url) -> list[str]:
    return ["--user", url.user] if url.user else []
