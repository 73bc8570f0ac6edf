"""Expression trees, and their conversion back to text.

Invariants
    Printed text parses to the same tree. Parentheses appear only where they are needed.
"""

from collections.abc import Iterator
from typing import TypeAlias

from msgspec import Struct

from drtool.plans.language.values import Bytes, Seconds

Constant: TypeAlias = bool | int | float | str | Seconds | Bytes | None


class Literal(Struct, frozen=True):
    value: Constant
    written: str = ""
    """The original text of a duration or a size."""


class Name(Struct, frozen=True):
    """A root: `vars`, `steps`, `run`."""

    name: str
    at: int = 0
    """The position in the expression's text at which the node begins. All nodes have it."""


class Attribute(Struct, frozen=True):
    of: "Node"
    name: str
    at: int = 0


class Index(Struct, frozen=True):
    of: "Node"
    index: "Node"
    at: int = 0


class Call(Struct, frozen=True):
    name: str
    arguments: tuple["Node", ...]
    at: int = 0


class ListOf(Struct, frozen=True):
    items: tuple["Node", ...]
    at: int = 0


class Unary(Struct, frozen=True):
    """`not x`, `-x`."""

    operator: str
    of: "Node"
    at: int = 0


class Binary(Struct, frozen=True):
    operator: str
    left: "Node"
    right: "Node"
    at: int = 0


Node: TypeAlias = Literal | Name | Attribute | Index | Call | ListOf | Unary | Binary

PRECEDENCE = {
    "or": 1,
    "and": 2,
    "not": 3,
    "in": 4,
    "not in": 4,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), 4),
    "+": 5,
    "-": 5,
    "negative": 6,
}
"""Higher numbers bind tighter. Comparisons do not chain; the other operators associate to the left."""
_COMPARING = 4
_PRIMARY = 7


def printed(node: Node, least: int = 0) -> str:
    """Return the tree as text, in parentheses if it binds less tightly than `least`."""
    text, binds = _printed(node)
    return f"({text})" if binds < least else text


def _printed(node: Node) -> tuple[str, int]:
    match node:
        case Literal():
            return _constant(node), _PRIMARY
        case Name():
            return node.name, _PRIMARY
        case Attribute():
            return f"{printed(node.of, _PRIMARY)}.{node.name}", _PRIMARY
        case Index():
            return f"{printed(node.of, _PRIMARY)}[{printed(node.index)}]", _PRIMARY
        case Call():
            return f"{node.name}({_listed(node.arguments)})", _PRIMARY
        case ListOf():
            return f"[{_listed(node.items)}]", _PRIMARY
        case Unary():
            binds = PRECEDENCE["not" if node.operator == "not" else "negative"]
            return f"{'not ' if node.operator == 'not' else '-'}{printed(node.of, binds)}", binds
        case Binary():
            binds = PRECEDENCE[node.operator]
            left = printed(node.left, binds + 1 if binds == _COMPARING else binds)
            return f"{left} {node.operator} {printed(node.right, binds + 1)}", binds


def _listed(nodes: tuple[Node, ...]) -> str:
    return ", ".join(printed(node) for node in nodes)


def _constant(node: Literal) -> str:
    value = node.value
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return node.written or str(value)


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all its descendants."""
    yield node
    match node:
        case Attribute() | Unary():
            yield from walk(node.of)
        case Index():
            yield from (*walk(node.of), *walk(node.index))
        case Call():
            for argument in node.arguments:
                yield from walk(argument)
        case ListOf():
            for item in node.items:
                yield from walk(item)
        case Binary():
            yield from (*walk(node.left), *walk(node.right))
        case _:
            pass


class Expression:
    """A parsed expression and its text. Expressions are equal if their trees are equal."""

    __slots__ = ("root", "text")

    def __init__(self, text: str, root: Node) -> None:
        self.text = text
        self.root = root

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and printed(self.root) == printed(other.root)

    def __hash__(self) -> int:
        return hash(printed(self.root))
