"""`report`: write one page about the repository."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drtool import __version__
from drtool.cli.commands.status import examine
from drtool.cli.core.options import ManifestFrom, sites
from drtool.cli.core.text import Document, count, document_of
from drtool.cli.core.view import Cell, line, view
from drtool.errors import UsageError

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def report(
    context: typer.Context,
    html: Annotated[str | None, typer.Option("--html", metavar="FILE", help="Write the page to this file.")] = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """Write an HTML page about the repository.

    The page shows problems, sources, sites, the ring, snapshots over time, verification and drills. The page is one
    self-contained file without scripts and external parts, for light and dark displays. The exit codes are those of
    `status`. The page is written in every case.

    Examples:
        drtool report --html /var/www/backup.html
        drtool report --html report.html && xdg-open report.html
    """
    from drtool.operations.marking import held
    from drtool.operations.targets import ring
    from drtool.reports.overview_page import Dot, Overview, overview_page

    call: Call = context.obj
    if html is None:
        raise UsageError("no output file given", hint="drtool report --html FILE")
    now_ns = time.time_ns()
    with call.open_for_report(sites(manifest_from)) as repository:
        examined = examine(call, repository)
        state = repository.view.state
        placed = document_of(ring(repository))
    document = examined.document
    seen = Overview(
        label=state.label,
        repository=state.repository.hex(),
        now_ns=now_ns,
        version=__version__,
        host=call.settings.host,
        status=document,
        ring=placed,
        dots=tuple(Dot(source=row.source, host=row.host, time_ns=row.time_ns) for row in state.snapshots),
        held=len(held(state, now_ns)),
        coverage=state.coverage,
        runs=state.runs,
    )
    path = call.settings.directory / html
    write_page(path, overview_page(seen))
    told: Document = {
        "written": str(path),
        "healthy": document["healthy"],
        "notices": document["notices"],
        "problems": document["problems"],
    }
    problems = count(len(document["problems"]), "problem")
    healthy = Cell("healthy", "good") if document["healthy"] else Cell(problems, "bad")
    call.show(told, view(line(f"wrote {path}: ", healthy)), exit_code=examined.exit_code)


def write_page(path: Path, text: str) -> None:
    """Write the whole page, or leave an existing one unchanged. Raise UsageError."""
    from drtool.operations.scheduling.files import write_whole

    try:
        write_whole(path, text.encode("utf-8", "replace"), mode=0o666 & ~_umask())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
