"""Restore in place: the symbolic links on the way that it follows."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from drtool.errors import Refused
from drtool.manifest.records import Snapshot
from drtool.operations.restore.request import RestoreRequest
from drtool.operations.restore.walk import named_entry, start
from drtool.repository import Repository
from drtool.sources.filesystem import Applier, Detours, Folder, Sight, plan_detours
from drtool.trees import Entry, Fetch, FileType, read_directory, split_path

Names = tuple[bytes, ...]


class _Way(dict[bytes, "_Way"]):
    """The names that lead on, and where from there."""


def open_destination(repository: Repository, request: RestoreRequest, above: Names) -> Folder:
    """Open the directory to restore into, created if absent. Refused if a new symbolic link is on the way in place."""
    applier = Applier(request.owners, Sight.of(request.snapshot.hidden))
    if not request.in_place:
        return _marked(repository, request, above, Folder.destination(request.to, applier))
    detours = plan_detours(_named(request.snapshot, repository.trees))
    entries = _entries(request.snapshot, above, repository.trees)
    with _refusing(request, above, detours):
        return Folder.in_place(above, detours, applier, entries)


def look_at_destination(repository: Repository, request: RestoreRequest, above: Names) -> Folder | None:
    """Open the directory to restore into if it exists, and create nothing. Refused as by `open_destination`."""
    applier = Applier(request.owners, Sight.of(request.snapshot.hidden))
    if not request.in_place:
        if not os.path.isdir(request.to):
            return None
        return _marked(repository, request, above, Folder.destination(request.to, applier))
    detours = plan_detours(_named(request.snapshot, repository.trees))
    with _refusing(request, above, detours):
        return Folder.found_in_place(above, detours, applier)


def _marked(repository: Repository, request: RestoreRequest, above: Names, folder: Folder) -> Folder:
    """Return a named destination, which follows links in place if it is the original place.

    `above` leads to the restored part in the snapshot. The directory itself is compared, since a name may lead to it by
    a link, or it may be mounted in two places.
    """
    with suppress(OSError):
        if os.path.samestat(os.fstat(folder.fd), os.stat(_path(above))):
            folder.is_in_place = True
            folder.detours = plan_detours(_named(request.snapshot, repository.trees)).below(above)
    return folder


@contextmanager
def _refusing(request: RestoreRequest, above: Names, detours: Detours) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        steps = (above[:depth] for depth in range(1, len(above) + 1))
        why = next((f"{_path(step)}: {detours.refused[step]}" for step in steps if step in detours.refused), "")
        raise Refused(
            f"{os.fsdecode(request.to)} cannot be reached as it was when it was backed up: {why or error.strerror}",
            hint="--to DIR restores into any directory, through symbolic links, too",
        ) from error


def _path(names: Names) -> str:
    return os.fsdecode(b"/" + b"/".join(names))


def destination_of(repository: Repository, request: RestoreRequest) -> Folder:
    """Open the destination of a completed restore, to inspect its present contents."""
    named = named_entry(request.snapshot.root, request.path, repository.trees)
    above, _ = start(request.path, named, request.snapshot.root, repository.trees)
    return open_destination(repository, request, above)


def refusal(root: Folder, names: Names, *, is_way: bool) -> str:
    """Return why a symbolic link in the place of a directory is neither replaced nor followed, or an empty string."""
    if names in root.detours.ways or names in root.detours.refused or not is_way:
        return root.detours.refused.get(names, "")
    with Folder(root.descend(names[:-1]), root.applier, existed=False) as parent:
        found = parent.stat(names[-1])
    is_link = found is not None and stat.S_ISLNK(found.st_mode)
    return "it is a symbolic link, and was a directory when it was backed up" if is_link else ""


def _entries(snapshot: Snapshot, above: Names, fetch: Fetch) -> list[Entry | None]:
    """Return the directories that lead to the restored part, from the snapshot. None for a file or an unknown one."""
    found: list[Entry | None] = []
    subtree: bytes = snapshot.root
    for part in above:
        entry = next((row for row in read_directory(subtree, fetch) if row.name == part), None) if subtree else None
        subtree = entry.subtree if entry is not None else b""
        found.append(entry if entry is not None and entry.type == FileType.DIRECTORY else None)
    return found


def _named(snapshot: Snapshot, fetch: Fetch) -> Iterator[tuple[Names, Entry]]:
    """Yield the paths named in the snapshot and the directories above them, parents first."""
    ways = _Way()
    for path in snapshot.paths:
        at = ways
        for part in split_path(path):
            at = at.setdefault(part, _Way())
    stack: list[tuple[Names, bytes, _Way]] = [((), snapshot.root, ways)]
    while stack:
        names, subtree, way = stack.pop()
        for entry in read_directory(subtree, fetch) if subtree and way else ():
            if entry.name in way:
                yield (*names, entry.name), entry
                stack.append(((*names, entry.name), entry.subtree, way[entry.name]))
