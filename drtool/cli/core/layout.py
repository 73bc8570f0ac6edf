"""The layout of a table in so many columns of a terminal.

Invariants
    No word is broken, and nothing is left out. A table that is too wide gets several lines per row: its widest columns
    move to lines of their own, below the first one, with their heading.
"""

import re
from collections.abc import Iterator, Sequence

from drtool.cli.core.view import Cell, Table
from drtool.escaping import printable

GAP = 2
INDENT = "  "

_NARROW = re.compile(r"[\x20-\x7e]*")


def width(text: str) -> int:
    """Return the number of columns that `text` takes when drawn. Wide letters take two."""
    text = printable(text)
    if _NARROW.fullmatch(text):
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def arranged(table: Table, columns: int | None) -> Iterator[tuple[Cell, ...]]:
    """Yield the lines of a table, each as cells side by side. `columns` is None where lines may be of any width."""
    headings = [Cell(heading.rstrip(">").replace("_", " "), "strong") for heading in table.headings]
    rows: list[Sequence[Cell]] = [headings, *table.rows]
    widths = [max(width(row[column].text) for row in rows) for column in range(len(headings))]
    beside = _columns_beside(widths, columns)
    below = [column for column in range(len(headings)) if column not in beside]
    right = [heading.endswith(">") for heading in table.headings]
    for number, row in enumerate(rows):
        head_alone = 0 in below
        if head_alone:
            yield (row[0],)
        line = _side_by_side(row, beside, widths, right)
        if line:
            yield (Cell(INDENT), *line) if head_alone else line
        for column in below:
            if column and number and row[column].text:
                label = Cell(f"{INDENT}{headings[column].text.lower()}: ", "dim")
                yield from _wrapped(label, row[column], columns)


def _columns_beside(widths: Sequence[int], columns: int | None) -> list[int]:
    """Return the columns that stay side by side: all, without the widest ones until the rest fits."""
    beside = list(range(len(widths)))
    while columns is not None and len(beside) > 1 and _width_of(beside, widths) > columns:
        beside.remove(max(beside, key=lambda column: (widths[column], column)))
    return beside


def _width_of(beside: Sequence[int], widths: Sequence[int]) -> int:
    indent = 0 if beside[0] == 0 else len(INDENT)
    return indent + sum(widths[column] for column in beside) + GAP * (len(beside) - 1)


def _side_by_side(
    row: Sequence[Cell], beside: Sequence[int], widths: Sequence[int], right: Sequence[bool]
) -> tuple[Cell, ...]:
    last = max((column for column in beside if row[column].text), default=-1)
    cells: list[Cell] = []
    for column in beside:
        if column > last:
            break
        if cells:
            cells.append(Cell(" " * GAP))
        gap = Cell(" " * (widths[column] - width(row[column].text)))
        if right[column]:
            cells += [gap, row[column]]
        else:
            cells += [row[column]] if column == last else [row[column], gap]
    return tuple(cell for cell in cells if cell.text)


def _wrapped(label: Cell, cell: Cell, columns: int | None) -> Iterator[tuple[Cell, ...]]:
    """Yield the lines of a cell after its label, broken between words."""
    room = None if columns is None else max(1, columns - width(label.text))
    line = ""
    for word in cell.text.split(" "):
        if line and room is not None and width(f"{line} {word}") > room:
            yield label, Cell(line, cell.style)
            label, line = Cell(" " * width(label.text)), word
        else:
            line = f"{line} {word}" if line else word
    yield label, Cell(line, cell.style)
