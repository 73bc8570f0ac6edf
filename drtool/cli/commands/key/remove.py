"""`key remove`: remove a password."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.commands.key.slots import but_words, unheld_lines
from drtool.cli.core.options import DryRun
from drtool.cli.core.text import Document, count, document_of
from drtool.cli.core.view import Cell, View, line, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def key_remove(
    context: typer.Context,
    slot: Annotated[
        str, typer.Argument(metavar="ID", help="Remove this password: a unique prefix of an id from `key list`.")
    ],
    in_use: Annotated[bool, typer.Option("--in-use", help="Remove it even if this run uses it.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Remove a password.

    This does not revoke access. Anyone who kept a copy of the slot and has its password still has the keys. Run `key
    rotate` afterwards, so that at least data stored from then on stays closed to them. The last password cannot be
    removed.

    Examples:
        drtool key remove 3f2a --dry-run
        drtool key remove 3f2a && drtool key rotate
    """
    from drtool.operations.keys import plan_removal, remove_key

    call: Call = context.obj
    with call.open_repository() as repository:
        plan = plan_removal(repository, slot, in_use=in_use)
        document = document_of(plan if dry_run else remove_key(repository, plan, call.emit))
    call.show(document, removal_view(document), exit_code=3 if document["still_at"] and not dry_run else 0)


_HONEST = (
    "anyone who kept a copy of it and has its password still has the keys; `drtool key rotate` "
    "closes data stored from now on to them"
)


def removal_view(document: Document) -> View:
    name = f"key slot {document['id']} ({document['label']})"
    left = f"{count(document['left'], 'password')} left"
    done = Cell("would remove ", "warn") if document["dry_run"] else Cell("removed ", "good")
    still = but_words(document["still_at"], "perhaps still at")
    return view(
        line(done, f"{name}, {left}"),
        line(f"  from {', '.join(document['targets']) or 'no target'}"),
        *unheld_lines("perhaps still at", document["still_at"]),
        line(Cell("  this does not revoke: ", "warn"), _HONEST),
        summary=f"{done.text}{name}, {left}{still}; this does not revoke: {_HONEST}",
    )
