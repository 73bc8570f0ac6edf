"""The drtool command lines in a line of shell, held against the real parser; nothing is carried out."""

import re
import shlex
from typing import Any, cast

import typer

from drtool.cli.core.app import build
from drtool.cli.core.arguments import arrange
from drtool.cli.core.parser import Family

_REDIRECTION = re.compile(r"\s\d?[<>]{1,2}&?\s*[^\s;|&]+")
_AT_ONCE = {"-h", "--help", "--version", "--install-completion", "--show-completion"}
"""Parsing alone would carry them out: they write to the terminal, and one to the shell's start-up files."""
_NAMED_ONLY = {"MissingParameter", "BadOptionUsage", "NoArgsIsHelpError"}


def command_lines(line: str) -> list[list[str]]:
    """What follows each `drtool` in it, up to the pipe, `&&` or `;`, without redirections and comments."""
    lexer = shlex.shlex(_REDIRECTION.sub("", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if word and set(word) <= set("|&;()"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [words[words.index("drtool") + 1 :] for words in commands if "drtool" in words]


def parse(words: list[str]) -> tuple[str, ...]:
    """The command's name. Raises what the parser raises: no such command, no such option, a value of the wrong kind."""
    current: Any = build(cast("Any", None))
    path: list[str] = []
    if {*words[:1]} & _AT_ONCE or words == ["COMMAND", "--help"]:
        return ()
    assert not _AT_ONCE & set(words), words
    context = current.make_context("drtool", arrange(words).argv)
    while isinstance(current, Family):
        name, current, rest = current.resolve_command(context, [*context._protected_args, *context.args])
        path.append(name)
        context = current.make_context(name, rest, parent=context)
    return tuple(path)


def named(words: list[str]) -> None:
    """As `parse`, for what a sentence names: a synopsis, or a command without all of its words."""
    plain = [word.strip("[]…") for word in words]
    try:
        parse([word for word in plain if word])
    except typer.exceptions.TyperException as error:
        if type(error).__name__ not in _NAMED_ONLY:
            raise
