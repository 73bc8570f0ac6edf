"""Views that the commands on copies share: moves, and losses."""

from typing import TYPE_CHECKING

from drtool.cli.core.text import Document, count, size
from drtool.cli.core.view import Cell, Line, View, line
from drtool.errors import Rejected

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def waiting_lines(document: Document, objects: int) -> list[Line]:
    lines = [line(Cell("away ", "warn"), f"{row['target']}: {row['reason']}") for row in document["away"]]
    if objects:
        lines.append(line(Cell(f"{count(objects, 'object')} not yet at all the targets that the ring assigns", "warn")))
    return lines


def copies_words(amount: Document) -> str:
    return f"{count(amount['objects'], 'copy', 'copies')}, {size(amount['bytes'])}"


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def show_moved(call: "Call", document: Document, shown: View, code: int) -> None:
    """Show what a repair or rebalance did. If it was stopped by an error, show the error too."""
    failure = Rejected(document["stopped"], document["why"], hint=document["hint"]) if code == 1 else None
    if failure is not None:
        document["error"] = {"kind": failure.kind, "message": failure.message, "hint": failure.hint}
    call.show(document, shown, exit_code=code)
    if failure is not None:
        call.screen.fail(failure)


def loss_lines(lost: Document) -> list[str]:
    """Return what is lost, the remedies, and what is not lost."""
    lines = [lost["headline"], *lost["remedies"], lost["hope"], lost["leftovers"]]
    return [words for words in lines if words]
