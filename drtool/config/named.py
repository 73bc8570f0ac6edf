"""The files that a configuration names, and that drtool would run or trust."""

import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from drtool.config.schema import Config, HeaderFile, SourceConfig

_INTERPRETERS = frozenset({"sh", "bash", "dash", "ksh", "zsh", "python", "python3", "perl", "ruby"})
Named: TypeAlias = tuple[str, Path]
"""A file's role, in words, and its path."""


def named_files(config: Config, beside: Path, directory: Path) -> Iterator[Named]:
    """Yield every such file. Names are relative to `beside`, programs of commands to the working `directory`.

    A program without a slash is left out: it is found through PATH, which belongs to the administrator.
    """
    if config.password_file is not None:
        yield "password file", beside / config.password_file
    if config.plans is not None:
        yield "directory of plans", beside / config.plans
    yield from _of_targets(config, beside)
    yield from _programs("password command", [_words(config.password_command)], directory)
    hooks = config.hooks
    listed = (getattr(hooks, field) for field in hooks.__struct_fields__ if field != "timeout")
    yield from _programs("hook", (words for group in listed for words in group), directory)
    for source in config.sources.values():
        yield from _of_source(source, beside)
    for channel in config.notify.channels.values():
        yield from _programs("command of a channel", [channel.command], directory)
        if channel.email is not None and channel.email.password_file is not None:
            yield "password file of a channel", directory / channel.email.password_file
        headers = (value for value in channel.headers.values() if isinstance(value, HeaderFile))
        yield from (("header file", directory / header.file) for header in headers)


def _of_targets(config: Config, beside: Path) -> Iterator[Named]:
    for targets in config.sites.values():
        for target in targets.values():
            _, access = target.place(beside)
            for role, name in (("SSH key", access.identity_file), ("known_hosts file", access.known_hosts)):
                if name is not None:
                    yield role, Path(os.path.expanduser(name))


def _of_source(source: SourceConfig, beside: Path) -> Iterator[Named]:
    if source.stream is not None:
        yield from _programs("command of a source", [source.stream.command], beside)
    if source.mysql is not None and source.mysql.defaults_file is not None:
        yield "option file", beside / source.mysql.defaults_file
    if source.postgresql is not None and source.postgresql.programs is not None:
        yield "directory of programs", beside / source.postgresql.programs


def _programs(role: str, commands: Iterable[Sequence[str]], directory: Path) -> Iterator[Named]:
    for words in commands:
        if words and "/" in words[0] and "://" not in words[0]:
            yield role, directory / words[0]
        if len(words) > 1 and Path(words[0]).name in _INTERPRETERS and "/" in words[1]:
            yield f"script of a {role}", directory / words[1]


def _words(command: str | tuple[str, ...] | None) -> Sequence[str]:
    try:
        return shlex.split(command) if isinstance(command, str) else command or ()
    except ValueError:  # an unclosed quote is reported when the command runs
        return ()
