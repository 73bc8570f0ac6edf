"""The man page, generated from the commands: `python -m drtool.cli.manual >docs/drtool.1`."""

import sys
from collections.abc import Iterator
from textwrap import wrap
from typing import Any, cast

from drtool import __version__
from drtool.cli.core.app import build
from drtool.cli.core.call import Call
from drtool.cli.core.parser import Command, command
from drtool.cli.core.registry import COMMANDS, Path
from drtool.errors import EXIT_MEANINGS

_DESCRIPTION = """\
drtool backs up files, databases and the operating system's state. It splits them into chunks, compresses and encrypts the chunks,
and stores them in directories, S3 buckets and SSH servers at several sites, so that any one site may be lost. Paxos keeps the
catalogue of snapshots consistent over the sites' own storage, without a daemon. Plans rehearse a recovery and measure it.

Global options work before and after the command. Results go to standard output, progress and warnings to standard error.
--json prints exactly one document, also for an error."""
_DATE = "2026-11-24"  # the date of this version, because a page without a date is not well formed
_ESCAPES = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}
_ENVIRONMENT = {
    "DRTOOL_CONFIG": "The configuration file.",
    "DRTOOL_PASSWORD, DRTOOL_PASSWORD_FILE, DRTOOL_PASSWORD_COMMAND": "The password, a file with "
    "the password in its first line, or a command that prints it. The password is never an argument.",
    "DRTOOL_CACHE_DIR": "Encrypted copies of metadata. Deleting them loses nothing.",
    "DRTOOL_STATE_DIR": "Runs of plans, faults, and the records that detect a repository that was rolled back.",
    "NO_COLOR": "Use no colours, even on terminals.",
}
_FILES = {
    "./drtool.yaml, $XDG_CONFIG_HOME/drtool/drtool.yaml, /etc/drtool/drtool.yaml": "The configuration: the "
    "first of these that exists.",
    "/var/lib/drtool, $XDG_STATE_HOME/drtool": "The state directory of root, and of other users.",
    "$XDG_CACHE_HOME/drtool": "The cache directory.",
}


def manual() -> str:
    """Return the man page in the language of man(7)."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield f'.TH DRTOOL 1 {_DATE} "drtool {__version__}" "User Commands"'
    yield ".SH NAME"
    yield _text("drtool - backups at several sites, and recovery that is rehearsed and measured")
    yield ".SH SYNOPSIS"
    yield ".B drtool"
    yield _text("[GLOBAL OPTION]... COMMAND [OPTION]... [ARGUMENT]...")
    yield ".SH DESCRIPTION"
    yield from _paragraphs(_DESCRIPTION)
    yield ".SH GLOBAL OPTIONS"
    yield from _options(build(cast("Call", None)))  # its callback, which would need a call, never runs
    yield ".SH COMMANDS"
    for path in COMMANDS:
        yield from _command(path, command(path))
    yield ".SH EXIT STATUS"
    for code, meaning in sorted(EXIT_MEANINGS.items()):
        yield from _item(str(code), meaning)
    yield ".SH ENVIRONMENT"
    for name, meaning in _ENVIRONMENT.items():
        yield from _item(name, meaning)
    yield ".SH FILES"
    for name, meaning in _FILES.items():
        yield from _item(name, meaning)


def _command(path: Path, built: Command) -> Iterator[str]:
    name = " ".join(path)
    yield f".SS {_word(name)}"
    context = built.make_context(name, [], resilient_parsing=True)
    yield f".B drtool {_word(name)}"
    yield _text(" ".join(built.collect_usage_pieces(context)))
    yield ".PP"
    yield from _paragraphs(built.help or "")
    yield from _options(built)
    yield ".PP"
    yield _text("Examples:")
    yield from (".PP", ".nf", ".RS")
    yield from (_word(example) for example in built.examples)
    yield from (".RE", ".fi", ".PP")
    codes = ", ".join(map(str, sorted(COMMANDS[path].exits)))
    yield _text(f"Exit status: {codes}.")


def _options(built: Any) -> Iterator[str]:  # noqa: ANN401 - Typer vendors Click privately
    context = built.make_context("drtool", [], resilient_parsing=True)
    for parameter in built.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            yield from _item(record[0], " ".join(record[1].split()))


def _item(name: str, meaning: str) -> Iterator[str]:
    yield ".TP"
    yield f".B {_word(name)}"
    yield _text(meaning or "See above.")


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        yield from [".PP"] if number else []
        yield _text(paragraph)


def _text(text: str) -> str:
    """Return text that is filled to readable lines."""
    lines = wrap(_escaped(text), 78, break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(_line, lines))


def _word(text: str) -> str:
    return _line(_escaped(text))


def _escaped(text: str) -> str:
    """Escape what man(7) would interpret: backslashes, hyphens, quotes and non-ASCII letters."""
    return "".join(_ESCAPES.get(c, c if c.isascii() else f"\\[u{ord(c):04X}]") for c in text)


def _line(escaped: str) -> str:
    """Protect a leading dot, which would be a request."""
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


if __name__ == "__main__":
    sys.stdout.write(manual())
