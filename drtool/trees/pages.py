"""Directories and long chunk lists as chunks: pages of at most 1,024 entries, lists of at most 1,024 ids, recursively.

A directory's entries are taken 1,024 at a time. If these would make a page of more than 1 MiB, they are divided among
several pages, each as full as 1 MiB allows.

Bytes: a page is "P" ‖ msgpack array of entries. A list is "L" ‖ its height (1 byte: 1 names chunks, n names lists of
height n-1) ‖ ids, 32 bytes each. A directory is named by its one page, or by the list of its pages. A file's content of
more than 1,024 chunks is named by a list.

Invariants
    The same entries give the same bytes, so an unchanged directory keeps its id.
    Readers stream: at most one page and one list of each height are in memory.
    No text is larger than the limit of a block, regardless of the entries of the file system.
    A name that was read is a single name: not empty, not `.` or `..`, without `/` and NUL. Names ascend. A restore may
    rely on this even for a hand-made tree by an owner of the key.
"""

from collections.abc import Callable, Iterator, Sequence
from operator import lt

import msgspec

from drtool.errors import FormatError
from drtool.model import ChunkId, ChunkKind
from drtool.trees.entry import Entry, EntryWithAclNames, storable, with_acl_names

PAGE_ENTRIES = 1024
PAGE_BYTES = 1024 * 1024
ENTRY_BYTES_MAX = 8 * 1024 * 1024
LIST_IDS = 1024
_ID_BYTES = 32
_HEIGHT_MAX = 6
_NO_NAMES = (b".", b"..")

Put = Callable[[ChunkKind, bytes], ChunkId]
"""Stores a chunk if it is new, and returns its id."""

Fetch = Callable[[ChunkId], bytes]
"""Returns a chunk's text, or raises if it cannot be obtained."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Entry])
_decoder_with_acls = msgspec.msgpack.Decoder(list[EntryWithAclNames])
_ACL = b"system.posix_acl_"
_EMPTY_PAGE = b"P" + _encoder.encode([])
_PAGE_HEAD_BYTES = 4  # "P" and the longest head of an array


def write_directory(entries: Sequence[Entry], put: Put) -> ChunkId:
    """Store one directory's entries, sorted by name, and return the id of the directory."""
    pages = [put(ChunkKind.TREE, page) for page in _pages(entries)] or [put(ChunkKind.TREE, _EMPTY_PAGE)]
    return pages[0] if len(pages) == 1 else write_list(pages, put)[0]


def _pages(entries: Sequence[Entry]) -> Iterator[bytes]:
    for start in range(0, len(entries), PAGE_ENTRIES):
        several = entries[start : start + PAGE_ENTRIES]
        try:
            page = b"P" + _encoder.encode(several)
        except (OverflowError, UnicodeEncodeError):  # a number or a name that the format cannot hold
            page = b""
        if 0 < len(page) <= PAGE_BYTES:
            yield page
        else:
            yield from _small_pages(several)


def _small_pages(entries: Sequence[Entry]) -> Iterator[bytes]:
    """Yield the pages of entries that do not fit one."""
    waiting: list[Entry] = []
    size_bytes = 0
    for entry, length in map(_storable, entries):
        if waiting and size_bytes + length > PAGE_BYTES - _PAGE_HEAD_BYTES:
            yield b"P" + _encoder.encode(waiting)
            waiting, size_bytes = [], 0
        waiting.append(entry)
        size_bytes += length
    yield b"P" + _encoder.encode(waiting)


def _storable(entry: Entry) -> tuple[Entry, int]:
    """Return the entry as it can be stored, and the length of its encoding in bytes."""
    try:
        length = len(_encoder.encode(entry))
    except (OverflowError, UnicodeEncodeError):
        length = ENTRY_BYTES_MAX + 1
    if length > PAGE_BYTES:
        entry = storable(entry)
        length = len(_encoder.encode(entry))
    if length > ENTRY_BYTES_MAX:
        raise FormatError(f"an entry of {length} bytes is more than the repository format can hold")
    return entry, length


def read_directory(name: bytes, fetch: Fetch) -> Iterator[Entry]:
    """Yield the entries of a directory, in order."""
    text = fetch(ChunkId(name))
    if text[:1] != b"L":
        yield from _page(text, after=b"")
        return
    last = b""
    for page in _leaves(text, fetch):
        entries = _page(fetch(page), after=last)
        yield from entries
        last = entries[-1].name if entries else last


def write_content(ids: Sequence[ChunkId], put: Put) -> tuple[bytes, int]:
    """Return (content, content_depth) for an entry whose file has these chunks."""
    if len(ids) <= LIST_IDS:
        return b"".join(ids), 0
    return write_list(ids, put)


def read_content(entry: Entry, fetch: Fetch) -> Iterator[ChunkId]:
    """Yield the data chunks of a file, in order.

    A file whose content could not be read has none, regardless of its depth field: an earlier version set one there.
    """
    if not entry.content:
        return
    if entry.content_depth == 0:
        yield from _ids(entry.content)
    else:
        yield from _leaves(fetch(ChunkId(entry.content)), fetch, entry.content_depth)


def write_list(ids: Sequence[ChunkId], put: Put) -> tuple[ChunkId, int]:
    """Store ids as a tree of lists, and return the id of the root and its height."""
    height = 0
    while len(ids) > 1 or height == 0:
        height += 1
        head = b"L" + bytes((height,))
        ids = [
            put(ChunkKind.LIST, head + b"".join(ids[start : start + LIST_IDS]))
            for start in range(0, len(ids), LIST_IDS)
        ]
    return ids[0], height


def _leaves(text: bytes, fetch: Fetch, expected: int | None = None) -> Iterator[ChunkId]:
    """Yield the leaves of a list. `expected` is its height, if known."""
    height = text[1] if len(text) > 1 and text[:1] == b"L" else 0
    if not 0 < height <= _HEIGHT_MAX or height != (expected or height):
        raise FormatError("a list of chunks is malformed")
    ids = _ids(text[2:])
    if height == 1:
        yield from ids
        return
    for chunk in ids:
        yield from _leaves(fetch(chunk), fetch, height - 1)


def _ids(joined: bytes) -> list[ChunkId]:
    if len(joined) % _ID_BYTES:
        raise FormatError("a list of chunks is cut short")
    return [ChunkId(joined[at : at + _ID_BYTES]) for at in range(0, len(joined), _ID_BYTES)]


def _page(text: bytes, after: bytes) -> list[Entry]:
    if text[:1] != b"P":
        raise FormatError("a directory's page is malformed")
    try:
        entries = _entries(text)
    except (msgspec.MsgspecError, ValueError) as error:
        raise FormatError(f"a directory's page does not parse: {error}") from None
    if not _are_names([entry.name for entry in entries], after):
        raise FormatError("a directory's page holds invalid names, or names that are out of order")
    return entries


def _entries(text: bytes) -> list[Entry]:
    """Decode a page. Only entries with an ACL may have the last field, and most pages hold none."""
    if _ACL not in text:
        return _decoder.decode(memoryview(text)[1:])
    return [
        entry if entry.acl_names else with_acl_names(entry, ())
        for entry in _decoder_with_acls.decode(memoryview(text)[1:])
    ]


def _are_names(names: list[bytes], after: bytes) -> bool:
    """Return whether each is a single name and they ascend. Names that ascend from `after` are not empty either."""
    joined = b"\0".join(names)  # one search through all names is five times as fast as one in each
    return (
        all(map(lt, [after, *names], names))
        and b"/" not in joined
        and joined.count(b"\0") == max(0, len(names) - 1)
        and not any(name in names for name in _NO_NAMES)
    )
