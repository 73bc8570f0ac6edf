"""`key kit`: print the recovery kit, or write it as a page or a text file."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.options import ManifestFrom, sites
from drtool.cli.core.text import Document, document_of
from drtool.cli.core.view import Cell, View, line, view
from drtool.errors import Refused, UsageError
from drtool.events import Warned

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def key_kit(
    context: typer.Context,
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Write a page to print, on one A4 sheet.")] = None,
    text: Annotated[str | None, typer.Option(metavar="FILE", help="Write it as plain text.")] = None,
    print_: Annotated[bool, typer.Option("--print", help="Print the text, even if a file is named.")] = False,
    with_password: Annotated[
        bool, typer.Option("--with-password", help="Include the password in use instead of a blank line.")
    ] = False,
    manifest_from: ManifestFrom = None,
) -> None:
    """Make the recovery kit.

    It contains all that is needed to restore from one site with nothing else left. The kit names the repository, its
    places and passwords, and lists the exact commands from a bare machine to restored files. It is made as text and
    as a page with QR codes. Without --with-password it holds no secret. A file with the password can be read by its
    owner only (mode 0600). Existing files are never overwritten.

    Examples:
        drtool key kit --html kit.html
        drtool key kit --print | lp
        drtool key kit --html kit.html --with-password
    """
    from drtool.operations.kit import recovery_kit
    from drtool.reports.kit import html_page, steps, text_page

    call: Call = context.obj
    files = {name: Path(name) for name in (html, text) if name is not None}
    for path in files.values():
        _check_free(path)
    if html is not None and text is not None and files[html].absolute() == files[text].absolute():
        raise UsageError("--html and --text name the same file")
    with call.open_repository(sites(manifest_from)) as repository:
        kit = recovery_kit(repository, with_password=with_password)
    if html is not None:
        _write(files[html], html_page(kit), secret=with_password)
    if text is not None:
        _write(files[text], text_page(kit), secret=with_password)
    document = document_of(kit)
    del document["password"]
    document |= {"html": html, "text": text, "password_included": with_password}
    document["commands"] = [command for step in steps(kit) for command in step.commands]
    shown = text_page(kit, dark=call.screen.draws) if print_ or not files else None
    if shown is not None and with_password and call.screen.form.documents:
        call.emit(Warned(message="a JSON document never holds the password; name a file for the kit: --html FILE"))
    call.show(document, kit_view(document, shown))


def _check_free(path: Path) -> None:
    if path.exists():
        raise Refused(
            f"{path} already exists and is not overwritten", hint="name another file, or remove this one first"
        )


def _write(path: Path, content: str, *, secret: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if secret else 0o666)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
    except BaseException:
        path.unlink(missing_ok=True)  # half a kit is worse than none
        raise


def kit_view(document: Document, shown: str | None) -> View:
    if shown is not None:
        return view(*(line(row) for row in shown.splitlines()))
    files = ", ".join(name for name in (document["html"], document["text"]) if name is not None)
    advice = (
        "it holds the password: print it, then delete the file"
        if document["password_included"]
        else "write the password in by hand, and keep the page away from the sites"
    )
    return view(line(Cell("wrote ", "good"), f"{files}; {advice}"))
