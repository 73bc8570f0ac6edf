"""`drift`: the differences between this host and a snapshot of its system. Nothing is changed.

Files are compared by content: each is cut at the snapshot's chunk boundaries and hashed. Of a package database only the
packages are compared, not its files.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from drtool.errors import DrtoolError
from drtool.manifest.records import Snapshot
from drtool.operations.verify.restored import Comparer, Place
from drtool.repository import Repository
from drtool.sources.filesystem import Rules, join, plan_roots
from drtool.sources.system import (
    INVENTORY,
    INVENTORY_BYTES_MAX,
    PACKAGE_DATABASES,
    WHAT,
    Difference,
    System,
    counted,
    differences,
    lacking,
    present_system,
    read_system,
)
from drtool.trees import Entry, FileType, find_entry, read_content, walk

FILES = "files"
ASPECTS = (*WHAT, FILES)
_OURS = os.path.dirname(INVENTORY)


class Unknown(Struct, frozen=True):
    """An item that could not be compared, and why."""

    what: str
    reason: str


class Drift(Struct, kw_only=True):
    snapshot: str
    host: str
    """The recorded host."""
    compared: dict[str, int] = {}
    """How many items of each aspect were compared."""
    differences: list[Difference] = []
    unknown: list[Unknown] = []


def recorded_system(repository: Repository, snapshot: Snapshot) -> System:
    """Return the recorded system. DrtoolError if the snapshot is of something else."""
    entry = find_entry(snapshot.root, INVENTORY, repository.trees)
    if entry is None or entry.type != FileType.FILE or entry.size_bytes > INVENTORY_BYTES_MAX:
        raise DrtoolError(
            f"snapshot {snapshot.id.hex()[:8]} is not of a system",
            hint="name the source that is: --source NAME; `sources: {host: {system: {}}}` configures one",
        )
    return read_system(b"".join(map(repository.chunks, read_content(entry, repository.trees))))


def drift(
    repository: Repository,
    snapshot: Snapshot,
    environ: Mapping[str, str],
    *,
    what: Sequence[str] = ASPECTS,
    excludes: Sequence[str] = (),
) -> Drift:
    """Compare this host with the snapshot. DrtoolError if the snapshot is not of a system, or cannot be read."""
    recorded = recorded_system(repository, snapshot)
    repository.load_index()
    found = present_system(environ)
    result = Drift(snapshot=snapshot.id.hex(), host=snapshot.host)
    described = [each for each in what if each != FILES]
    result.differences += differences(recorded, found, described)
    result.unknown += [Unknown(*row) for row in lacking(recorded, found, described).items()]
    result.compared = counted(recorded, found, described)
    if FILES in what:
        files = _Files(repository, snapshot, excludes)
        result.differences += files.differences()
        result.unknown += files.unread
        result.compared[FILES] = files.count
    return result


class _Files:
    """The snapshot's files, compared with those of this host."""

    def __init__(self, repository: Repository, snapshot: Snapshot, excludes: Sequence[str]) -> None:
        self._repository = repository
        self._comparer = Comparer(repository)
        self._root = snapshot.root
        self._paths = tuple(path for path in snapshot.paths if path != _OURS)
        self._rules = Rules(plan_roots(self._paths), excludes)
        self._names: dict[bytes, set[bytes]] = {}
        """The snapshot's names in each directory that it captured whole."""
        self.unread: list[Unknown] = []
        self.count = 0

    def differences(self) -> Iterator[Difference]:
        for path, entry in walk(self._root, b"/", self._repository.trees):
            if not self._is_taken(path):
                continue
            self._names.setdefault(os.path.dirname(path), set()).add(entry.name)
            if path in PACKAGE_DATABASES:
                continue
            if entry.uncaptured:
                self.unread.append(Unknown(os.fsdecode(path), f"when it was recorded: {'; '.join(entry.uncaptured)}"))
                continue
            if entry.type == FileType.DIRECTORY:
                self._names.setdefault(path, set())
            row = self._difference(path, entry)
            if row is not None:
                yield row
        for directory, names in self._names.items():
            if self._is_taken(directory):
                yield from self._added(directory, names)

    def _is_taken(self, path: bytes) -> bool:
        """Return whether it is one of the snapshot's paths or below one. Those above only lead there."""
        within = any(path == each or path.startswith(each.rstrip(b"/") + b"/") for each in self._paths)
        return within and path != _OURS and not path.startswith(_OURS + b"/")

    def _difference(self, path: bytes, entry: Entry) -> Difference | None:
        name = os.fsdecode(path)
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            self.count += 1
            return Difference(FILES, "removed", name)
        except OSError as error:
            self.unread.append(Unknown(name, error.strerror or str(error)))
            return None
        if entry.type == FileType.FILE and os.path.isfile(path) and not os.access(path, os.R_OK):
            self.unread.append(Unknown(name, "permission denied"))
            return None
        self.count += 1
        is_behind_link = entry.link_target and entry.type in (FileType.DIRECTORY, FileType.FILE)
        place = Place(os.path.realpath(path) if is_behind_link else path)
        reason = self._comparer.difference(entry, place, restored=False)
        return Difference(FILES, "changed", name, reason) if reason else None

    def _added(self, directory: bytes, names: set[bytes]) -> Iterator[Difference]:
        try:
            with os.scandir(directory) as listing:
                items = [item for item in listing if item.name not in names and not _is_socket(item)]
        except OSError as error:
            if os.path.isdir(directory):
                self.unread.append(Unknown(os.fsdecode(directory), error.strerror or str(error)))
            return  # otherwise it was already reported as removed or changed
        scope = self._rules.scope(directory)
        for item in sorted(items, key=lambda item: item.name):
            is_directory = item.is_dir(follow_symlinks=False)
            if not scope.excludes(directory, os.fsdecode(item.name), is_directory=is_directory):
                yield Difference(FILES, "added", os.fsdecode(join(directory, item.name)) + "/" * is_directory)


def _is_socket(item: "os.DirEntry[bytes]") -> bool:
    """Return whether it is a socket. Snapshots hold none: the listening program creates it."""
    return stat.S_ISSOCK(item.stat(follow_symlinks=False).st_mode)
