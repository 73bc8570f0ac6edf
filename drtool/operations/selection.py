"""Which snapshot a person means: a unique prefix of an id, or `latest`, narrowed by host, tag and source.

Pure: time is handed in. Snapshots come in the manifest's order, oldest change first.

Invariants
    `latest` is the newest by snapshot time; of two with the same time, the one that the manifest recorded later.
    A snapshot dated more than an hour after now is passed over, with a warning, unless nothing else matches: one wrong
    clock must not hide every later backup.
"""

from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from drtool.errors import NoSuchSnapshot

FUTURE_NS = 3600 * 10**9
LATEST = "latest"


class Listed(Protocol):
    """What selection reads of a snapshot."""

    @property
    def id(self) -> bytes: ...
    @property
    def source(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def tags(self) -> tuple[str, ...]: ...
    @property
    def time_ns(self) -> int: ...
    @property
    def sequence(self) -> int: ...


S = TypeVar("S", bound=Listed)


class Narrowing(Struct, frozen=True, kw_only=True):
    """Empty means any. Of `hosts` and `sources` one must match; of `tags`, all."""

    hosts: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def admits(self, snapshot: Listed) -> bool:
        return (
            (not self.hosts or snapshot.host in self.hosts)
            and (not self.sources or snapshot.source in self.sources)
            and set(self.tags) <= set(snapshot.tags)
        )

    def __str__(self) -> str:
        words = [f"--host {host}" for host in self.hosts]
        words += [f"--tag {tag}" for tag in self.tags]
        words += [f"--source {source}" for source in self.sources]
        return " ".join(words)


class Selected(Struct, Generic[S], frozen=True):
    """The snapshot that is meant, and what a person should know about the choice."""

    snapshot: S
    warnings: tuple[str, ...] = ()


def narrowed(snapshots: Iterable[S], narrowing: Narrowing, latest: int | None = None) -> list[S]:
    """Those that `narrowing` admits, oldest first by time; with `latest`, the newest that many of each host and source."""
    rows = sorted(filter(narrowing.admits, snapshots), key=_age)
    if latest is None:
        return rows
    kept: dict[tuple[str, str], int] = {}
    result = []
    for row in reversed(rows):
        group = (row.host, row.source)
        kept[group] = kept.get(group, 0) + 1
        if kept[group] <= latest:
            result.append(row)
    return result[::-1]


def select(snapshots: Sequence[S], name: str, *, now_ns: int, narrowing: Narrowing | None = None) -> Selected[S]:
    """The snapshot that `name` means. Raises NoSuchSnapshot if there is none, or more than one."""
    if name == LATEST:
        return _latest(snapshots, now_ns, narrowing or Narrowing())
    return Selected(_by_prefix(snapshots, name))


def _latest(snapshots: Sequence[S], now_ns: int, narrowing: Narrowing) -> Selected[S]:
    rows = narrowed(snapshots, narrowing)
    if not rows:
        raise NoSuchSnapshot(
            f"no snapshot matches {LATEST} {narrowing}".rstrip() if snapshots else "there are no snapshots yet",
            hint="drtool snapshots shows what there is" if snapshots else "make one: drtool backup PATH",
        )
    past = [row for row in rows if row.time_ns <= now_ns + FUTURE_NS]
    future = len(rows) - len(past)
    if not past:
        return Selected(rows[-1], ("every snapshot that matches is dated in the future; taking the newest",))
    if future:
        counted = "1 snapshot is" if future == 1 else f"{future} snapshots are"
        return Selected(past[-1], (f"{counted} dated more than an hour after now and passed over for {LATEST}",))
    return Selected(past[-1])


WHOLE_PATHS = (
    "paths in a snapshot are whole, from / on: `drtool find NAME` finds one, `drtool ls -R SNAPSHOT` lists all"
)
"""What whoever named one that there is not may want to know."""


def _by_prefix(snapshots: Sequence[S], name: str) -> S:
    prefix = name.lower()
    found = [row for row in snapshots if prefix and row.id.hex().startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise NoSuchSnapshot(
            f"no snapshot's id begins with {name!r}", hint=f"drtool snapshots lists them; {LATEST!r} is the newest"
        )
    ids = ", ".join(row.id.hex()[: len(prefix) + 4] for row in found[:5])
    raise NoSuchSnapshot(
        f"{len(found)} snapshots' ids begin with {name!r}: {ids}{', …' if len(found) > 5 else ''}",
        hint="give more characters of the id",
    )


def _age(snapshot: Listed) -> tuple[int, int]:
    return snapshot.time_ns, snapshot.sequence
