"""Options of `backup` for streams: stdin, and the output of a command."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from drtool.errors import UsageError

if TYPE_CHECKING:
    from drtool.operations.backup import SourceJob

_DEFAULT_NAME = "stdin"


class Stdin(Struct, frozen=True, kw_only=True):
    """The options for streams, as given on the command line."""

    stdin: bool
    name: str | None
    command: bool

    def __bool__(self) -> bool:
        return self.stdin or self.command or self.name is not None


def stream_job(given: Stdin, words: Sequence[str], line: Sequence[str], sources: Sequence[str]) -> "SourceJob":
    """Return the job of a stream. Raise UsageError.

    `words` are the command line's positional arguments and `line` is all of it.
    """
    from drtool.operations.backup import SourceJob
    from drtool.sources.stream import CommandStream, InputStream

    if given.stdin and given.command:
        raise UsageError("--stdin and --stdin-command exclude each other", hint="leave one of them out")
    if not given.stdin and not given.command:
        raise UsageError("--stdin-name needs --stdin or --stdin-command", hint="add --stdin, or --stdin-command")
    if sources:
        raise UsageError(
            "a stream becomes a snapshot of its own, so --source cannot be combined with it",
            hint="leave out --source, or configure the stream as a source",
        )
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
            f"--stdin becomes a snapshot of its own, so {words[0]} cannot be combined with it", hint="run two backups"
        )


def command_of(words: Sequence[str], line: Sequence[str]) -> Sequence[str]:
    """Return the command after `--`. Nothing may be before it."""
    behind = line[line.index("--") + 1 :] if "--" in line else words
    if not behind:
        raise UsageError(
            "--stdin-command needs a command", hint="drtool backup --stdin-command -- pg_dump --format=custom orders"
        )
    if len(behind) != len(words):
        raise UsageError(
            f"--stdin-command becomes a snapshot of its own, so {words[0]} cannot be given before `--`",
            hint="put the whole command after `--`",
        )
    return behind
