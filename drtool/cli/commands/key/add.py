"""`key add`: add a password."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.commands.key.slots import but_words, unheld_lines
from drtool.cli.core.passwords import new_password, password_from_file
from drtool.cli.core.text import Document, document_of
from drtool.cli.core.view import Cell, View, line, view
from drtool.errors import UsageError

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def key_add(
    context: typer.Context,
    label: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Label the password with TEXT (default: added on this host).")
    ] = None,
    new_password_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Read the new password from the first line of this file instead of asking."),
    ] = None,
) -> None:
    """Add a password. Each password opens the whole repository.

    Exit 5 if a target that keeps key slots could not store this one. The next backup stores it there.

    Examples:
        drtool key add --label "safe deposit box"
        drtool key add --label laptop --new-password-file /media/stick/password
    """
    from drtool.operations.keys import add_key

    call: Call = context.obj
    with call.open_repository() as repository:
        password = _new_password(call, new_password_file)
        called = label if label is not None else f"added on {call.settings.host}"
        document = document_of(add_key(repository, password, called, call.emit))
    call.show(document, add_view(document), exit_code=5 if document["missing"] else 0)


def _new_password(call: "Call", file: str | None) -> bytes:
    if file is None:
        if not sys.stdin.isatty():
            raise UsageError(
                "no new password: --new-password-file is missing, and there is no terminal to ask on",
                hint="give --new-password-file FILE; --password-file names the password that opens the repository",
            )
        return new_password(call)
    if call.options.password_file and Path(file).absolute() == Path(call.options.password_file).absolute():
        raise UsageError(
            "--password-file and --new-password-file are the same file", hint="use another file for the new password"
        )
    return password_from_file(Path(file))()


def add_view(document: Document) -> View:
    return view(
        line(Cell("added ", "good"), f"key slot {document['id']} ({document['label']})"),
        line(f"  at {', '.join(document['targets'])}"),
        *unheld_lines("missing", document["missing"]),
        summary=f"added key slot {document['id']} at {', '.join(document['targets'])}{but_words(document['missing'])}",
    )
