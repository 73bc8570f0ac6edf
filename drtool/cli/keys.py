"""`key list`, `add`, `remove` and `rotate`: the passwords that open the repository."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.founding import new_password
from drtool.cli.options import DryRun, ManifestFrom, sites
from drtool.cli.settings import password_from_file
from drtool.cli.text import Document, count, document_of, local
from drtool.cli.view import Cell, Line, View, line, table, view
from drtool.errors import UsageError, worst_exit

if TYPE_CHECKING:
    from drtool.cli.call import Call


def key_list(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """List the passwords: label, creation time, and the targets that hold each key slot.

    Each password has a key slot, a small file that holds the repository's keys, encrypted with that password. A
    target without key slots cannot be opened on its own, so missing slots are reported here and by `status`. The next
    backup or `key` command restores them.

    Examples:
        drtool key list
        drtool key list --json | jq '.slots[] | select(.missing != [])'
    """
    from drtool.operations.keys import list_keys

    call: Call = context.obj
    with call.open_anyhow(sites(manifest_from)) as repository:
        document = document_of(list_keys(repository))
    call.show(document, list_view(document), exit_code=6 if repository.uncertain else 0)


def key_add(
    context: typer.Context,
    label: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Label the password with TEXT (default: added on this host).")
    ] = None,
    new_password_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Read the new password from the first line of this file; otherwise ask for it."
        ),
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


def key_rotate(
    context: typer.Context,
    also_password_file: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Keep this further password too, the first line of FILE; repeatable."),
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


def list_view(document: Document) -> View:
    rows = [
        (
            Cell(row["id"], "strong"),
            local(row["created"]) if row["created"] else "-",
            _places(row),
            Cell("in use", "good") if row["in_use"] else "",
            row["label"],
        )
        for row in document["slots"]
    ]
    head = line(Cell("key generation ", "dim"), str(document["generation"]))
    problems = [line(Cell("! ", "bad"), problem) for problem in document["problems"]]
    return view(head, table("ID SINCE TARGETS THIS_RUN LABEL", rows), *problems)


def _places(row: Document) -> Cell:
    absent = [*(f"-{name}" for name in row["missing"]), *(f"!{name}" for name in row["damaged"])]
    return Cell(" ".join((*row["targets"], *absent)) or "nowhere", "bad" if absent or not row["targets"] else "")


def add_view(document: Document) -> View:
    return view(
        line(Cell("added ", "good"), f"key slot {document['id']} ({document['label']})"),
        line(f"  at {', '.join(document['targets'])}"),
        *_unheld("missing", document["missing"]),
        summary=f"added key slot {document['id']} at {', '.join(document['targets'])}{_but(document['missing'])}",
    )


_HONEST = (
    "anyone who kept a copy of it and has its password still has the keys; `drtool key rotate` "
    "closes data stored from now on to them"
)


def removal_view(document: Document) -> View:
    name = f"key slot {document['id']} ({document['label']})"
    left = f"{count(document['left'], 'password')} left"
    done = Cell("would remove ", "warn") if document["dry_run"] else Cell("removed ", "good")
    still = _but(document["still_at"], "perhaps still at")
    return view(
        line(done, f"{name}, {left}"),
        line(f"  from {', '.join(document['targets']) or 'no target'}"),
        *_unheld("perhaps still at", document["still_at"]),
        line(Cell("  this does not revoke: ", "warn"), _HONEST),
        summary=f"{done.text}{name}, {left}{still}; this does not revoke: {_HONEST}",
    )


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
        *_unheld("missing", document["missing"]),
        *_unheld("old slots perhaps still at", document["still_at"]),
    )


def _arrow(row: Document) -> str:
    old = ", ".join(row["replaces"]) or "new"
    return f" ({old} → {row['id']})" if row["id"] else f" ({old})"


def _unheld(what: str, rows: Sequence[Document]) -> list[Line]:
    return [line(Cell(f"  {what} ", "warn"), f"{row['target']}: {row['reason']}") for row in rows]


def _but(rows: Sequence[Document], what: str = "missing at") -> str:
    return f"; {what} {', '.join(row['target'] for row in rows)}" if rows else ""
