"""The tree of virtual files: those of a source other than plain directories, added beside the files of the walk.

Invariants
    A file or directory that the parent snapshot has is the parent's very object: it is unmodified, and nothing is
    stored.
    The time of a file is when a backup first saw its content, so that the same content is the same file.
    There is no recursion, since names may be as deep as a path can be long.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import NamedTuple

import msgspec

from drtool.errors import DrtoolError
from drtool.events import Emit, Warned, ignore
from drtool.manifest.records import Snapshot
from drtool.operations.backup.changes import ChangeNotes
from drtool.operations.backup.request import BackupRequest, FileCounts, SourceJob
from drtool.operations.backup.scan import Scan
from drtool.operations.inventories import KINDS
from drtool.repository import Repository
from drtool.sources.children import ProgramFailed
from drtool.sources.filesystem import OwnerNames, join
from drtool.sources.inventory import NAME, Inventory, read_inventory
from drtool.sources.port import Around, Attributes, Readable, Source, VirtualFile
from drtool.trees import Entry, Fetch, FileType, Put, find_entry, read_directory, split_path, write_directory

_DIRECTORY_MODE, _FILE_MODE = 0o700, 0o600
_PART_BYTES = 1 << 16


class Content(NamedTuple):
    """The stored content of a file."""

    content: bytes
    depth: int
    size_bytes: int


def surroundings(repository: Repository, request: BackupRequest, scan: Scan, emit: Emit) -> Around:
    """Return the context that a source gets."""
    return Around(
        state_dir=repository.spec.state_dir,
        environ=request.environ,
        warn=lambda message: emit(Warned(message=message)),
        problem=scan.problem,
    )


def capture(
    source: Source,
    around: Around,
    tree: "VirtualTree",
    store: Callable[[Readable], Content],
    begins: Callable[[bytes], None],
) -> Inventory | None:
    """Store each content as it comes. Return a database's inventory. DrtoolError unless all came whole, and there was some."""
    count, inventory = 0, None
    described = f"/{source.kind}/{NAME}".encode()
    try:
        with closing(source.files(around)) as files:
            for file in files:
                begins(file.path)
                stored = _stored(file, store)
                if stored is not None:
                    tree.add(file, stored)
                    count += 1
                if file.path == described and source.kind in KINDS:
                    inventory = _inventory(file)
    except OSError as error:
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        raise DrtoolError(f"the source cannot be captured: {where}{error.strerror or error}") from error
    if not count:
        raise DrtoolError("the source is empty, so there is nothing to back up")
    return inventory


def _inventory(file: VirtualFile) -> Inventory:
    with file.opened() as content:
        return read_inventory(b"".join(iter(lambda: _part(content), b"")))


def _part(content: Readable) -> bytes:
    room = bytearray(_PART_BYTES)
    return bytes(room[: content.readinto(memoryview(room)) or 0])


def _stored(file: VirtualFile, store: Callable[[Readable], Content]) -> Content | None:
    """Return the stored content of a file, or None if its program failed and the source goes on without it."""
    try:
        with file.opened() as content:
            return store(content)
    except ProgramFailed as error:
        if file.failed is None:
            raise
        file.failed(error)
        return None


def foresee(
    repository: Repository,
    request: BackupRequest,
    job: SourceJob,
    scan: Scan,
    parent: Snapshot | None,
    notes: ChangeNotes,
) -> list[str]:
    """Count what a source would store, and exclude its names from the walk. Return facts for the user."""
    assert job.captured is not None
    foresight = job.captured.foresee(surroundings(repository, request, scan, ignore))
    for file in foresight.files:
        old = find_entry(parent.root, file.path, repository.trees) if parent is not None else None
        scan.files.changed += old is not None
        scan.files.new += old is None
        notes.file_to_read(file.path, old)
        scan.count_bytes(file.size_bytes or 0)
    return list(foresight.facts)


class VirtualTree:
    """Accepts files as they are captured. `entries` then stores the directories and returns the top-level entries."""

    def __init__(
        self,
        put: Put,
        fetch: Fetch,
        parent_root: bytes,
        names: OwnerNames,
        time_ns: int,
        warn: Callable[[str], None],
        notes: ChangeNotes,
    ) -> None:
        self._put, self._fetch, self._names, self._time_ns, self._warn = put, fetch, names, time_ns, warn
        self._notes = notes
        self._parent_root = parent_root
        self._previous: dict[bytes, Mapping[bytes, Entry]] = {}
        self._known: dict[bytes, Attributes] = {}
        self._below: dict[bytes, dict[bytes, Entry]] = {b"/": {}}
        self.files = FileCounts()
        self.directories = FileCounts()

    def add(self, file: VirtualFile, content: Content) -> None:
        """Add a file with stored content. DrtoolError if the name exists already."""
        *above, name = split_path(file.path)
        self._known.update(file.above)
        at = b"/"
        for part in above:
            self._below.setdefault(at, {})
            at = join(at, part)
        here = self._below.setdefault(at, {})
        if name in here or join(at, name) in self._below:
            raise DrtoolError(f"the source has {file.path.decode(errors='replace')} twice")
        entry = self._entry(name, FileType.FILE, file.attributes or Attributes.own(_FILE_MODE))
        entry = msgspec.structs.replace(
            entry, content=content.content, content_depth=content.depth, size_bytes=content.size_bytes
        )
        old = self._old(at).get(name)
        here[name] = self._settled(at, entry, old, self.files)

    def entries(self) -> dict[bytes, Entry]:
        """Return the entries of the root, by name."""
        for path in sorted(self._below, key=lambda path: path.count(b"/"), reverse=True):
            if path == b"/":
                continue
            above, _, name = path.rpartition(b"/")
            entries = self._below[path]
            for gone in self._old(path).keys() - entries.keys():
                self._notes.item(path, self._old(path)[gone], None)
            subtree = write_directory([entries[each] for each in sorted(entries)], self._put)
            attributes = self._known.get(path, Attributes.own(_DIRECTORY_MODE))
            entry = msgspec.structs.replace(self._entry(name, FileType.DIRECTORY, attributes), subtree=subtree)
            siblings = self._below.setdefault(above or b"/", {})
            if name in siblings:
                raise DrtoolError(f"the source has {path.decode(errors='replace')} as a file and as a directory")
            siblings[name] = self._settled(above or b"/", entry, self._old(above or b"/").get(name), self.directories)
        return self._below[b"/"]

    def _entry(self, name: bytes, kind: FileType, attributes: Attributes) -> Entry:
        time_ns = self._time_ns if attributes.mtime_ns is None else attributes.mtime_ns
        return Entry(
            name=name,
            type=kind,
            mode=attributes.mode,
            uid=attributes.uid,
            gid=attributes.gid,
            user=self._names.users[attributes.uid],
            group=self._names.groups[attributes.gid],
            mtime_ns=time_ns,
        )

    def _settled(self, directory: bytes, entry: Entry, old: Entry | None, counts: FileCounts) -> Entry:
        """Return the parent's entry, if only the time differs."""
        if old is not None and msgspec.structs.replace(entry, mtime_ns=old.mtime_ns) == old:
            counts.unmodified += 1
            return old
        counts.changed += old is not None
        counts.new += old is None
        if directory != b"/":  # the root's entries are noted when the walk settles it
            self._notes.item(directory, old, entry)
        return entry

    def _old(self, path: bytes) -> Mapping[bytes, Entry]:
        """Return the parent snapshot's entries of a directory."""
        if path not in self._previous:
            subtree = self._parent_root
            at = b"/"
            for part in split_path(path):
                entry = self._listed(at, subtree).get(part)
                subtree = entry.subtree if entry is not None else b""
                at = join(at, part)
            self._listed(at, subtree)
        return self._previous[path]

    def _listed(self, path: bytes, subtree: bytes) -> Mapping[bytes, Entry]:
        if path not in self._previous:
            try:
                entries = read_directory(subtree, self._fetch) if subtree else ()
                self._previous[path] = {entry.name: entry for entry in entries}
            except DrtoolError as error:  # this costs time, never a backup: everything below counts as new
                self._warn(f"a directory of the parent snapshot cannot be read: {error.message}")
                self._previous[path] = {}
        return self._previous[path]
