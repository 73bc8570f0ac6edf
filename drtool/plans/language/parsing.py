"""The expression parser: a tokenizer and precedence climbing.

Invariants
    The only exception is ExpressionError, which gives the position in the text. Length and depth are limited, so no
    text takes long to parse or exhausts the stack.
"""

import re
from typing import NamedTuple, NoReturn

from drtool.config.units import size_bytes
from drtool.plans.language.quantities import duration_s
from drtool.plans.language.syntax import (
    PRECEDENCE,
    Attribute,
    Binary,
    Call,
    Expression,
    Index,
    ListOf,
    Literal,
    Name,
    Node,
    Unary,
)
from drtool.plans.language.values import Bytes, Seconds

MAX_LENGTH = 2000
MAX_DEPTH = 24
MAX_ARGUMENTS = 100
MAX_OPERATORS = 100
"""A chain `a + b + c …` gives a tree as deep as the chain is long."""

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      | (?P<quantity>(?:[0-9]+(?:\.[0-9]+)?[A-Za-z]+)+)
      | (?P<number>[0-9]{1,18}(?:\.[0-9]{1,18})?)(?![0-9])
      | (?P<text>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
      | (?P<word>[A-Za-z_][A-Za-z0-9_-]*)
      | (?P<sign>==|!=|<=|>=|[<>+\-().,\[\]])""",
    re.VERBOSE | re.ASCII,
)
_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", "'": "'", '"': '"'}
_WORDS = {"true": True, "false": False, "null": None}
_RESERVED = frozenset({"and", "or", "not", "in", *_WORDS})
_COMPARING = PRECEDENCE["=="]


class ExpressionError(ValueError):
    """An error in an expression. `at` is the offset in characters from the beginning of the expression."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.message = message
        self.at = at


class Token(NamedTuple):
    kind: str
    text: str
    at: int


def parse_expression(text: str) -> Expression:
    """Parse an expression. Raises ExpressionError."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"an expression has at most {MAX_LENGTH} characters; this has {len(text)}", 0)
    return Expression(text.strip(), _Parser(_tokens(text), len(text)).whole())


def _tokens(text: str) -> list[Token]:
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ExpressionError(_unreadable(text, at), at)
        kind = str(match.lastgroup)
        if kind != "space":
            found.append(Token(kind, match[0], at))
        at = match.end()
    return found


def _unreadable(text: str, at: int) -> str:
    letter = text[at]
    if letter in "'\"":
        return "this quote is never closed"
    if letter == "=":
        return "'=' is not an operator; compare with =="
    if letter in "&|!":
        return f"{letter!r} is not an operator; write and, or, not"
    return "a number with too many digits" if letter.isdigit() else f"{letter!r} has no meaning in an expression"


class _Parser:
    """One pass over the tokens. Each method reads one construct and leaves the next token to its caller."""

    def __init__(self, tokens: list[Token], length: int) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0
        self._operators = 0
        self._end = Token("end", "", length)

    def whole(self) -> Node:
        if not self._tokens:
            raise ExpressionError("an expression is missing", 0)
        node = self._binary(0)
        if self._peek().kind != "end":
            self._refuse(self._peek(), "an operator is missing before it")
        return node

    def _peek(self, ahead: int = 0) -> Token:
        place = self._next + ahead
        return self._tokens[place] if place < len(self._tokens) else self._end

    def _take(self) -> Token:
        token = self._peek()
        self._next += 1
        return token

    def _expect(self, sign: str) -> None:
        if self._peek().text != sign or self._peek().kind != "sign":
            self._refuse(self._peek(), f"expected {sign!r}")
        self._take()

    def _refuse(self, token: Token, message: str) -> NoReturn:
        where = f"at {token.text!r}: " if token.kind != "end" else "the expression ends too soon: "
        raise ExpressionError(where + message, token.at)

    def _operator(self) -> str:
        """Return the binary operator that comes next, or an empty string."""
        token = self._peek()
        if token.kind == "word" and token.text == "not" and self._peek(1).text == "in":
            return "not in"
        is_one = token.kind == "sign" or (token.kind == "word" and token.text in {"and", "or", "in"})
        return token.text if is_one and token.text in PRECEDENCE else ""

    def _binary(self, least: int) -> Node:
        left = self._unary()
        while (operator := self._operator()) and PRECEDENCE[operator] >= least:
            at = self._take().at
            self._operators += 1
            if self._operators > MAX_OPERATORS:
                raise ExpressionError(f"an expression has at most {MAX_OPERATORS} operators", at)
            if operator == "not in":
                self._take()
            binds = PRECEDENCE[operator]
            left = Binary(operator, left, self._binary(binds + 1), at)
            if binds == _COMPARING and PRECEDENCE.get(self._operator()) == _COMPARING:
                self._refuse(self._peek(), "comparisons do not chain; join two with `and`")
        return left

    def _unary(self) -> Node:
        token = self._peek()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(f"nested deeper than {MAX_DEPTH} levels", token.at)
        try:
            if token.kind == "word" and token.text == "not":
                return Unary("not", self._under(PRECEDENCE["not"]), token.at)
            if token.kind == "sign" and token.text == "-":
                return Unary("-", self._under(PRECEDENCE["negative"]), token.at)
            return self._suffixes(self._primary())
        finally:
            self._depth -= 1

    def _under(self, binds: int) -> Node:
        self._take()
        return self._binary(binds)

    def _suffixes(self, node: Node) -> Node:
        for _ in range(MAX_DEPTH):
            token = self._peek()
            if token.kind != "sign" or token.text not in {".", "["}:
                return node
            self._take()
            if token.text == ".":
                node = Attribute(node, self._attribute(), token.at)
            else:
                node = Index(node, self._binary(0), token.at)
                self._expect("]")
        raise ExpressionError(f"nested deeper than {MAX_DEPTH} levels", self._peek().at)

    def _attribute(self) -> str:
        token = self._take()
        if token.kind != "word":
            self._refuse(token, "a name must follow the dot")
        return token.text

    def _primary(self) -> Node:
        token = self._take()
        if token.kind == "number":
            return Literal(float(token.text) if "." in token.text else int(token.text))
        if token.kind == "quantity":
            return _quantity(token)
        if token.kind == "text":
            return Literal(_unquoted(token))
        if token.kind == "word" and token.text in _WORDS:
            return Literal(_WORDS[token.text])
        if token.kind == "word" and token.text not in _RESERVED:
            return self._named(token)
        if token.kind == "sign" and token.text == "(":
            node = self._binary(0)
            self._expect(")")
            return node
        if token.kind == "sign" and token.text == "[":
            return ListOf(self._arguments("]"), token.at)
        return self._refuse(token, "a value is missing")

    def _named(self, token: Token) -> Node:
        if self._peek().kind == "sign" and self._peek().text == "(":
            self._take()
            return Call(token.text, self._arguments(")"), token.at)
        return Name(token.text, token.at)

    def _arguments(self, end: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while self._peek().text != end or self._peek().kind != "sign":
            if items:
                self._expect(",")
            if len(items) == MAX_ARGUMENTS:
                self._refuse(self._peek(), f"at most {MAX_ARGUMENTS} items are allowed")
            items.append(self._binary(0))
        self._take()
        return tuple(items)


def _quantity(token: Token) -> Literal:
    """Read a duration (`24h`) or a size (`5GiB`). The two share no unit."""
    try:
        return Literal(Seconds(duration_s(token.text)), token.text)
    except ValueError:
        pass  # not a duration; try a size
    try:
        return Literal(Bytes(size_bytes(token.text)), token.text)
    except (ValueError, OverflowError):
        raise ExpressionError(f"{token.text!r} is not a duration (24h, 1h30m) or a size (5GiB)", token.at) from None


def _unquoted(token: Token) -> str:
    text = token.text[1:-1]
    if "\\" not in text:
        return text
    parts = re.split(r"\\(.)", text)
    wrong = next((letter for letter in parts[1::2] if letter not in _ESCAPES), None)
    if wrong is not None:
        raise ExpressionError(f"\\{wrong} is not an escape sequence; write \\\\, \\', \\\", \\n or \\t", token.at)
    return "".join(_ESCAPES[part] if number % 2 else part for number, part in enumerate(parts))
