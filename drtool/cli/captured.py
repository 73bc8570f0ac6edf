"""What `backup` takes besides paths: what comes in on stdin, what a command prints, and the configured sources of other kinds."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from drtool.errors import UsageError

if TYPE_CHECKING:
    from drtool.operations.backup import SourceJob

_PASSWORDS = ("DRTOOL_PASSWORD", "DRTOOL_PASSWORD_FILE", "DRTOOL_PASSWORD_COMMAND")
_DEFAULT_NAME = "stdin"


class Stdin(Struct, frozen=True, kw_only=True):
    """The options for streams, as they were given."""

    stdin: bool
    name: str | None
    command: bool

    def __bool__(self) -> bool:
        return self.stdin or self.command or self.name is not None


def stream_job(given: Stdin, words: Sequence[str], line: Sequence[str], sources: Sequence[str]) -> "SourceJob":
    """The one job of a stream; `words` are the command line's arguments, `line` all of it. Raises UsageError."""
    from drtool.operations.backup import SourceJob
    from drtool.sources.stream import CommandStream, InputStream

    if given.stdin and given.command:
        raise UsageError("--stdin and --stdin-command exclude each other", hint="leave one of them out")
    if not given.stdin and not given.command:
        raise UsageError("--stdin-name names a stream, and there is none", hint="add --stdin, or --stdin-command")
    if sources:
        raise UsageError("a stream is a snapshot of its own", hint="leave --source out, or configure it as a source")
    name = _DEFAULT_NAME if given.name is None else given.name
    try:
        if given.stdin:
            _check_no_paths(words)
            return SourceJob(name="", captured=InputStream(name, 0))
        return SourceJob(name="", captured=CommandStream(name, command_of(words, line)))
    except ValueError as error:
        raise UsageError(f"--stdin-name {name!r}: {error}") from None


def _check_no_paths(words: Sequence[str]) -> None:
    if words:
        raise UsageError(
            f"--stdin is a snapshot of its own, and {words[0]} is named beside it", hint="make two backups of it"
        )


def command_of(words: Sequence[str], line: Sequence[str]) -> Sequence[str]:
    """The command: what stands behind `--`, and nothing before it."""
    behind = line[line.index("--") + 1 :] if "--" in line else words
    if not behind:
        raise UsageError(
            "--stdin-command needs a command", hint="drtool backup --stdin-command -- pg_dump --format=custom orders"
        )
    if len(behind) != len(words):
        raise UsageError(
            f"--stdin-command is a snapshot of its own, and {words[0]} is named before `--`",
            hint="put the whole command behind `--`",
        )
    return behind


def inherited(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What programs that a source runs inherit: everything but the way to the repository's password."""
    return {name: value for name, value in environ.items() if name not in _PASSWORDS}
