"""Selection of the snapshot that a name means, narrowed by host, tag and source.

Pure: the time is a parameter. Snapshots come in the manifest's order, oldest change first.

Invariants
    Where `latest` could mean several sources, the result says which one it chose and names the others.
    `latest` is the newest by snapshot time. Of two with the same time, it is the one that the manifest recorded later.
    A snapshot dated more than an hour after now is skipped, with a warning, unless nothing else matches: one wrong
    clock must not hide every later backup.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from drtool.errors import NoSuchSnapshot
from drtool.operations.snapshot_names import LATEST, Latest, parse_latest

FUTURE_NS = 3600 * 10**9
OTHERS_SHOWN = 4
"""Sources named in a sentence. Documents name all."""


class Listed(Protocol):
    """The attributes of a snapshot that selection reads."""

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


S = TypeVar("S", bound=Listed)


class Narrowing(Struct, frozen=True, kw_only=True):
    """A filter. An empty field matches everything. One of `hosts` and one of `sources` must match, and all of `tags`.

    A source without a name is referred to by its paths, as `source_name` writes them.
    """

    hosts: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def admits(self, snapshot: Listed) -> bool:
        return (
            (not self.hosts or snapshot.host in self.hosts)
            and (not self.sources or any(_is_called(snapshot, word) for word in self.sources))
            and set(self.tags) <= set(snapshot.tags)
        )

    def __str__(self) -> str:
        words = [f"--host {host}" for host in self.hosts]
        words += [f"--tag {tag}" for tag in self.tags]
        words += [f"--source {source}" for source in self.sources]
        return " ".join(words)


class Selected(Struct, Generic[S], frozen=True):
    """The chosen snapshot, and what a person should know about the choice."""

    snapshot: S
    warnings: tuple[str, ...] = ()
    others: tuple[S, ...] = ()
    """The newest snapshot of each other source that `latest` could have meant."""
    by_latest: bool = False
    name: str = LATEST
    """The word that was asked for, such as `latest~1`."""


def narrowed(snapshots: Iterable[S], narrowing: Narrowing, latest: int | None = None) -> list[S]:
    """Return the snapshots that `narrowing` admits, oldest first.

    `latest`: only that many newest of each host and source.
    """
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


def select(
    snapshots: Sequence[S],
    name: str,
    *,
    now_ns: int,
    narrowing: Narrowing | None = None,
    holds: Callable[[S], bool] | None = None,
) -> Selected[S]:
    """Return the snapshot that `name` means. `latest` skips snapshots that fail `holds`, the test for the wanted path.

    NoSuchSnapshot if there is none, or more than one; UsageError if the name is malformed.
    """
    latest = parse_latest(name)
    if latest is None:
        return Selected(_by_prefix(snapshots, name))
    rows = narrowed(snapshots, narrowing or Narrowing())
    if not rows:
        raise NoSuchSnapshot(
            f"no snapshot matches {name} {narrowing or ''}".rstrip() if snapshots else "there are no snapshots yet",
            hint="drtool snapshots shows what there is" if snapshots else "make one: drtool backup PATH",
        )
    rows, warnings = _without_future(rows, now_ns)
    if latest.until_ns is not None:
        rows = _until(rows, latest.until_ns, name)
    return _latest(rows, latest, name, warnings, holds)


def _without_future(rows: list[S], now_ns: int) -> tuple[list[S], list[str]]:
    """Return the snapshots that are not dated in the future, or all if there are no others, and the warnings about it."""
    past = [row for row in rows if row.time_ns <= now_ns + FUTURE_NS]
    future = len(rows) - len(past)
    if not past:
        return rows, ["every snapshot that matches is dated in the future; taking the newest"]
    counted = "1 snapshot is" if future == 1 else f"{future} snapshots are"
    return past, [f"{counted} dated more than an hour after now and skipped for {LATEST}"] if future else []


def _until(rows: list[S], until_ns: int, name: str) -> list[S]:
    found = [row for row in rows if row.time_ns <= until_ns]
    if not found:
        raise NoSuchSnapshot(
            f"no snapshot is as old as {name}: the oldest that matches is {rows[0].id.hex()[:8]}",
            hint="drtool snapshots shows what there is",
        )
    return found


def _latest(
    rows: list[S], latest: Latest, name: str, warnings: list[str], holds: Callable[[S], bool] | None
) -> Selected[S]:
    """Return the newest of `rows` that holds the path. With `back`, start that many snapshots earlier in its source."""
    newest = next((row for row in reversed(rows) if holds is None or holds(row)), None)
    if newest is None:  # the caller reports the missing path
        nowhere = [f"the path is in none of the {len(rows)} snapshots that match"] if len(rows) > 1 else []
        return Selected(rows[-1], (*warnings, *nowhere), by_latest=True)
    heads = {source_of(row): row for row in rows}
    wanted = _back(rows, newest, latest.back)
    chosen = next((row for row in wanted if holds is None or holds(row)), wanted[0])
    if chosen is not wanted[0]:
        warnings = [*warnings, _older_words(chosen, wanted[0])]
    del heads[source_of(chosen)]  # with `back`, not always the source of the newest
    others = tuple(row for row in heads.values() if holds is None or holds(row))
    return Selected(chosen, tuple(warnings), others, by_latest=True, name=name)


def _older_words(row: Listed, wanted: Listed) -> str:
    return (
        f"the path is not in {wanted.id.hex()[:8]} of {source_words(wanted)}; "
        f"{row.id.hex()[:8]} is the newest before it that has it"
    )


def _back(rows: Sequence[S], newest: S, back: int) -> list[S]:
    """Return the snapshots of the source of `newest`, newest first, without its `back` newest ones.

    They are counted as `snapshots --latest` counts them: all snapshots without a source name are one source of their
    host.
    """
    key: Callable[[Listed], Hashable] = host_and_name if back else source_of
    same = [row for row in reversed(rows) if key(row) == key(newest)]
    if len(same) <= back:
        raise NoSuchSnapshot(
            f"{LATEST}~{back}: {source_words(newest)} has {len(same)} such snapshot{'' if len(same) == 1 else 's'}",
            hint=f"{LATEST} is the newest, {LATEST}~1 the one before it; drtool snapshots shows them",
        )
    return same[back:]


def host_and_name(row: Listed) -> tuple[str, ...]:
    """Return the key by which `snapshots --latest` distinguishes sources."""
    return row.host, row.source


def source_of(row: Listed) -> tuple[str, str, frozenset[bytes]]:
    """Return the key that identifies a source: host and name, or host and set of paths if it has no name."""
    return row.host, row.source, frozenset() if row.source else frozenset(row.paths)


def source_name(row: Listed) -> str:
    """Return the name that `--source` accepts: the source's name, or its sorted paths if it has none."""
    return row.source or " ".join(path.decode("utf-8", "backslashreplace") for path in sorted(row.paths))


def source_words(row: Listed) -> str:
    """Return a source in words for people."""
    return f"source {row.source} of {row.host}" if row.source else f"{source_name(row)} of {row.host}"


def _is_called(row: Listed, word: str) -> bool:
    """Return whether `--source word` means this source. A trailing slash, as shells complete it, is ignored."""
    text = word.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return source_name(row) in (text, text.rstrip("/") or "/") if not row.source else row.source == word


def choice_words(selected: Selected[S]) -> str | None:
    """Return which source `latest` chose and which others there are, or None if there was no choice."""
    if not selected.others:
        return None
    others = sorted(map(source_words, selected.others))
    more = f" and {len(others) - OTHERS_SHOWN} more" if len(others) > OTHERS_SHOWN else ""
    return (
        f"{selected.name} is {selected.snapshot.id.hex()[:8]}, a snapshot of {source_words(selected.snapshot)}; "
        f"the other sources are {', '.join(others[:OTHERS_SHOWN])}{more}; {_choosing(selected)} chooses one"
    )


def _choosing(selected: Selected[S]) -> str:
    """Return the options that would have chosen another source."""
    rows = (*selected.others, selected.snapshot)
    names, hosts = {source_name(row) for row in rows}, {row.host for row in rows}
    ways = [*(["--source"] if len(names) > 1 else []), *(["--host"] if len(hosts) > 1 else [])]
    return " or ".join(ways)


WHOLE_PATHS = (
    "paths in a snapshot are whole, from / on: `drtool find NAME` finds one, `drtool ls -R SNAPSHOT` lists all"
)
"""The hint for a path that does not exist."""


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
