"""Directories and long chunk lists as chunks: pages of at most 1,024 entries, lists of at most 1,024 ids, recursively.

Bytes: a page is "P" ‖ msgpack array of entries; a list is "L" ‖ its height (1 byte: 1 names chunks, n names
lists of height n-1) ‖ ids, 32 bytes each. A directory is named by its one page, or by the list of its pages. A file's content of more than 1,024
chunks is named by a list.

Invariants
    The same entries give the same bytes, so an unchanged directory keeps its id.
    Readers and writers stream: at most one page and one list of each height are in memory.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from drtool.errors import FormatError
from drtool.model import ChunkId, ChunkKind
from drtool.trees.entry import Entry

PAGE_ENTRIES = 1024
LIST_IDS = 1024
_ID_BYTES = 32
_HEIGHT_MAX = 6

Put = Callable[[ChunkKind, bytes], ChunkId]
"""Stores a chunk if it is new, and names it."""

Fetch = Callable[[ChunkId], bytes]
"""A chunk's text; raises if it cannot be had."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Entry])


def write_directory(entries: Sequence[Entry], put: Put) -> ChunkId:
    """Stores one directory's entries, sorted by name, and returns what names it."""
    pages = [
        put(ChunkKind.TREE, b"P" + _encoder.encode(entries[start : start + PAGE_ENTRIES]))
        for start in range(0, max(1, len(entries)), PAGE_ENTRIES)
    ]
    return pages[0] if len(pages) == 1 else write_list(pages, put)[0]


def read_directory(name: bytes, fetch: Fetch) -> Iterator[Entry]:
    """The entries of a directory, in order."""
    text = fetch(ChunkId(name))
    if text[:1] == b"L":
        for page in _leaves(text, fetch):
            yield from _page(fetch(page))
    else:
        yield from _page(text)


def write_content(ids: Sequence[ChunkId], put: Put) -> tuple[bytes, int]:
    """(content, content_depth) of an entry whose file has these chunks."""
    if len(ids) <= LIST_IDS:
        return b"".join(ids), 0
    return write_list(ids, put)


def read_content(entry: Entry, fetch: Fetch) -> Iterator[ChunkId]:
    """The data chunks of a file, in order."""
    if entry.content_depth == 0:
        yield from _ids(entry.content)
    else:
        yield from _leaves(fetch(ChunkId(entry.content)), fetch)


def write_list(ids: Sequence[ChunkId], put: Put) -> tuple[ChunkId, int]:
    """Stores ids as a tree of lists; returns what names it, and its height."""
    height = 0
    while len(ids) > 1 or height == 0:
        height += 1
        head = b"L" + bytes((height,))
        ids = [
            put(ChunkKind.LIST, head + b"".join(ids[start : start + LIST_IDS]))
            for start in range(0, len(ids), LIST_IDS)
        ]
    return ids[0], height


def _leaves(text: bytes, fetch: Fetch, parent_height: int = _HEIGHT_MAX + 1) -> Iterator[ChunkId]:
    height = text[1] if len(text) > 1 and text[:1] == b"L" else 0
    if not 0 < height < parent_height:
        raise FormatError("a list of chunks is malformed")
    for chunk in _ids(text[2:]):
        if height == 1:
            yield chunk
        else:
            yield from _leaves(fetch(chunk), fetch, height)


def _ids(joined: bytes) -> Iterable[ChunkId]:
    if len(joined) % _ID_BYTES:
        raise FormatError("a list of chunks is cut short")
    return [ChunkId(joined[at : at + _ID_BYTES]) for at in range(0, len(joined), _ID_BYTES)]


def _page(text: bytes) -> list[Entry]:
    if text[:1] != b"P":
        raise FormatError("a directory's page is malformed")
    try:
        return _decoder.decode(memoryview(text)[1:])
    except msgspec.MsgspecError as error:
        raise FormatError(f"a directory's page does not parse: {error}") from None
