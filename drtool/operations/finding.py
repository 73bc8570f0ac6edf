"""`find`: the snapshots that hold a name or a path, as a stream.

Invariants
    A directory that several snapshots share, and that has no match, is read once.
"""

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from drtool.manifest.records import Snapshot
from drtool.repository import Repository
from drtool.trees import Entry, Fetch, FileType, read_directory

BARREN_MAX = 400_000
"""How many directories without a match are remembered (about 60 MB)."""


class Wanted(Struct, frozen=True, kw_only=True):
    """`patterns` are shell patterns; one with a slash must match the whole path.

    `types`: `f`, `d`, `l`; empty means any.
    """

    patterns: tuple[str, ...]
    ignore_case: bool = False
    types: frozenset[str] = frozenset()


class Match(Struct, frozen=True):
    snapshot: Snapshot
    path: bytes
    entry: Entry


_LETTERS = {FileType.FILE: "f", FileType.DIRECTORY: "d", FileType.SYMLINK: "l"}


class _Patterns:
    """Names and whole paths, each as one expression."""

    def __init__(self, wanted: Wanted) -> None:
        flags = re.IGNORECASE if wanted.ignore_case else 0
        self.name = _any([word for word in wanted.patterns if "/" not in word], flags)
        self.path = _any([word for word in wanted.patterns if "/" in word], flags)
        self.types = wanted.types

    def match(self, path: bytes, entry: Entry) -> bool:
        if self.types and _LETTERS.get(FileType(entry.type)) not in self.types:
            return False
        if self.name is not None and self.name.match(os.fsdecode(entry.name)):
            return True
        return self.path is not None and self.path.match(os.fsdecode(path)) is not None


def find(
    repository: Repository, snapshots: Iterable[Snapshot], wanted: Wanted, fetch: Fetch | None = None
) -> Iterator[Match]:
    """Yield every match, in the order of `snapshots` and then of paths. `fetch` replaces `repository.trees`."""
    patterns = _Patterns(wanted)
    barren: set[bytes] = set()
    for snapshot in snapshots:
        yield from _in(fetch or repository.trees, snapshot, patterns, barren)


def _in(fetch: Fetch, snapshot: Snapshot, patterns: _Patterns, barren: set[bytes]) -> Iterator[Match]:
    levels = [(b"/", snapshot.root, read_directory(snapshot.root, fetch))]
    found_below = [False]
    while levels:
        above, subtree, entries = levels[-1]
        entry = next(entries, None)
        if entry is None:
            levels.pop()
            found = found_below.pop()
            if found and found_below:
                found_below[-1] = True
            elif not found and len(barren) < BARREN_MAX:
                barren.add(_key(patterns, above, subtree))
            continue
        path = above + entry.name
        if patterns.match(path, entry):
            found_below[-1] = True
            yield Match(snapshot, path, entry)
        if (
            entry.type == FileType.DIRECTORY
            and entry.subtree
            and _key(patterns, path + b"/", entry.subtree) not in barren
        ):
            levels.append((path + b"/", entry.subtree, read_directory(entry.subtree, fetch)))
            found_below.append(False)


def _key(patterns: _Patterns, above: bytes, subtree: bytes) -> bytes:
    """Return the key under which a directory without a match is remembered.

    Whether a whole path matches depends on where the directory is, so the key includes the path if one is wanted.
    """
    return subtree if patterns.path is None else subtree + above


def _any(patterns: Sequence[str], flags: int) -> re.Pattern[str] | None:
    """Return one expression for all patterns, or None for none.

    A pattern with a slash may match at any depth: `etc/*.conf`.
    """
    if not patterns:
        return None
    rules = (
        fnmatch.translate(word if word.startswith(("/", "*")) or "/" not in word else f"*/{word}") for word in patterns
    )
    return re.compile("|".join(f"(?:{rule})" for rule in rules), flags)
