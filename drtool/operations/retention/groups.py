"""Groups of snapshots that are judged together: by host and source, or host and paths if a source has no name."""

from collections.abc import Iterable, Sequence
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

from msgspec import Struct

Grouping: TypeAlias = Literal["host", "source", "paths", "tags"]
GROUPINGS: tuple[Grouping, ...] = ("host", "source", "paths", "tags")
DEFAULT_GROUPING: tuple[Grouping, ...] = ("host", "source")


class Judged(Protocol):
    """The attributes of a snapshot that retention reads."""

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
    """Snapshots that are judged together, oldest first. `name` identifies the group, also to people."""

    name: str
    snapshots: tuple[S, ...]


def age(snapshot: Judged) -> tuple[int, int]:
    """Return the sort key: the time, and of two with the same time, the order in the manifest."""
    return snapshot.time_ns, snapshot.sequence


def grouped(snapshots: Iterable[S], by: Sequence[Grouping] = DEFAULT_GROUPING) -> list[Group[S]]:
    """Return the groups, sorted by name. Every snapshot is in exactly one."""
    groups: dict[str, list[S]] = {}
    for row in snapshots:
        groups.setdefault(name_of(row, by), []).append(row)
    return [Group(name, tuple(sorted(rows, key=age))) for name, rows in sorted(groups.items())]


def name_of(snapshot: Judged, by: Sequence[Grouping]) -> str:
    """Return a name such as `host web1, source home` or `host web1, paths /etc /srv`, or `all snapshots` without `by`."""
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
    """Return the word, quoted if it could be read as several words or as none. So no two groups have the same name."""
    return repr(word) if word in {"", "-"} or set(word) & set(" ,'\"\n") else word
