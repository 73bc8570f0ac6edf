"""The man page, from the commands themselves: `python -m drtool.cli.manual >docs/drtool.1`."""

import sys
from collections.abc import Iterator
from textwrap import wrap
from typing import Any, cast

from drtool import __version__
from drtool.cli.app import build
from drtool.cli.call import Call
from drtool.cli.commands import COMMANDS, Path
from drtool.cli.parser import Command, command
from drtool.errors import EXIT_MEANINGS

_DESCRIPTION = """\
drtool backs up files, databases and the system's own state: cut into chunks, compressed, encrypted, and spread over
directories, S3 buckets and SSH servers at several sites, so that any site can burn. The catalogue of snapshots is agreed on
by Paxos over the sites' own storage; nothing runs in the background. Plans rehearse and measure recovery.

Global options work before and after the command. Results go to standard output, progress and warnings to standard error;
--json prints exactly one document, also for a failure.
"""
_DATE = "2026-11-24"  # of this version; a page without one is not well formed
_ESCAPES = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}
_ENVIRONMENT = {
    "DRTOOL_CONFIG": "The configuration file.",
    "DRTOOL_PASSWORD, DRTOOL_PASSWORD_FILE, DRTOOL_PASSWORD_COMMAND": "The password, a file whose first line it is, or a "
    "command that prints it. It is never an argument.",
    "DRTOOL_CACHE_DIR": "Sealed copies of metadata; deleting them loses nothing.",
    "DRTOOL_STATE_DIR": "Runs of plans, faults, and what notices a repository that was rolled back.",
    "NO_COLOR": "No colours, on terminals either.",
}
_FILES = {
    "./drtool.yaml, $XDG_CONFIG_HOME/drtool/drtool.yaml, /etc/drtool/drtool.yaml": "The configuration: the first that there is.",
    "/var/lib/drtool, $XDG_STATE_HOME/drtool": "The state of root, and of others.",
    "$XDG_CACHE_HOME/drtool": "The cache.",
}


def manual() -> str:
    """In man(7)'s language."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield f'.TH DRTOOL 1 {_DATE} "drtool {__version__}" "User Commands"'
    yield ".SH NAME"
    yield _text("drtool - backups spread over sites, and recovery that is rehearsed and measured")
    yield ".SH SYNOPSIS"
    yield ".B drtool"
    yield _text("[GLOBAL OPTION]... COMMAND [OPTION]... [ARGUMENT]...")
    yield ".SH DESCRIPTION"
    yield from _paragraphs(_DESCRIPTION)
    yield ".SH GLOBAL OPTIONS"
    yield from _options(build(cast("Call", None)))  # its callback, which would want one, is never called
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
    """Words that are filled, on lines that one can read."""
    lines = wrap(_escaped(text), 78, break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(_line, lines))


def _word(text: str) -> str:
    return _line(_escaped(text))


def _escaped(text: str) -> str:
    """Nothing in it is the language's own: a backslash, a hyphen that is to stay one."""
    return "".join(_ESCAPES.get(c, c if c.isascii() else f"\\[u{ord(c):04X}]") for c in text)


def _line(escaped: str) -> str:
    """A dot at the beginning would be a request."""
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


if __name__ == "__main__":
    sys.stdout.write(manual())
