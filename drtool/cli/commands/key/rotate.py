"""`key rotate`: encrypt data stored from now on with a new key."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.commands.key.slots import unheld_lines
from drtool.cli.core.options import DryRun
from drtool.cli.core.passwords import password_from_file
from drtool.cli.core.text import Document, document_of
from drtool.cli.core.view import Cell, Line, View, line, view
from drtool.errors import worst_exit

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def key_rotate(
    context: typer.Context,
    also_password_file: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Keep this further password too, the first line of FILE (repeatable)."),
    ] = None,
    drop_others: Annotated[
        bool, typer.Option("--drop-others", help="Remove every password that is not given.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Encrypt data stored from now on with a new key.

    Existing data stays readable and stays under the old key. The new key must be encrypted with each password that is
    kept. The password in use is kept. Give each further one in a file, or drop it with --drop-others.

    Examples:
        drtool key rotate
        drtool key rotate --also-password-file /etc/drtool/password-of-oslo
        drtool key rotate --drop-others --dry-run
    """
    from drtool.operations.keys import plan_rotation, preview, rotate_keys

    call: Call = context.obj
    others = [(name, password_from_file(Path(name))()) for name in also_password_file or ()]
    with call.open_repository() as repository:
        plan = plan_rotation(repository, others, drop_others=drop_others)
        document = document_of(preview(repository, plan) if dry_run else rotate_keys(repository, plan, call.emit))
    codes = (5 if document["missing"] else 0, 3 if document["still_at"] else 0)
    call.show(document, rotation_view(document), exit_code=0 if dry_run else worst_exit(*codes))


def rotation_view(document: Document) -> View:
    now = (
        "would begin a new key generation"
        if document["dry_run"]
        else f"new objects: key generation {document['generation']}"
    )
    kept = [line(Cell("  keeps   ", "good"), f"{row['label']}{_arrow(row)}") for row in document["kept"]]
    dropped = [line(Cell("  drops   ", "warn"), f"{row['label']} ({row['id']})") for row in document["dropped"]]
    return view(
        line(Cell(now, "strong"), f", after {document['previous_generation']}; existing data stays under its key"),
        *kept,
        *dropped,
        *unheld_lines("missing", document["missing"]),
        *unheld_lines("old slots perhaps still at", document["still_at"]),
        *_later_lines(document),
    )


def _later_lines(document: Document) -> list[Line]:
    """Return what brings the slots up to date at the targets that were away."""
    away = sorted({row["target"] for row in (*document["missing"], *document["still_at"])})
    words = (
        f"  when {', '.join(away)} can be used again: drtool repair writes the new slots there and removes the old ones"
    )
    return [line(words)] if away and not document["dry_run"] else []


def _arrow(row: Document) -> str:
    old = ", ".join(row["replaces"]) or "new"
    return f" ({old} → {row['id']})" if row["id"] else f" ({old})"
