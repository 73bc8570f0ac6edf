"""Which snapshots are judged together: those of one host and source, or, where a source has no name, of one set of paths."""

from collections.abc import Iterable, Sequence
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

from msgspec import Struct

Grouping: TypeAlias = Literal["host", "source", "paths", "tags"]
GROUPINGS: tuple[Grouping, ...] = ("host", "source", "paths", "tags")
DEFAULT_GROUPING: tuple[Grouping, ...] = ("host", "source")


class Judged(Protocol):
    """What retention reads of a snapshot."""

    @property
    def id(self) -> bytes: ...
    @property
    def source(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def paths(self) -> tuple[bytes, ...]: ...
    @property
    def tags(self) -> tuple[str, ...]: ...
    @property
    def time_ns(self) -> int: ...
    @property
    def sequence(self) -> int: ...


S = TypeVar("S", bound=Judged)


class Group(Struct, Generic[S], frozen=True):
    """Snapshots that are judged together, oldest first. `name` tells one group from another, and is for people too."""

    name: str
    snapshots: tuple[S, ...]


def age(snapshot: Judged) -> tuple[int, int]:
    """Sorts by time; of two with one time, the one that the manifest recorded later is the newer."""
    return snapshot.time_ns, snapshot.sequence


def grouped(snapshots: Iterable[S], by: Sequence[Grouping] = DEFAULT_GROUPING) -> list[Group[S]]:
    """Every snapshot in one group; sorted by name."""
    groups: dict[str, list[S]] = {}
    for row in snapshots:
        groups.setdefault(name_of(row, by), []).append(row)
    return [Group(name, tuple(sorted(rows, key=age))) for name, rows in sorted(groups.items())]


def name_of(snapshot: Judged, by: Sequence[Grouping]) -> str:
    """`host web1, source home`; `host web1, paths /etc /srv`; all of them, if nothing tells them apart."""
    return ", ".join(_word(snapshot, word) for word in by) or "all snapshots"


def _word(snapshot: Judged, by: Grouping) -> str:
    if by == "host":
        return f"host {_quoted(snapshot.host)}"
    if by == "source" and snapshot.source:
        return f"source {_quoted(snapshot.source)}"
    if by == "tags":
        return f"tags {_set(snapshot.tags)}"
    return f"paths {_set(path.decode('utf-8', 'surrogateescape') for path in snapshot.paths)}"


def _set(words: Iterable[str]) -> str:
    return " ".join(map(_quoted, sorted(set(words)))) or "-"


def _quoted(word: str) -> str:
    """Plain where that cannot be taken for more than one word, or none: two groups never have one name."""
    return repr(word) if word in {"", "-"} or set(word) & set(" ,'\"\n") else word
