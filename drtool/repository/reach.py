"""The data that a snapshot needs: every pack of its trees, lists and files."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from drtool.errors import DrtoolError
from drtool.model import ChunkId, PackId
from drtool.trees import Fetch, FileType, read_content, read_directory

if TYPE_CHECKING:
    from drtool.repository.repository import Repository


def needed_packs(
    repository: "Repository", roots: Iterable[bytes], unreadable: Callable[[DrtoolError], None] | None = None
) -> set[PackId]:
    """Return the packs of everything below these trees.

    An unreadable tree or list is reported to `unreadable`, and its own pack still counts as needed. DrtoolError if it
    is None.
    """
    packs: set[PackId] = set()
    for chunk in needed_chunks(repository, roots, unreadable):
        location = repository.index.locate(chunk)
        if location is not None:
            packs.add(location.pack.pack)
    return packs


def needed_chunks(
    repository: "Repository",
    roots: Iterable[bytes],
    unreadable: Callable[[DrtoolError], None] | None = None,
    read: Fetch | None = None,
) -> Iterator[ChunkId]:
    """Yield every chunk below, some several times. A tree met before is not entered again. Errors as in `needed_packs`.

    `read` returns the trees. By default they come from the sites.
    """
    seen: set[bytes] = set()
    stack = list(roots)

    def fetch(chunk: ChunkId) -> bytes:
        met.append(chunk)
        return (read or repository.chunks)(chunk)

    while stack:
        tree = stack.pop()
        if tree in seen:
            continue
        seen.add(tree)
        met: list[ChunkId] = []
        try:
            for entry in read_directory(tree, fetch):
                if entry.type == FileType.DIRECTORY and entry.subtree:
                    stack.append(entry.subtree)
                elif entry.type == FileType.FILE:
                    yield from read_content(entry, fetch)
        except DrtoolError as error:
            if unreadable is None:
                raise
            unreadable(error)
        yield from met
