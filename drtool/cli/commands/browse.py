"""`browse`: look through the snapshots on the terminal, and restore what is marked."""

import os
import sys
import threading
from typing import TYPE_CHECKING

import typer
from msgspec.structs import replace

from drtool.cli.commands.restore import restore_view
from drtool.cli.core.options import Hosts, ManifestFrom, Sources, Tags, narrowing, sites
from drtool.cli.core.selection import SHORT_ID
from drtool.cli.core.text import count, document_of
from drtool.cli.core.view import line, view
from drtool.errors import DrtoolError, Interrupted, UsageError, worst_exit
from drtool.events import Emit, Event, ItemChanged, ItemFailed, TargetFailed, Warned
from drtool.operations.selection import narrowed

if TYPE_CHECKING:
    from drtool.cli.commands.browse_pages import Marks, Trail
    from drtool.cli.core.call import Call
    from drtool.operations.restore import RestoreRequest
    from drtool.operations.restore.request import Overwrite
    from drtool.repository import Repository

ITEMS_SHOWN = 15
"""Items that a preview names. `--verbose` names all."""
CLOSE_S = 0.5
OVERWRITE: "dict[str, Overwrite]" = {"a": "always", "c": "if-changed", "n": "never"}


def browse(
    context: typer.Context,
    host: Hosts = None,
    tag: Tags = None,
    source: Sources = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """Browse the snapshots, and restore what is marked.

    It runs on the terminal. Open a snapshot with Enter, mark files and directories with Space, and press r to restore
    them into a directory. A preview comes first. ? lists all keys, and q quits. It needs Textual: pip install
    'drtool[browse]'.

    Examples:
        drtool browse
        drtool browse --host web1 --source home
        drtool browse --manifest-from any
    """
    call: Call = context.obj
    _check_usable(call)
    with call.open_for_reading(sites(manifest_from)) as repository:
        snapshots = narrowed(repository.view.state.snapshots, narrowing(host, tag, source))
        if not snapshots:
            call.show({}, view(line("no snapshots")))
            return
        from drtool.cli.commands.browse_pages import Trail

        call.exit_code = _browse(call, repository, Trail(repository, snapshots))


def _check_usable(call: "Call") -> None:
    if call.screen.form.documents or call.screen.form.quiet:
        raise UsageError(
            "browse works on a terminal, without --json, --json-lines and --quiet",
            hint="in scripts use drtool ls, find and restore",
        )
    terminals = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    if not terminals or os.environ.get("TERM", "") in ("", "dumb"):
        raise UsageError(
            "browse needs a terminal that can move its cursor", hint="elsewhere use drtool ls, find and restore"
        )
    try:
        import textual  # noqa: F401
    except ImportError:
        raise UsageError("browse needs Textual, which is not installed", hint="pip install 'drtool[browse]'") from None
    if not call.screen.form.color:
        os.environ["NO_COLOR"] = "1"  # Textual reads this


def _browse(call: "Call", repository: "Repository", trail: "Trail") -> int:
    """Show the screen, and restore what is marked, until the user quits. Return the exit code of all restores."""
    code = 0
    while _run_screen(call, repository, trail) == "restore":
        code = worst_exit(code, _restore_marked(call, repository, trail.marks))
        call.screen.flush()
        typer.prompt("Press Enter to go back to the snapshots", default="", show_default=False, prompt_suffix=" ")
    return code


def _run_screen(call: "Call", repository: "Repository", trail: "Trail") -> str | None:
    from drtool.cli.commands.browse_app import Browser
    from drtool.cli.commands.browse_reader import Reader

    reader = Reader(repository.trees)
    app = Browser(trail, reader)
    later: list[Event] = []
    lock = threading.Lock()

    def take(event: Event) -> None:
        with lock:
            later.append(event)
        if isinstance(event, Warned | ItemFailed):
            app.tell(event.message)
        elif isinstance(event, TargetFailed):
            app.tell(f"target {event.target}: {event.reason}")

    with call.screen.diverted(take):
        result: str | None = app.run(mouse=False)
        reader.close(CLOSE_S)
    if result == "restore" and reader.reads:
        call.screen.say("waiting for the last read of the browser to end")
        reader.close()
    for event in later:
        call.emit(event)
    if app.interrupted is not None:
        raise Interrupted(app.interrupted)
    if reader.bug is not None:
        raise reader.bug
    if app.return_code:
        raise RuntimeError("the screen of browse ended with an error")
    return result


def _restore_marked(call: "Call", repository: "Repository", marks: "Marks") -> int:
    """Ask for the directory, show the preview, and restore after a confirmation. Return the exit code of the restore.

    It is 0 if nothing was restored, because then the user saw why and decides what to do next.
    """
    try:
        request = _request(call, marks)
        if request is None or not _is_confirmed(call, repository, request):
            return 0
    except (DrtoolError, OSError) as error:
        _show_failure(call, error)
        return 0
    try:
        code = _restore(call, repository, request)
    except (DrtoolError, OSError) as error:
        return _show_failure(call, error)
    if code == 0:
        marks.clear()
    return code


def _show_failure(call: "Call", error: DrtoolError | OSError) -> int:
    """Show the failure, and return its exit code. The browser goes on."""
    from drtool.cli.core.crash import refused

    shown = error if isinstance(error, DrtoolError) else refused(call, error)
    call.screen.fail(call.completed(shown))
    return shown.exit_code


def _request(call: "Call", marks: "Marks") -> "RestoreRequest | None":
    """Return the request to restore what is marked, or None if the user goes back."""
    from drtool.operations.restore import RestoreRequest
    from drtool.sources.filesystem import file_pattern_of, pattern_of

    assert marks.snapshot is not None
    text = f"{count(len(marks.paths), 'marked item')} of snapshot {marks.snapshot.id.hex()[:SHORT_ID]}"
    call.screen.say(f"{text}, with their absolute paths below the directory")
    to = typer.prompt("Restore into the directory (empty: go back)", default="", show_default=False)
    if not to:
        return None
    to = os.path.expanduser(to)
    request = RestoreRequest(
        snapshot=marks.snapshot,
        to=os.fsencode(to),
        includes=tuple((pattern_of if is_dir else file_pattern_of)(path) for path, is_dir in marks.paths.items()),
        workers=call.settings.workers,
    )
    if not os.path.isdir(to) or not os.listdir(to):
        return request
    typer.echo("The directory is not empty. Existing files: a always, c if changed, n never overwrite.")
    answer = typer.prompt("a, c or n (empty: go back)", default="", show_default=False)
    return replace(request, overwrite=OVERWRITE[answer]) if answer in OVERWRITE else None


def _is_confirmed(call: "Call", repository: "Repository", request: "RestoreRequest") -> bool:
    """Show what a restore would do, as `restore --dry-run`, and ask whether to do it."""
    from drtool.operations.restore import restore

    call.name_items(dry_run=True)
    some = _Some(call.emit, None if call.screen.form.verbose else ITEMS_SHOWN)
    document = document_of(restore(repository, replace(request, dry_run=True, names_items=True), some.emit))
    if some.left_out:
        call.screen.stream([line(f"… and {count(some.left_out, 'more item')} (-v names all)")])
    call.show(document, restore_view(document, os.fsdecode(request.to), dry_run=True))
    call.screen.flush()
    return typer.confirm("Restore these?")


def _restore(call: "Call", repository: "Repository", request: "RestoreRequest") -> int:
    from drtool.operations.restore import restore

    names_items = call.screen.form.verbose and call.name_items(dry_run=False)
    document = document_of(restore(repository, replace(request, names_items=names_items), call.emit))
    code = 3 if document["errors"] else 0
    call.show(document, restore_view(document, os.fsdecode(request.to), dry_run=False), exit_code=code)
    return code


class _Some:
    """The first items of a preview, and the number of the others."""

    def __init__(self, emit: Emit, most: int | None) -> None:
        self._emit = emit
        self._most = most
        self._named = 0

    @property
    def left_out(self) -> int:
        return 0 if self._most is None else max(0, self._named - self._most)

    def emit(self, event: Event) -> None:
        if isinstance(event, ItemChanged):
            self._named += 1
            if self.left_out:
                return
        self._emit(event)
