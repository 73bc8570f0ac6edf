"""The targets that lack a key slot, as the commands of passwords show them."""

from collections.abc import Sequence

from drtool.cli.core.text import Document
from drtool.cli.core.view import Cell, Line, line


def unheld_lines(what: str, rows: Sequence[Document]) -> list[Line]:
    return [line(Cell(f"  {what} ", "warn"), f"{row['target']}: {row['reason']}") for row in rows]


def but_words(rows: Sequence[Document], what: str = "missing at") -> str:
    return f"; {what} {', '.join(row['target'] for row in rows)}" if rows else ""
