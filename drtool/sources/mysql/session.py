"""One connection to a MySQL or MariaDB server, statement by statement.

Invariants
    A statement that fails is an answer, not the end of the connection. Of what the client prints about it, only the server's
    error line is kept: the statement itself may hold rows.
"""

import os
import re
import secrets as tokens
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from drtool.sources import children
from drtool.sources.mysql.client import PLAIN, Client, cells

_ERROR = re.compile(r"^ERROR (\d+) \(\w+\)[^:]*: (.*)$", re.MULTILINE)
_LAST_WORDS_S = 0.2


class Failure(NamedTuple):
    """A statement that failed: the server's number and message."""

    code: int
    message: str


class Session:
    """A client program that is asked again and again."""

    def __init__(self, child: "subprocess.Popen[bytes]", client: Client) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        self._child, self._client = child, client
        self._in, self._out, self._errors = child.stdin, child.stdout.fileno(), child.stderr.fileno()
        os.set_blocking(self._errors, False)

    def attempt(self, sql: str) -> Failure | list[list[str]]:
        """Return the rows of a statement; select no NULL. Raises ProgramFailed if the connection ends."""
        mark = tokens.token_hex(16)
        with suppress(BrokenPipeError):  # said below, with what the client complained of
            self._in.write(f"{sql};\nSELECT '{mark}';\n".encode("utf-8", "surrogateescape"))
        text = self._until(f"{mark}\n".encode())
        complaint = self._complaint()
        found = _ERROR.search(complaint)
        if found is not None:
            return Failure(int(found[1]), children.redacted(found[2], self._client.secrets))
        return cells(text)

    def ask(self, sql: str) -> list[list[str]]:
        """Return the rows of a statement. Raises ProgramFailed."""
        found = self.attempt(sql)
        if isinstance(found, Failure):
            raise children.ProgramFailed(f"the server at {self._client.told}: ERROR {found.code}: {found.message}")
        return found

    def _until(self, end: bytes) -> bytes:
        """What is printed before `end`."""
        text = children.read_until(self._out, end, self._client.watch)
        if text is None:
            why = self._last_words() or "the connection ended"
            raise children.ProgramFailed(f"the server at {self._client.told}: {why}")
        return text

    def _complaint(self) -> str:
        """What the client has printed on stderr since it was read last."""
        text = b""
        with suppress(BlockingIOError):
            while got := os.read(self._errors, 1 << 16):
                text += got
        return text.decode("utf-8", "replace")

    def _last_words(self) -> str:
        ends_at = time.monotonic() + _LAST_WORDS_S
        text = self._complaint()
        while not text and time.monotonic() < ends_at:
            select.select([self._errors], [], [], _LAST_WORDS_S)
            text = self._complaint()
        found = _ERROR.search(text)
        return children.redacted(f"ERROR {found[1]}: {found[2]}" if found else "", self._client.secrets)


@contextmanager
def connected(client: Client) -> Iterator[Session]:
    """A connection that lasts. Raises ProgramFailed if there is none."""
    words = client.words("", "--batch", "--skip-column-names", "--unbuffered", "--force", "--connect-timeout=15")
    child = children.started(words, client.environ, stdin=subprocess.PIPE)
    try:
        session = Session(child, client)
        session.attempt(PLAIN)
        yield session
    finally:
        if child.stdin is not None:
            with suppress(OSError):
                child.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            child.wait(1)
        children.kill_group(child)
