"""Gitignore patterns, compiled to what git's own matcher accepts.

Invariants
    Whether a path is excluded depends on the last pattern that matches it; the caller does not enter what is excluded,
    so a pattern is only ever asked about the path itself, never about what lies above it.
    Names are matched character by character, case and line breaks included; bytes that are not UTF-8 are lone
    surrogates, which `*`, `?` and `[!a]` match like anything else.

Source: gitignore(5) and git's wildmatch.c. pathspec's GitIgnoreSpec judges whole paths: for it `dir/**` matches `dir/`
itself, and no `*` matches a name with a line break in a directory's name; a walk needs the answer for each name alone.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": " \\t\\n\\r\\f\\v",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


class Pattern(NamedTuple):
    """One line: what it matches, and whether that is excluded or taken back in."""

    matches: Callable[[str], re.Match[str] | None]
    excludes: bool
    directories_only: bool
    by_name: bool
    """Matched against the last part alone, at any depth; else against the path from the named directory on."""


class Matcher:
    """The patterns that apply below one place. Empty: false, and nothing is excluded."""

    __slots__ = ("_last_first",)

    def __init__(self, lines: Iterable[str]) -> None:
        compiled = [pattern for line in lines if (pattern := compile_pattern(line)) is not None]
        self._last_first = tuple(reversed(compiled))

    def __bool__(self) -> bool:
        return bool(self._last_first)

    def verdict(self, prefix: str, name: str, *, is_directory: bool) -> bool | None:
        """Whether `name` in the directory `prefix` (empty, or with a final slash) is excluded; None: no pattern says."""
        path = prefix + name
        for pattern in self._last_first:
            if pattern.directories_only and not is_directory:
                continue
            if pattern.matches(name if pattern.by_name else path) is not None:
                return pattern.excludes
        return None


def compile_pattern(line: str) -> Pattern | None:
    """One line of a gitignore file; None if it is blank, a comment, or can match nothing."""
    excludes, text = parts_of(line)
    directories_only = text.endswith("/")
    text = text[:-1] if directories_only else text
    if not text:
        return None
    by_name = "/" not in text
    expression = _expression(text.removeprefix("/"))
    if expression is None:
        return None
    matches = re.compile(expression, re.DOTALL).fullmatch
    return Pattern(matches, excludes, directories_only, by_name)


def parts_of(line: str) -> tuple[bool, str]:
    """Return whether a line excludes (`!` takes back in), and its pattern: empty for a blank line and a comment."""
    text = _without_trailing_spaces(line)
    if text.startswith("#"):
        return True, ""
    return not text.startswith("!"), text.removeprefix("!")


def below(pattern: str, names: Sequence[str]) -> list[str] | None:
    """Return what is left of an absolute pattern in the directory that `names` lead to, each an anchored pattern.

    Empty: the pattern is about that directory itself, or one above it. None: the pattern does not lead there. Its first part
    must be the name itself, without wildcards: `/*/x` is always relative to what is backed up.
    """
    parts = pattern.strip("/").split("/")
    if not names or parts[0] not in (names[0], re.sub(r"([\\*?\[])", r"\\\1", names[0])):
        return None
    states = {0}
    ended = False
    for name in names:
        states = set(_steps(parts, states, name))
        ended |= len(parts) in states
    slash = "/" if pattern.endswith("/") else ""
    rests = [f"/{'/'.join(parts[state:])}{slash}" for state in sorted(states) if state < len(parts)]
    return rests if rests or ended else None


def _steps(parts: Sequence[str], states: Iterable[int], name: str) -> Iterator[int]:
    """Which parts of a pattern may come next when a path that came to `states` goes on with `name`."""
    for start in states:
        state = start
        while state < len(parts) and parts[state] == "**":
            yield state
            state += 1
        if state < len(parts) and _matches(parts[state], name):
            yield state + 1


def _matches(part: str, name: str) -> bool:
    expression = _expression(part)
    return part == name or (expression is not None and re.fullmatch(expression, name, re.DOTALL) is not None)


def _without_trailing_spaces(line: str) -> str:
    stripped = line.rstrip(" ")
    backslashes = len(stripped) - len(stripped.rstrip("\\"))
    return stripped + " " if backslashes % 2 and len(stripped) < len(line) else stripped


def _expression(text: str) -> str | None:
    parts = []
    at = 0
    while at < len(text):
        piece = _piece(text, at)
        if piece is None:
            return None
        part, at = piece
        parts.append(part)
    return "".join(parts)


def _piece(text: str, at: int) -> tuple[str, int] | None:
    """The regular expression of the element at `at`, and where the next one begins; None: it can match nothing."""
    match text[at]:
        case "*":
            return _stars(text, at)
        case "?":
            return "[^/]", at + 1
        case "[":
            return _bracket(text, at)
        case "\\":
            return (re.escape(text[at + 1]), at + 2) if at + 1 < len(text) else None
        case character:
            return re.escape(character), at + 1


def _stars(text: str, at: int) -> tuple[str, int]:
    end = at
    while end < len(text) and text[end] == "*":
        end += 1
    stands_alone = (at == 0 or text[at - 1] == "/") and (end == len(text) or text[end] == "/")
    if end - at == 1 or not stands_alone:
        return "[^/]*", end
    return ("(?:.*/)?", end + 1) if end < len(text) else (".*", end)


def _bracket(text: str, at: int) -> tuple[str, int] | None:
    at += 1
    negated = text[at : at + 1] in ("!", "^")
    at += negated
    members = []
    first = True
    while at < len(text) and (first or text[at] != "]"):
        member = _member(text, at)
        if member is None:
            return None
        part, at = member
        members.append(part)
        first = False
    if at >= len(text):
        return None
    return f"(?!/)[{'^' if negated else ''}{''.join(members)}]", at + 1


def _member(text: str, at: int) -> tuple[str, int] | None:
    """One element between brackets: a class, a character or a range."""
    if text.startswith("[:", at):
        end = text.find(":]", at + 2)
        name = text[at + 2 : end] if end >= 0 else ""
        return (_CLASSES[name], end + 2) if name in _CLASSES else None
    low = _character(text, at)
    if low is None:
        return None
    character, at = low
    if text[at : at + 1] != "-" or text[at + 1 : at + 2] in ("]", ""):
        return re.escape(character), at
    high = _character(text, at + 1)
    if high is None:
        return None
    last, at = high
    # a range that runs backwards still holds its first character, for git
    return (f"{re.escape(character)}-{re.escape(last)}" if character <= last else re.escape(character)), at


def _character(text: str, at: int) -> tuple[str, int] | None:
    """A character between brackets, escaped or not, and where the next one begins."""
    if text[at] == "\\":
        return (text[at + 1], at + 2) if at + 1 < len(text) else None
    return text[at], at + 1
