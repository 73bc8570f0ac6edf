"""The tree that a mounted repository shows: directories of snapshots, each with its tree as it was.

    snapshots/2026-11-23T14.05.00Z-3f2a91c0/…   all, by time
    hosts/web1/2026-11-23T14.05.00Z-3f2a91c0/…  by the host that made them
    ids/3f2a91c0/…                              by id
    latest                                      a link to the newest

Invariants
    Nothing is read before it is requested. The caches are bounded: entries of some directories, some blocks of files.
    Trees and contents never change, so cached data stays valid. The list of snapshots is refreshed every `REFRESH_S`.
"""

import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime

from msgspec import Struct

from drtool.manifest.records import Snapshot
from drtool.model import ChunkId
from drtool.trees import Entry, Fetch, FileType, read_content, read_directory

ENTRIES_KEPT = 100_000
"""Limit over all cached directories. If the largest has more, the limit is its size plus `ENTRIES_BESIDE`."""
ENTRIES_BESIDE = 20_000
REFRESH_S = 30.0
FUTURE_NS = 3600 * 10**9

Names = Mapping[bytes, "Folder | Entry | Link"]


class Link(Struct, frozen=True):
    """A symbolic link that the mount itself adds."""

    target: bytes


class Folder(Struct, frozen=True):
    """A directory that the mount itself adds, or (with `subtree`) the root of a snapshot."""

    names: "Names" = {}
    subtree: bytes = b""
    time_ns: int = 0


Node = Folder | Entry | Link


class View:
    """The tree. `snapshots` returns the current snapshots, and `fetch` reads trees."""

    def __init__(
        self,
        snapshots: Callable[[], Iterable[Snapshot]],
        fetch: Fetch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._snapshots, self._fetch, self._clock = snapshots, fetch, clock
        self._root = Folder()
        self._looked_at: float | None = None
        self._kept: OrderedDict[bytes, dict[bytes, Entry]] = OrderedDict()
        self._kept_entries = 0

    def node(self, parts: Iterable[bytes]) -> Node | None:
        """Return the node at a path, or None if there is none. DrtoolError if it cannot be read."""
        node: Node | None = self._top()
        for part in parts:
            node = self._child(node, part)
            if node is None:
                return None
        return node

    def tree_of(self, parts: Iterable[bytes]) -> bytes:
        """Return the root of the snapshot that a path leads into; empty above the snapshots."""
        node: Node | None = self._top()
        for part in parts:
            node = self._child(node, part)
            if isinstance(node, Folder) and node.subtree:
                return node.subtree
        return b""

    def list(self, node: Node) -> Iterator[tuple[bytes, Node]]:
        """Yield the names in a directory. Those of a stored directory come sorted."""
        if isinstance(node, Folder) and not node.subtree:
            yield from node.names.items()
            return
        subtree = node.subtree if isinstance(node, Folder | Entry) else b""
        if not subtree:
            return
        kept = self._kept.get(subtree)
        if kept is not None:
            yield from kept.items()
            return
        yield from ((entry.name, entry) for entry in read_directory(subtree, self._fetch))

    def _child(self, node: Node | None, name: bytes) -> Node | None:
        match node:
            case Folder(subtree=b""):
                return node.names.get(name)
            case Folder() | Entry() if node.subtree:
                return self._entries(node.subtree).get(name)
            case _:
                return None

    def _entries(self, subtree: bytes) -> dict[bytes, Entry]:
        kept = self._kept.get(subtree)
        if kept is None:
            kept = self._kept[subtree] = {entry.name: entry for entry in read_directory(subtree, self._fetch)}
            self._kept_entries += len(kept)
            self._make_room()
        else:
            self._kept.move_to_end(subtree)
        return kept

    def _make_room(self) -> None:
        """Evict the oldest directories. The largest costs most to read again, so it is spared for the ones above it."""
        largest = max(self._kept, key=lambda subtree: len(self._kept[subtree]))
        allowed = max(ENTRIES_KEPT, len(self._kept[largest]) + ENTRIES_BESIDE)
        newest = next(reversed(self._kept))
        for subtree in list(self._kept):
            if self._kept_entries <= allowed:
                return
            if subtree not in (newest, largest):
                self._kept_entries -= len(self._kept.pop(subtree))
        if self._kept_entries > allowed and newest != largest:
            self._kept_entries -= len(self._kept.pop(largest))

    def _top(self) -> Folder:
        now = self._clock()
        if self._looked_at is None or now - self._looked_at >= REFRESH_S:
            self._looked_at = now
            self._root = top_of(self._snapshots())
        return self._root


def top_of(snapshots: Iterable[Snapshot]) -> Folder:
    """Return the root directory, with the directories above the snapshot trees."""
    rows = sorted(snapshots, key=lambda row: (row.time_ns, row.sequence))
    all_: dict[bytes, Node] = {}
    ids: dict[bytes, Node] = {}
    hosts: dict[bytes, dict[bytes, Node]] = {}
    for row in rows:
        root, name = Folder(subtree=row.root, time_ns=row.time_ns), name_of(row)
        all_[name] = ids[row.id.hex()[:8].encode()] = root
        hosts.setdefault(_directory_of(row.host), {})[name] = root
    newest_ns = rows[-1].time_ns if rows else 0
    names: dict[bytes, Node] = {
        b"hosts": Folder({host: Folder(each, time_ns=newest_ns) for host, each in hosts.items()}, time_ns=newest_ns),
        b"ids": Folder(ids, time_ns=newest_ns),
        b"snapshots": Folder(all_, time_ns=newest_ns),
    }
    if rows:
        past = [row for row in rows if row.time_ns <= time.time_ns() + FUTURE_NS]  # as `latest` means it everywhere
        names[b"latest"] = Link(b"snapshots/" + name_of((past or rows)[-1]))
    return Folder(names, time_ns=newest_ns)


def _directory_of(host: str) -> bytes:
    """Return the directory name for a host."""
    name = host.encode("utf-8", "replace").replace(b"/", b"_")
    return name.replace(b".", b"_") if name in (b".", b"..") else name


def name_of(snapshot: Snapshot) -> bytes:
    """Return a name such as `2026-11-23T14.05.00Z-3f2a91c0`.

    It sorts by time, and has no colons for the sake of other systems.
    """
    try:
        moment = datetime.fromtimestamp(snapshot.time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H.%M.%SZ")
    except (OverflowError, OSError, ValueError):
        moment = f"@{snapshot.time_ns // 10**9}"
    return f"{moment}-{snapshot.id.hex()[:8]}".encode()


class OpenFile:
    """One open file with random access. `length_of` returns a chunk's length without reading the chunk."""

    def __init__(
        self,
        entry: Entry,
        fetch: Fetch,
        length_of: Callable[[ChunkId], int],
        text_of: Callable[[ChunkId], bytes],
    ) -> None:
        self._length_of, self._text_of = length_of, text_of
        self._rest = read_content(entry, fetch)
        self._ids: list[ChunkId] = []
        self._starts: list[int] = []
        self._known_bytes = 0
        self.size_bytes = entry.size_bytes

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return the bytes at `offset`. The result is shorter than requested only at the end of the file."""
        end = min(offset + size_bytes, self.size_bytes)
        parts = []
        while offset < end:
            number = self._chunk_at(offset)
            text = self._text_of(self._ids[number])
            part = text[offset - self._starts[number] :][: end - offset]
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def _chunk_at(self, offset: int) -> int:
        """Return the number of the chunk at `offset`. Chunks are counted up to there and no further."""
        while self._known_bytes <= offset:
            chunk = next(self._rest, None)
            if chunk is None:
                raise EOFError("the content is shorter than its entry says")
            self._ids.append(chunk)
            self._starts.append(self._known_bytes)
            self._known_bytes += self._length_of(chunk)
        return bisect_right(self._starts, offset) - 1


def is_directory(node: Node) -> bool:
    return isinstance(node, Folder) or (isinstance(node, Entry) and node.type == FileType.DIRECTORY)
