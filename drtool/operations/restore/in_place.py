"""A restore to where it was: which symbolic links on the way there it goes through."""

import os
import stat
from collections.abc import Iterator

from drtool.errors import Refused
from drtool.manifest.records import Snapshot
from drtool.operations.restore.request import RestoreRequest
from drtool.operations.restore.walk import named_entry, start
from drtool.repository import Repository
from drtool.sources.filesystem import Applier, Folder, plan_detours
from drtool.trees import Entry, Fetch, FileType, read_directory, split_path

Names = tuple[bytes, ...]


class _Way(dict[bytes, "_Way"]):
    """The names that lead on, and where from there."""


def is_in_place(request: RestoreRequest, above: Names) -> bool:
    """Return whether things come back to where they were; `above` leads to what is restored in the snapshot."""
    return request.in_place or os.path.realpath(request.to) == b"/" + b"/".join(above)


def open_destination(repository: Repository, request: RestoreRequest, above: Names) -> Folder:
    """Open the directory to restore into, created if absent. Refused if a symbolic link that was none is on the way in place."""
    applier = Applier(request.owners)
    if not is_in_place(request, above):
        return Folder.destination(request.to, applier)
    detours = plan_detours(_named(request.snapshot, repository.trees))
    if not request.in_place:
        folder = Folder.destination(request.to, applier)
        folder.detours = detours.below(above)
        return folder
    try:
        return Folder.in_place(above, detours, applier, _entries(request.snapshot, above, repository.trees))
    except OSError as error:
        raise Refused(
            f"{os.fsdecode(request.to)} cannot be reached as it was when it was backed up: {error.strerror}",
            hint="--to DIR restores into any directory, through symbolic links, too",
        ) from error


def destination_of(repository: Repository, request: RestoreRequest) -> Folder:
    """Open the destination of a restore that was done, to look at what is there now."""
    named = named_entry(request.snapshot.root, request.path, repository.trees)
    above, _ = start(request.path, named, request.snapshot.root, repository.trees)
    return open_destination(repository, request, above)


def refusal(root: Folder, names: Names, *, is_way: bool) -> str:
    """Return why a symbolic link in the place of a directory neither gives way nor is gone through; empty if none does so."""
    if names in root.detours.ways or names in root.detours.refused or not is_way:
        return root.detours.refused.get(names, "")
    with Folder(root.descend(names[:-1]), root.applier, existed=False) as parent:
        found = parent.stat(names[-1])
    is_link = found is not None and stat.S_ISLNK(found.st_mode)
    return "it is a symbolic link, and was a directory when it was backed up" if is_link else ""


def _entries(snapshot: Snapshot, above: Names, fetch: Fetch) -> list[Entry | None]:
    """Return the directories that lead to what is restored, as the snapshot has them; None for a file or an unknown one."""
    found: list[Entry | None] = []
    subtree: bytes = snapshot.root
    for part in above:
        entry = next((row for row in read_directory(subtree, fetch) if row.name == part), None) if subtree else None
        subtree = entry.subtree if entry is not None else b""
        found.append(entry if entry is not None and entry.type == FileType.DIRECTORY else None)
    return found


def _named(snapshot: Snapshot, fetch: Fetch) -> Iterator[tuple[Names, Entry]]:
    """Yield what was named when the snapshot was taken and the directories above it, parents first."""
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
