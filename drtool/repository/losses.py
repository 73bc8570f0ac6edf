"""Lost data: packs that snapshots need and that have no good copy, and what may bring them back.

Invariants
    A pack is lost if no listed target has a copy that counts, and no other target may have one.
    A pack whose chunks are all in other packs with good copies is not needed, so it is no loss.
    A path is reported once per snapshot. If a directory's tree is lost, the directory itself is reported.
"""

import os
import shlex
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from drtool.errors import DrtoolError
from drtool.manifest.records import Snapshot
from drtool.model import ChunkId, PackId, TargetName, counted, pack_object
from drtool.packing import SegmentPack
from drtool.repository.evidence import Evidence, uncovered
from drtool.repository.inventory import Inventory, take_inventory
from drtool.trees import Entry, FileType, read_content, read_directory

if TYPE_CHECKING:
    from drtool.repository.repository import Repository

PATHS_SHOWN = 3


class Nowhere(Struct, frozen=True):
    """Packs without a copy that counts. `perhaps`: unreachable or given-up targets may have them."""

    lost: frozenset[PackId] = frozenset()
    perhaps: frozenset[PackId] = frozenset()
    unneeded: frozenset[PackId] = frozenset()
    places: tuple[TargetName, ...] = ()
    """The targets that may have those in `perhaps`."""

    @property
    def all(self) -> frozenset[PackId]:
        return self.lost | self.perhaps | self.unneeded

    def without_need(self) -> "Nowhere":
        """Return the same after a search through all snapshots that found nothing lost."""
        return Nowhere(perhaps=self.perhaps, unneeded=self.unneeded | self.lost, places=self.places)


class LostFrom(Struct, frozen=True, kw_only=True):
    """A snapshot that cannot be restored in full. `paths`: some of the lost ones. `there`: how many of these still
    exist.

    `there` is None for another host's snapshot.
    """

    snapshot: str
    host: str
    source: str
    paths: list[str]
    there: int | None


class LossReport(Struct, frozen=True, kw_only=True):
    """`packs`: lost. `perhaps`: an unreachable target may have a copy. `unneeded`: without a copy, but not needed."""

    packs: int = 0
    perhaps: int = 0
    places: list[TargetName] = []
    unneeded: int = 0
    snapshots: list[LostFrom] = []
    complete: bool = True
    """Whether every snapshot was searched."""
    headline: str = ""
    """The loss, for people. This and the next fields are empty if there is nothing to report."""
    remedies: list[str] = []
    hope: str = ""
    """The data that is out of reach."""
    leftovers: str = ""
    """The data that is not needed any more."""


def packs_nowhere(repository: "Repository", evidence: Evidence) -> Nowhere:
    """Classify the packs of the index without a copy that counts."""
    none = {pack for pack, sites in evidence.weak_packs().items() if not sites}
    return sorted_out(repository, evidence.inventory, none - repository.going_packs(repository.view, to_read=True))


def sorted_out(repository: "Repository", inventory: Inventory, none: Collection[PackId]) -> Nowhere:
    """Classify packs without a copy that counts: lost, possibly elsewhere, or not needed."""
    needed = uncovered(repository.index, none)
    if not needed:
        return Nowhere(unneeded=frozenset(none))
    given_up = take_inventory(repository.targets, ("packs/",), of=repository.targets.given_up())
    places: set[TargetName] = set()
    perhaps = set()
    for row in repository.index.packs():
        elsewhere = _may_have(repository, row, inventory, given_up) if row.pack in needed else []
        if elsewhere:
            places.update(elsewhere)
            perhaps.add(row.pack)
    return Nowhere(
        frozenset(needed - perhaps), frozenset(perhaps), frozenset(none) - frozenset(needed), tuple(sorted(places))
    )


def _may_have(
    repository: "Repository", row: SegmentPack, inventory: Inventory, given_up: Inventory
) -> list[TargetName]:
    name, placement = pack_object(row.pack), repository.placement
    away = {*row.targets, *placement.desired(row.pack), *placement.metadata(row.pack)}
    found = [target for target in away if repository.may_hold(target, inventory)]
    return [t for t in (*found, *given_up.holders(name, row.size_bytes)) if not repository.known_bad(t, name)]


class Losses:
    """The paths of snapshots that need lost data. Trees that need none are walked once."""

    def __init__(self, repository: "Repository", nowhere: Nowhere, ends_at: float | None = None) -> None:
        self._repository, self._nowhere, self._ends_at = repository, nowhere, ends_at
        self._clean: set[bytes] = set()
        self.complete = True
        repository.index.lost = nowhere.all

    def paths(self, snapshot: Snapshot) -> Iterator[bytes]:
        """Yield the paths of a snapshot that cannot be restored from any place."""
        frames = [_Frame(b"/", snapshot.root, self._entries(snapshot.root))]
        if frames[0].entries is None:
            yield b"/"
        while frames and not self._is_over():
            frame = frames[-1]
            entry = next(frame.entries, None) if frame.entries is not None else None
            if entry is None:
                self._leave(frames)
            elif entry.type == FileType.DIRECTORY and entry.subtree and entry.subtree not in self._clean:
                below = _Frame(frame.above + entry.name + b"/", entry.subtree, self._entries(entry.subtree))
                frames.append(below)
                if below.entries is None:
                    yield frame.above + entry.name
            elif entry.type == FileType.FILE and self._needs_lost(entry):
                frame.clean = False
                yield frame.above + entry.name

    def _leave(self, frames: list["_Frame"]) -> None:
        done = frames.pop()
        if done.clean and done.entries is not None:
            self._clean.add(done.tree)
        elif frames:
            frames[-1].clean = False

    def _is_over(self) -> bool:
        if self._ends_at is not None and time.monotonic() >= self._ends_at:
            self.complete = False
        return not self.complete

    def _entries(self, tree: bytes) -> Iterator[Entry] | None:
        """Return a directory's entries: an empty iterator if they may come back, None if they are lost."""
        if tree in self._clean:
            return iter(())
        try:
            return iter(list(read_directory(tree, self._repository.chunks)))
        except DrtoolError:
            return iter(()) if self._may_come_back(ChunkId(tree)) else None

    def _needs_lost(self, entry: Entry) -> bool:
        try:
            chunks = read_content(entry, self._repository.chunks)
            return any(chunk not in self._repository.index and not self._may_come_back(chunk) for chunk in chunks)
        except DrtoolError:  # the list of its chunks
            return not self._may_come_back(ChunkId(entry.content))

    def _may_come_back(self, chunk: ChunkId) -> bool:
        return any(place.pack.pack in self._nowhere.perhaps for place in self._repository.index.everywhere(chunk))


class _Frame(Struct):
    """A directory on the way down. `entries` is None if its tree is lost."""

    above: bytes
    tree: bytes
    entries: Iterator[Entry] | None
    clean: bool = True


def report_of(repository: "Repository", nowhere: Nowhere, ends_at: float | None = None) -> tuple[Nowhere, LossReport]:
    """Return the losses, the affected snapshots and the remedies, newest snapshots first. The index is left unchanged.

    Lost packs that no snapshot needs are moved to those that are not needed.
    """
    rows: list[tuple[Snapshot, list[bytes]]] = []
    if not nowhere.lost:
        return nowhere, make_report(repository, nowhere, rows)
    before, losses = repository.index.lost, Losses(repository, nowhere, ends_at)
    snapshots = sorted(repository.view.state.snapshots, key=lambda row: -row.sequence)
    rows = [(row, paths) for row in snapshots if (paths := _first(losses.paths(row)))]
    repository.index.lost = before
    if losses.complete and not rows:
        nowhere = nowhere.without_need()
    return nowhere, make_report(repository, nowhere, rows, complete=losses.complete)


def make_report(
    repository: "Repository",
    nowhere: Nowhere,
    rows: Sequence[tuple[Snapshot, Sequence[bytes]]],
    *,
    complete: bool = True,
) -> LossReport:
    """Return the report on snapshots with their lost paths."""
    report = LossReport(
        packs=len(nowhere.lost),
        perhaps=len(nowhere.perhaps),
        places=list(nowhere.places),
        unneeded=len(nowhere.unneeded),
        snapshots=[_lost_from(repository, row, paths[:PATHS_SHOWN]) for row, paths in rows],
        complete=complete,
    )
    return replace(
        report,
        headline=_headline(report),
        remedies=list(_remedies(repository, [row for row, _ in rows], report.snapshots)),
        hope=_hope(report),
        leftovers=_leftovers(report),
    )


def _first(paths: Iterator[bytes]) -> list[bytes]:
    return [path for path, _ in zip(paths, range(PATHS_SHOWN), strict=False)]


def _lost_from(repository: "Repository", row: Snapshot, paths: Sequence[bytes]) -> LostFrom:
    here = row.host == repository.spec.host
    return LostFrom(
        snapshot=row.id.hex(),
        host=row.host,
        source=row.source,
        paths=[os.fsdecode(path) for path in paths],
        there=sum(os.path.lexists(path) for path in paths) if here else None,
    )


def _remedies(repository: "Repository", affected: Iterable[Snapshot], told: Iterable[LostFrom]) -> Iterator[str]:
    """Yield what may bring lost data back, for each source. The newest snapshot determines the paths to back up."""
    newest: dict[tuple[str, str], Snapshot] = {}
    for row in affected:
        known = newest.get((row.host, row.source))
        if known is None or row.sequence > known.sequence:
            newest[row.host, row.source] = row
    paths = {row.snapshot: row for row in told}
    if newest and repository.index.unavailable:
        yield "drtool repair rebuilds the index segments that cannot be read, from the packs: run it first"
    for (host, _), row in sorted(newest.items()):
        lost = paths[row.id.hex()]
        where = "" if host == repository.spec.host else f"on {host}: "
        there = (
            "" if lost.there is None else f" ({lost.there} of {counted(len(lost.paths), 'lost path')} that this names)"
        )
        yield f"{where}{_backup_command(row)} stores again what the source still has{there}, for all snapshots that need it"
    if newest:
        yield "drtool verify lists every lost path, and drtool forget --snapshot ID removes a snapshot that is beyond help"


def _backup_command(row: Snapshot) -> str:
    """Return the command that backs up the same source again."""
    if row.source:
        return f"drtool backup --source {shlex.quote(row.source)}"
    return " ".join(["drtool backup", *(shlex.quote(os.fsdecode(path)) for path in row.paths)])


def _headline(report: LossReport) -> str:
    """Return one sentence about the loss, or an empty string."""
    if not report.packs:
        return ""
    head = f"{counted(report.packs, 'pack')} {_are(report.packs)} lost, no good copy is left anywhere"
    if not report.snapshots:
        return f"{head}: drtool verify lists the snapshots that need {'it' if report.packs == 1 else 'them'}"
    row, more = report.snapshots[0], "" if report.complete else " or more"
    return (
        f"{head}: {counted(len(report.snapshots), 'snapshot')}{more} cannot be restored in full,"
        f" such as {row.snapshot[:8]} ({', '.join(row.paths)})"
    )


def _hope(report: LossReport) -> str:
    """Return a sentence about data that may come back, or an empty string."""
    if not report.perhaps:
        return ""
    it, are = ("it", "is") if report.perhaps == 1 else ("them", "are")
    packs, places = counted(report.perhaps, "pack"), ", ".join(report.places)
    return f"{packs} {are} at no reachable site, but {places} may have {it}: bring back the missing targets, then drtool repair"


def _leftovers(report: LossReport) -> str:
    if not report.unneeded:
        return ""
    packs = counted(report.unneeded, "pack")
    return f"{packs} without a good copy {_are(report.unneeded)} not needed any more: drtool prune removes the rest"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
