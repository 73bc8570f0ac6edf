"""The FUSE file system over a view, served in the foreground until it is unmounted.

Invariants
    The mount is read-only: the kernel refuses writes, and no write operation is implemented.
    Data that cannot be read gives the reading process an input/output error and a warning here. The mount goes on.
    All names of one hard-linked file have the same inode number, in each view of their snapshot. Every other name has
    its own.
"""

import errno
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from blake3 import blake3

from drtool.errors import DrtoolError
from drtool.events import Emit, Warned
from drtool.manifest.records import Snapshot
from drtool.model import ChunkId
from drtool.operations.mounting.view import Folder, Link, Node, OpenFile, View, is_directory
from drtool.repository import Repository
from drtool.repository.findings import record_reads
from drtool.repository.reading import ChunkReader
from drtool.sources.filesystem import link_group
from drtool.trees import Entry, FileType, split_path

BLOCK_BYTES = 4096


def mount(
    repository: Repository,
    admits: Callable[[Snapshot], bool],
    directory: Path,
    emit: Emit,
    *,
    allow_other: bool = False,
    mounted: Callable[[], None] = lambda: None,
) -> None:
    """Serve until the directory is unmounted or a signal arrives. DrtoolError if it cannot be mounted."""
    fuse = _library()
    ahead = repository.objects.ahead()
    chunks = ChunkReader(repository.index.locations, repository.objects, ahead)
    operations = _Operations(
        repository, View(lambda: shown_now(repository, admits, emit), repository.trees), chunks, emit, mounted
    )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # libfuse handles only signals with the default action: it unmounts
    options = {"allow_other": True, "default_permissions": True} if allow_other else {}  # modes are then checked
    try:
        fuse.FUSE(
            operations,
            str(directory),
            foreground=True,
            nothreads=True,
            ro=True,
            use_ino=True,
            fsname="drtool",
            **options,
        )
    except RuntimeError as error:
        raise DrtoolError(
            f"{directory} cannot be mounted on (libfuse ended with {error})", hint="drtool doctor"
        ) from None
    finally:
        if ahead is not None:
            ahead.close()


def shown_now(repository: Repository, admits: Callable[[Snapshot], bool], emit: Emit) -> list[Snapshot]:
    """Return the current snapshots. Damage found so far is recorded here, since a mount may run for weeks."""
    try:
        repository.adopt(repository.manifest.read())
    except DrtoolError as error:
        emit(Warned(message=f"newer snapshots are not shown: {error.message}"))
    record_reads(repository, emit)
    return [row for row in repository.view.state.snapshots if admits(row)]


def _library() -> Any:  # noqa: ANN401 - mfusepy has no types
    """Return the libfuse binding. DrtoolError if libfuse or /dev/fuse is missing."""
    if not os.path.exists("/dev/fuse"):
        raise DrtoolError("this system has no /dev/fuse", hint="modprobe fuse; in a container: --device /dev/fuse")
    try:
        import mfusepy
    except (ImportError, OSError, AttributeError) as error:
        raise DrtoolError(f"libfuse is missing: {error}", hint="apt-get install fuse3") from None
    return mfusepy


class _Operations:
    """The kernel requests that a read-only file system must answer."""

    use_ns = True

    def __init__(
        self, repository: Repository, view: View, chunks: ChunkReader, emit: Emit, mounted: Callable[[], None]
    ) -> None:
        self._repository, self._view, self._chunks, self._emit, self._mounted = repository, view, chunks, emit, mounted
        self._open: dict[int, OpenFile] = {}
        self._handles = count(1)

    def init(self, path: str) -> None:
        self._mounted()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        node = self._node(path)
        return attributes(node) | {"st_ino": self._inode(path, node)}

    def readdir(self, path: str, fh: int) -> Iterator[tuple[str, dict[str, int], int]]:
        node = self._node(path)
        if not is_directory(node):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        here = {"st_mode": stat.S_IFDIR, "st_ino": self._inode(path, node)}
        yield from ((name, here, 0) for name in (".", ".."))
        with self._answering(path):
            for name, child in self._view.list(node):
                inode = self._inode(f"{path.rstrip('/')}/{os.fsdecode(name)}", child)
                yield os.fsdecode(name), {"st_mode": attributes(child)["st_mode"], "st_ino": inode}, 0

    def readlink(self, path: str) -> str:
        node = self._node(path)
        target = node.target if isinstance(node, Link) else node.link_target if isinstance(node, Entry) else b""
        return os.fsdecode(target)

    def open(self, path: str, flags: int) -> int:
        node = self._node(path)
        if not isinstance(node, Entry) or node.type != FileType.FILE:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if any(word.startswith("content") for word in node.uncaptured):
            raise OSError(errno.EIO, "its content could not be read when the snapshot was taken")
        handle = next(self._handles)
        self._open[handle] = OpenFile(node, self._repository.trees, self._length_of, self._chunks)
        return handle

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        with self._answering(path):
            return self._open[fh].read(offset, size)

    def release(self, path: str, fh: int) -> int:
        self._open.pop(fh, None)
        return 0

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        node = self._node(path)
        value = dict(node.xattrs).get(os.fsencode(name)) if isinstance(node, Entry) else None
        if value is None:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return value

    def listxattr(self, path: str) -> list[str]:
        node = self._node(path)
        return [os.fsdecode(name) for name, _ in node.xattrs] if isinstance(node, Entry) else []

    def statfs(self, path: str) -> dict[str, int]:
        return {"f_bsize": BLOCK_BYTES, "f_frsize": BLOCK_BYTES, "f_namemax": 255}

    def _node(self, path: str) -> Node:
        with self._answering(path):
            node = self._view.node(split_path(os.fsencode(path)))
        if node is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return node

    def _inode(self, path: str, node: Node) -> int:
        name = os.fsencode(path)
        if isinstance(node, Entry) and node.links > 1:
            return linked_inode(self._view.tree_of(split_path(name)), node)
        return _number_of(name)

    def _length_of(self, chunk: ChunkId) -> int:
        location = next(self._repository.index.locations(chunk), None)
        return location.length if location is not None else len(self._chunks(chunk))

    @contextmanager
    def _answering(self, path: str) -> Iterator[None]:
        """Turn an error into an input/output error for the reading process, and warn with the reason."""
        try:
            yield
        except (DrtoolError, EOFError) as error:
            why = error.message if isinstance(error, DrtoolError) else str(error)
            self._emit(Warned(message=f"{path}: {why}"))
            raise OSError(errno.EIO, why) from None


def linked_inode(tree: bytes, entry: Entry) -> int:
    """Return the inode number that all names of one file share in the snapshot whose root is `tree`.

    The recorded inode number is unsuitable, since another file system in the same snapshot may use it, too.
    """
    return _number_of(repr((tree, link_group(entry))).encode())


def _number_of(key: bytes) -> int:
    return int.from_bytes(blake3(key).digest(7)) + 1


def attributes(node: Node) -> dict[str, int]:
    """Return the attributes as stat(2) names them. The mount's own directories belong to the user who mounted it."""
    if isinstance(node, Folder):
        return _plain(stat.S_IFDIR | 0o555, node.time_ns)
    if isinstance(node, Link):
        return _plain(stat.S_IFLNK | 0o777, 0) | {"st_size": len(node.target)}
    return {
        "st_mode": node.type << 12 | node.mode,
        "st_uid": node.uid,
        "st_gid": node.gid,
        "st_size": node.size_bytes if node.type == FileType.FILE else len(node.link_target),
        "st_mtime": node.mtime_ns,
        "st_ctime": node.ctime_ns,
        "st_atime": node.mtime_ns,
        "st_nlink": 2 if node.type == FileType.DIRECTORY else node.links,
        "st_rdev": node.rdev,
        "st_blocks": -(-(node.size_bytes - sum(length for _, length in node.holes)) // 512),
    }


def _plain(mode: int, time_ns: int) -> dict[str, int]:
    times = dict.fromkeys(("st_mtime", "st_ctime", "st_atime"), time_ns)
    return {"st_mode": mode, "st_uid": os.getuid(), "st_gid": os.getgid(), "st_nlink": 2, "st_size": 0, **times}
