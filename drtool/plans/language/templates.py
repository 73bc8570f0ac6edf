"""Text with expressions in it: `restore-${{ vars.source }}`.

Invariants
    A text that is a single `${{ … }}` has the type of its value; any other is text. `$${{` is an escaped `${{`.
"""

from msgspec import Struct

from drtool.plans.language.parsing import ExpressionError, parse_expression
from drtool.plans.language.syntax import Expression

OPEN, CLOSE, PLAIN = "${{", "}}", "$${{"


class Hole(Struct, frozen=True):
    """An expression in a text. `at` is its offset there."""

    expression: Expression
    at: int


class Template(Struct, frozen=True):
    """Pieces of text and holes, in order."""

    parts: tuple[str | Hole, ...]

    @property
    def whole(self) -> Hole | None:
        """The single hole that makes up the whole text, or None."""
        only = self.parts[0] if len(self.parts) == 1 else None
        return only if isinstance(only, Hole) else None

    @property
    def holes(self) -> tuple[Hole, ...]:
        return tuple(part for part in self.parts if isinstance(part, Hole))


def has_holes(text: str) -> bool:
    return OPEN in text


def parse_template(text: str) -> Template:
    """Parse a text with expressions. Raises ExpressionError, whose `at` is an offset in the whole text."""
    parts: list[str | Hole] = []
    plain, at = "", 0
    while (begins := text.find(OPEN, at)) >= 0:
        if begins and text[begins - 1] == "$":
            plain, at = plain + text[at : begins - 1] + OPEN, begins + len(OPEN)
            continue
        plain += text[at:begins]
        parts += [plain] if plain else []
        hole, at = _hole(text, begins)
        parts.append(hole)
        plain = ""
    plain += text[at:]
    return Template((*parts, plain) if plain or not parts else tuple(parts))


def _hole(text: str, begins: int) -> tuple[Hole, int]:
    """Return the hole that begins there, and its end. A `}}` in quotes does not close it."""
    start = begins + len(OPEN)
    quote, at = "", start
    while at < len(text):
        letter = text[at]
        if quote:
            at += 1 if letter == "\\" else 0
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif text.startswith(CLOSE, at):
            return Hole(_parsed(text[start:at], start), start), at + len(CLOSE)
        at += 1
    raise ExpressionError(f"{OPEN} is never closed by {CLOSE}", begins)


def _parsed(inner: str, start: int) -> Expression:
    try:
        return parse_expression(inner)
    except ExpressionError as error:
        raise ExpressionError(error.message, start + error.at) from None


def foreach(value: object) -> object:
    """Read a list, or an expression that evaluates to one. Raises ValueError."""
    if value is None:
        return None
    return tuple(value) if isinstance(value, list) else bare(value)


def bare(text: object) -> Expression:
    """Read a single expression, as in `if`. It may be wrapped in one `${{ … }}`. Raises ValueError."""
    word = {True: "true", False: "false"}[text] if isinstance(text, bool) else text
    if isinstance(word, str) and not has_holes(word):
        return parse_expression(word)
    hole = parse_template(word.strip()).whole if isinstance(word, str) else None
    if hole is None:
        raise ValueError(f"expected a single expression, such as failed('sample'), not {text!r}")
    return hole.expression
