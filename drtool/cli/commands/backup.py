"""`backup`: take one snapshot of each source."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct
from msgspec.structs import replace

from drtool.cli.commands.backup_stdin import Stdin, stream_job
from drtool.cli.core.options import DryRun
from drtool.cli.core.passwords import inherited
from drtool.cli.core.text import Document, count, document_of, duration, size
from drtool.cli.core.view import Cell, Line, Style, View, line, view
from drtool.config import Config, nearest
from drtool.config.life import seconds
from drtool.config.schema import check_name
from drtool.config.units import size_bytes, time_ns_of
from drtool.errors import UsageError, worst_exit

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.operations.backup import BackupRequest, SourceJob
    from drtool.repository import Repository

SHORT_ID = 8


class PathOptions(Struct, frozen=True, kw_only=True):
    """The options of the command line that apply to every source of this run."""

    excludes: tuple[str, ...]
    exclude_caches: bool
    one_file_system: bool
    larger_than_bytes: int | None
    ignore_files: bool
    ignore_inode: bool
    ignore_ctime: bool


_NO_PATH_OPTIONS = PathOptions(
    excludes=(),
    exclude_caches=False,
    one_file_system=False,
    larger_than_bytes=None,
    ignore_files=False,
    ignore_inode=False,
    ignore_ctime=False,
)


def backup(
    context: typer.Context,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]…", help="Back up these files and directories as one snapshot.")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Back up only this source of the configuration (repeatable)."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Leave out paths that match this gitignore pattern (repeatable)."),
    ] = None,
    exclude_file: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Read exclude patterns from this file, one per line.")
    ] = None,
    exclude_caches: Annotated[
        bool, typer.Option("--exclude-caches", help="Leave out directories that a CACHEDIR.TAG marks as caches.")
    ] = False,
    one_file_system: Annotated[
        bool,
        typer.Option(
            "--one-file-system",
            help="Do not cross into other file systems, and store mount points as empty directories.",
        ),
    ] = False,
    exclude_larger_than: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Leave out files larger than this, such as 500MB or 2GiB.")
    ] = None,
    ignore_files: Annotated[
        bool, typer.Option("--ignore-files", help="Apply the .drtoolignore files found in the directories.")
    ] = False,
    ignore_inode: Annotated[
        bool, typer.Option("--ignore-inode", help="Treat a file as unchanged even if its inode number changed.")
    ] = False,
    ignore_ctime: Annotated[
        bool, typer.Option("--ignore-ctime", help="Treat a file as unchanged even if its ctime changed.")
    ] = False,
    files_from: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Read more PATHs from this file, one per line. - reads stdin."),
    ] = None,
    files_from0: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Read PATHs that end with NUL. Symbolic links are stored as links."),
    ] = None,
    skip_if_newer_than: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="Skip a source whose newest snapshot is younger than this: 30m, 20h, 2d."
        ),
    ] = None,
    skip_if_running: Annotated[
        bool, typer.Option("--skip-if-running", help="Skip a source that another process on this host is backing up.")
    ] = False,
    accept_shrink: Annotated[
        bool, typer.Option("--accept-shrink", help="Back up a source even if most of its previous content is gone.")
    ] = False,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Add this tag to the snapshots (repeatable).")
    ] = None,
    host: Annotated[str | None, typer.Option(metavar="HOST", help="Record HOST as the snapshot's host.")] = None,
    time: Annotated[
        str | None, typer.Option(metavar="TIME", help="Record TIME (RFC 3339) as the snapshot's time.")
    ] = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="Store stdin as one file.")] = False,
    stdin_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name the stored file. Slashes make directories.  [default: stdin]"),
    ] = None,
    stdin_command: Annotated[
        bool,
        typer.Option("--stdin-command", help="Store the output of the command after `--`. Fail if the command fails."),
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Take a snapshot of each source.

    Without arguments, every source of the configuration is backed up. All PATHs of one command line become one
    snapshot. Data that is already stored is not stored again. A stream is stored as it arrives and needs no space on
    the local disk. An empty stream is an error.

    Examples:
        drtool backup
        drtool backup /etc /home --exclude '*.tmp' --tag nightly
        drtool backup --source home --dry-run
        drtool backup /srv --ignore-files --exclude-larger-than 2GiB --skip-if-newer-than 20h
        find /data -name '*.csv' -print0 | drtool backup --files-from0 -
        drtool backup --stdin-name orders.sql --stdin-command -- mysqldump --single-transaction orders
        zfs send tank/home@now | drtool backup --stdin --stdin-name home.zfs
    """
    call: Call = context.obj
    for option, values in (("--tag", tag or []), ("--host", [] if host is None else [host]), ("PATH", paths or [])):
        if "" in values:
            raise UsageError(f"{option} is empty", hint=f"leave out {option}, or give it a value")
    if stdin or "-" in (*(files_from or ()), *(files_from0 or ())):
        call.check_open("stdin", hint="pipe data into it, or give --stdin-command or a FILE")
    settings = call.settings
    base = call.check_configured().parent
    import time as clock

    from drtool.operations.backup import BackupRequest
    from drtool.operations.backup import backup as run_backup
    from drtool.sources.filesystem import read_patterns

    path_options = PathOptions(
        excludes=(*(exclude or ()), *(line for name in exclude_file or () for line in read_patterns(name))),
        exclude_caches=exclude_caches,
        one_file_system=one_file_system,
        larger_than_bytes=_read(size_bytes, exclude_larger_than, "--exclude-larger-than"),
        ignore_files=ignore_files,
        ignore_inode=ignore_inode,
        ignore_ctime=ignore_ctime,
    )
    newer_than_s = _read(seconds, skip_if_newer_than, "--skip-if-newer-than")
    listed = bool(files_from or files_from0)
    as_they_are: list[str] = []
    stream = Stdin(stdin=stdin, name=stdin_name, command=stdin_command)
    if stream and (listed or path_options != _NO_PATH_OPTIONS):
        raise UsageError(
            "--exclude…, --files-from, --ignore-… and --one-file-system apply to paths, and a stream has no paths"
        )
    if listed:
        more, as_they_are = paths_from(files_from or (), files_from0 or ())
        paths = [*(paths or ()), *more]
    request = BackupRequest(
        jobs=(stream_job(stream, paths or [], call.words, source or []),)
        if stream
        else tuple(
            replace(job, max_shrink=None) if accept_shrink else job
            for job in jobs(settings.config, base, paths or [], source or [], path_options, as_they_are)
        ),
        tags=tuple(dict.fromkeys(tag or ())),
        host=host or settings.host,
        user=settings.user,
        time_ns=_time_ns(time) if time is not None else None,
        now_ns=clock.time_ns(),
        dry_run=dry_run,
        names_items=call.name_items(dry_run=dry_run),
        shows_progress=call.screen.shows_progress,
        workers=settings.workers,
        owed_s=settings.config.limits.owed,
        environ=inherited(),
    )
    call.begin("backup", dry_run=dry_run)
    with call.open_repository() as repository:
        with ExitStack() as stack:
            chosen, skipped, left_out = _sift(call, repository, request, newer_than_s, skip_if_running, stack)
            document = document_of(run_backup(repository, chosen, call.emit))
        document |= {"skipped": skipped, "left_out": left_out, "changes": call.changes()}
    call.show(document, backup_view(document, dry_run=dry_run), exit_code=exit_code_of(document))


def jobs(
    config: Config,
    base: Path,
    paths: Sequence[str],
    sources: Sequence[str],
    path_options: PathOptions,
    as_they_are: Sequence[str] = (),
) -> "list[SourceJob]":
    """Return the jobs to back up: the given paths, the named sources, or every configured source."""
    from drtool.operations.backup import SourceJob

    given = bool(paths or as_they_are)
    chosen = list(dict.fromkeys(sources)) or ([] if given else list(config.sources))
    if not chosen and not given:
        raise UsageError(
            "nothing to back up: no PATH is given and no sources are configured", hint="drtool backup PATH…"
        )
    result = [_configured(config, base, name, path_options) for name in chosen]
    if given:
        result.append(
            SourceJob(
                name="",
                paths=tuple(map(os.fsencode, paths)),
                paths_as_they_are=tuple(map(os.fsencode, as_they_are)),
                excludes=path_options.excludes,
                exclude_caches=path_options.exclude_caches,
                one_file_system=path_options.one_file_system,
                larger_than_bytes=path_options.larger_than_bytes,
                ignore_files=path_options.ignore_files,
                ignore_inode=path_options.ignore_inode,
                ignore_ctime=path_options.ignore_ctime,
            )
        )
    return result


def _configured(config: Config, base: Path, name: str, path_options: PathOptions) -> "SourceJob":
    """Return the job of a configured source, with the command line's excludes and restrictions added to its own."""
    from drtool.operations.backup import SourceJob
    from drtool.sources.configured import captured_source, patterns, walked_paths

    check_name(name, "source")
    if name not in config.sources:
        raise UsageError(f"no source {name!r} is configured{nearest(name, config.sources)}")
    source = config.sources[name]
    captured = captured_source(source, base)
    return SourceJob(
        name=name,
        captured=captured,
        paths=tuple(map(os.fsencode, walked_paths(source, base))),
        excludes=(*patterns(source), *path_options.excludes),
        exclude_caches=source.exclude_caches or path_options.exclude_caches,
        one_file_system=source.one_file_system or path_options.one_file_system,
        larger_than_bytes=min(
            (size for size in (source.exclude_larger_than, path_options.larger_than_bytes) if size is not None),
            default=None,
        ),
        ignore_files=source.ignore_files or path_options.ignore_files,
        ignore_inode=source.ignore_inode or path_options.ignore_inode,
        ignore_ctime=source.ignore_ctime or path_options.ignore_ctime,
        max_shrink=source.max_shrink,
    )


def _sift(
    call: "Call",
    repository: "Repository",
    request: "BackupRequest",
    newer_than_s: int | None,
    if_running: bool,
    stack: ExitStack,
) -> "tuple[BackupRequest, list[Document], list[Document]]":
    """Return the request without the skipped sources, the skipped sources with reasons, and the targets left out."""
    from drtool.operations.backup.circumstances import at_work, is_recent, without_targets

    jobs: list[SourceJob] = []
    skipped: list[Document] = []
    left_out: list[Document] = []
    for job in request.jobs:
        what = job.name or ", ".join(os.fsdecode(path) for path in (*job.paths, *job.paths_as_they_are))
        if newer_than_s is not None and is_recent(repository, job, request.host, request.now_ns, newer_than_s * 10**9):
            skipped.append({"source": what, "reason": f"its newest snapshot is younger than {newer_than_s} s"})
            continue
        if not request.dry_run:
            busy = stack.enter_context(at_work(repository.spec.state_dir, job, request.host))
            if busy and if_running:
                skipped.append({"source": what, "reason": "another process of this host is backing it up"})
                continue
        kept, targets = without_targets(repository, job, call.emit)
        left_out += map(document_of, targets)
        jobs.append(kept)
    return replace(request, jobs=tuple(jobs)), skipped, left_out


def paths_from(files: Sequence[str], files0: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the paths that the files list, one per line or with NULs. Empty paths are dropped."""
    lines = [part.removesuffix(b"\r") for name in files for part in _listed(name).split(b"\n")]
    parts = [part for name in files0 for part in _listed(name).split(b"\0")]
    paths, as_they_are = [os.fsdecode(line) for line in lines if line], [os.fsdecode(part) for part in parts if part]
    if not paths and not as_they_are:
        raise UsageError(
            f"{', '.join((*files, *files0))} lists no path", hint="list one PATH per line, or PATHs that end with NUL"
        )
    return paths, as_they_are


def _listed(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"the list of paths {name} cannot be read: {error.strerror}") from None


def _read(read: Callable[[object], int], text: str | None, option: str) -> int | None:
    try:
        return None if text is None else read(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _time_ns(text: str) -> int:
    try:
        time_ns = time_ns_of(text)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--time {text!r} is not RFC 3339: {error}", hint="--time 2026-01-31T22:30:00+01:00") from None
    if not -(2**63) <= time_ns < 2**63:
        raise UsageError(
            f"--time {text!r} is outside the range that a snapshot can record", hint="give a year from 1678 to 2261"
        )
    return time_ns


def exit_code_of(document: Document) -> int:
    codes = [row["exit_code"] for row in document["failed"]]
    codes += [3 for row in document["snapshots"] if row["errors"]]
    codes += [5 for row in document["snapshots"] if row["degraded"]]
    return worst_exit(0, *codes)


def backup_view(document: Document, *, dry_run: bool) -> View:
    parts: list[Line] = []
    for row in document["snapshots"]:
        parts += _snapshot_lines(row, dry_run=dry_run)
    parts += _owed_lines(document["snapshots"])
    parts += [
        line(Cell("no snapshot ", "bad"), f"of {failure['path'] or 'these paths'}: {failure['message']}")
        for failure in document["failed"]
    ]
    parts += [line(Cell(words, style)) for words, style in _brought(document)]
    skipped = [f"skipped {row['source']}: {row['reason']}" for row in document.get("skipped", ())]
    parts += [line(text) for text in skipped]
    brought = [words for words, _ in _brought(document)]
    summary = (*(_summary(row, dry_run=dry_run) for row in document["snapshots"]), *brought, *skipped)
    return view(*parts, summary=summary or "nothing was stored")


def _brought(document: Document) -> Iterator[tuple[str, Style]]:
    """Yield what was copied to targets that were owed it, and what they are owed still."""
    for row in document.get("brought", ()):
        if row["copied"]["objects"]:
            yield f"copied {_amount(row['copied'])}, to {row['target']}, which was owed them", "good"
        if row["left"]["objects"]:
            why = f" ({row['reason']})" if row["reason"] else ""
            yield (
                f"{row['target']} is still owed {_amount(row['left'])}{why}: the next backups or drtool repair bring it",
                "warn",
            )


def _amount(amount: Document) -> str:
    return f"{count(amount['objects'], 'object')}, {size(amount['bytes'])}"


def _owed_lines(rows: "Sequence[Document]") -> list[Line]:
    """Name each target that misses objects, once for all snapshots."""
    numbers = Counter((owed["target"], owed["reason"]) for row in rows for owed in row["owed"])
    return [
        line(Cell(f"  owed to {target}{_of(number) if len(rows) > 1 else ''}: ", "warn"), reason)
        for (target, reason), number in numbers.items()
    ]


def _of(snapshots: int) -> str:
    return f" ({count(snapshots, 'snapshot')})"


def _what(row: Document) -> str:
    return f"{row['host']}, source {row['source']}" if row["source"] else str(row["host"])


def _summary(row: Document, *, dry_run: bool) -> str:
    """Return one line for cron."""
    files = row["files"]
    if dry_run:  # how much of it is new is only known once it is stored
        head, outcome = "would store a snapshot", ""
    else:
        head = f"snapshot {row['id'][:SHORT_ID]}"
        outcome = f", {size(row['added_bytes'])} new, {size(row['stored_bytes'])} stored"
    troubles = [f"{len(row['errors'])} not read"] if row["errors"] else []
    left_out = f", {count(row['sockets'], 'socket')} left out" if row["sockets"] else ""
    copies = row["copies"]
    few = f"DEGRADED: {copies['minimum_written']} of {copies['wanted']} copies; `drtool repair` makes the missing ones"
    troubles += [few] if row["degraded"] else []
    troubles += [f"owed to {', '.join(owed['target'] for owed in row['owed'])}"] if row["owed"] else []
    return (
        f"{head} of {_what(row)}: {count(sum(files.values()), 'file')} ({files['new']:,} new, {files['changed']:,} changed), "
        f"{size(row['processed_bytes'])} scanned{left_out}{outcome}, "
        f"{duration(row['wall_seconds'])}{''.join('; ' + trouble for trouble in troubles)}"
    )


def _snapshot_lines(row: Document, *, dry_run: bool) -> list[Line]:
    files, dirs, copies = row["files"], row["dirs"], row["copies"]
    head = Cell("dry run ", "warn") if dry_run else Cell(f"snapshot {row['id'][:SHORT_ID]} ", "strong")
    parent = f"since {row['parent'][:SHORT_ID]}" if row["parent"] else "no parent"
    lines = [
        line(head, f"of {_what(row)} ", Cell(f"({parent}, {duration(row['wall_seconds'])})", "dim")),
        line(
            f"  {count(sum(files.values()), 'file')}: {files['new']:,} new, {files['changed']:,} changed, "
            f"{files['unmodified']:,} as before; {count(sum(dirs.values()), 'directory', 'directories')}"
        ),
    ]
    if row["sockets"]:
        lines.append(line(f"  {count(row['sockets'], 'socket')} left out"))
    if dry_run:
        lines += [line(f"  {fact}") for fact in row["facts"]]
        lines.append(line(f"  scanned {size(row['processed_bytes'])}"))
    else:
        lines.append(
            line(
                f"  scanned {size(row['processed_bytes'])}, new {size(row['added_bytes'])}, "
                f"stored {size(row['stored_bytes'])} over all copies"
            )
        )
        enough = copies["minimum_written"] >= copies["wanted"]
        lines.append(
            line(Cell(f"  {copies['minimum_written']} of {copies['wanted']} copies", "good" if enough else "bad"))
        )
    if row["errors"]:
        lines.append(line(Cell(f"  {count(len(row['errors']), 'item')} could not be read, see above", "bad")))
    return lines
