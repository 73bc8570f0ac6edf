"""A result for people as values: lines and tables that `render` draws, on a terminal or into a pipe."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

Style = Literal["", "good", "bad", "warn", "dim", "strong"]


class Cell(Struct, frozen=True):
    """A piece of text with its meaning for the reader."""

    text: str
    style: Style = ""


class Line(Struct, frozen=True):
    """Cells side by side, with nothing between them."""

    cells: tuple[Cell, ...]

    @property
    def text(self) -> str:
        return "".join(cell.text for cell in self.cells)


class Table(Struct, frozen=True):
    """Rows under headings. A heading that ends in `>` is right-aligned. The last column has no maximum width."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


class View(Struct, frozen=True):
    """A result: everything for a terminal. `summary`, if given, is the one line for a pipe, or one line per snapshot."""

    parts: tuple[Line | Table, ...]
    summary: str | tuple[str, ...] | None = None


def line(*cells: Cell | str) -> Line:
    return Line(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in cells))


def table(headings: str, rows: Sequence[Sequence[Cell | str]]) -> Table:
    """Return the table of `table("ID FILES> PATHS", rows)`."""
    cells = tuple(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in row) for row in rows)
    return Table(tuple(headings.split()), cells)


def view(*parts: Line | Table, summary: str | tuple[str, ...] | None = None) -> View:
    return View(parts, summary)
