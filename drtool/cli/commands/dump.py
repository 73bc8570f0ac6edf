"""`dump`: write a file or an archive from a snapshot to stdout."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

import typer

from drtool.cli.core.options import (
    Hosts,
    ManifestFrom,
    SnapshotArgument,
    Sources,
    Tags,
    narrowing,
    sites,
    split_snapshot,
)
from drtool.cli.core.selection import chosen_snapshot
from drtool.cli.core.streams import occupy
from drtool.cli.core.text import document_of
from drtool.cli.core.view import line, view
from drtool.errors import EXIT_READER_LEFT, DrtoolError, UsageError

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.operations.dumping import Dumped, Place
    from drtool.repository import Repository


def dump(
    context: typer.Context,
    snapshot: SnapshotArgument,
    archive: Annotated[
        Literal["tar", "zip"] | None,
        typer.Option("--archive", help="Write a directory, or the whole snapshot, as an archive."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Write to this new file instead of stdout.")
    ] = None,
    host: Hosts = None,
    tag: Tags = None,
    source: Sources = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """Write a file or an archive from a snapshot to stdout.

    SNAPSHOT:PATH names one file. With --archive, it names a directory, or the whole snapshot if there is no PATH.
    Names in an archive are relative to PATH. tar keeps modes, owners, times, links, attributes and flags. zip keeps
    contents and modes. Exit 1 if something cannot be read or written completely. The archive is then cut off, so that
    readers detect it. Exit 3 if something is left out and named, because it could not be read when the snapshot was
    taken or does not fit into the archive. Exit 141 if the reader closes the pipe early.

    Examples:
        drtool dump latest:/etc/fstab
        drtool dump latest:/home/ann --archive tar | tar -tv
        drtool dump 3f2a:/srv --archive zip --to srv.zip
    """
    from drtool.operations.dumping import place_of

    call: Call = context.obj
    if to is None and call.screen.form.documents:
        raise UsageError("stdout cannot carry both a file and a JSON document", hint="add --to FILE")
    if to is None:
        call.check_open("stdout", hint="pipe it into a program, or add --to FILE")
    if to is None and archive is not None and sys.stdout.isatty():
        raise UsageError("an archive cannot be written to a terminal", hint="pipe it into a program, or add --to FILE")
    name, path = split_snapshot(snapshot)
    with call.open_for_reading(sites(manifest_from)) as repository:
        chosen = chosen_snapshot(call, repository, name, narrowing(host, tag, source), path)
        place = place_of(repository, chosen, path)
        try:
            with _opened(to) as out:
                done = _dump(call, repository, place, archive, out)
        except BrokenPipeError:
            occupy(1)
            call.exit_code = EXIT_READER_LEFT
            return
    code = 3 if done.errors else 0
    if to is None:
        call.exit_code = code
        return
    call.show(document_of(done), view(line(f"{to}: {done.files} files, {done.bytes:,} bytes")), exit_code=code)


def _dump(call: "Call", repository: "Repository", place: "Place", archive: str | None, out: BinaryIO) -> "Dumped":
    from drtool.operations.dumping import dump_archive, dump_file

    if archive is None:
        return dump_file(repository, place, out)
    return dump_archive(repository, place, "tar" if archive == "tar" else "zip", out, call.emit)


@contextmanager
def _stdout() -> Iterator[BinaryIO]:
    """Yield stdout. When the block ends without an error, its file system has taken every byte."""
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        os.close(os.dup(1))  # some file systems, such as NFS, report a full disk only here
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename not in ("stdout", None):
            raise
        occupy(1)
        raise DrtoolError(
            f"the dump is incomplete: stdout cannot be written: {error.strerror or error}",
            hint="make room, or choose another place, and dump it again",
        ) from None


@contextmanager
def _opened(to: Path | None) -> Iterator[BinaryIO]:
    """Yield stdout, or a new file for this user alone that appears only when it is complete."""
    if to is None:
        with _stdout() as out:
            yield out
        return
    if os.path.lexists(to):
        raise UsageError(f"{to} already exists", hint="name a new file")
    part = to.with_name(f".{to.name}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise DrtoolError(f"{part} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.link(part, to)
    except FileExistsError:
        raise UsageError(f"{to} already exists", hint="name a new file") from None
    except OSError as error:
        raise DrtoolError(
            f"{to} cannot be written: {error.strerror or error}", hint="nothing was left behind"
        ) from None
    finally:
        part.unlink(missing_ok=True)
