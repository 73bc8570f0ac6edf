"""Copies that any host found damaged, until a read finds them whole again.

Invariants
    A finding is written to this host's own disk first, and then recorded in the manifest for the others. A finding that
    could not be recorded (without a quorum) stays on the disk and is recorded together with the next ones.
    A finding counts against a copy, but never proves a loss: `repair` reads the copy before it acts.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from drtool.errors import DrtoolError
from drtool.events import Emit, Warned
from drtool.manifest.damage import DAMAGE_LIMIT, row_of, split
from drtool.manifest.names import is_catalogue
from drtool.manifest.ops import Record
from drtool.manifest.records import Damage
from drtool.model import PackId, SegmentId, TargetName, pack_object, segment_object
from drtool.repository.cache import write_atomically

if TYPE_CHECKING:
    from drtool.repository.repository import Repository

Copy = tuple[TargetName, str]
"""A target and the name of an object on it."""


class Findings:
    """This host's findings that are not recorded yet, and the recorded ones."""

    def __init__(self, repository: "Repository") -> None:
        self._repository = repository
        self._path = repository.state_dir / "damage"
        self._own: frozenset[Copy] | None = None
        self._newest: tuple[int, tuple[Damage, ...]] = (-1, ())
        """The rows that this process recorded, and the change that did."""
        self._recorded: tuple[tuple[Damage, ...], frozenset[Copy]] = ((), frozenset())

    def all(self) -> frozenset[Copy]:
        """Return every copy that is known to be damaged."""
        if self._own is None:
            self._own = self._read()
        rows = self._rows()
        if self._recorded[0] != rows:
            self._recorded = (rows, frozenset(self._copies(rows)))
        return self._own | self._recorded[1]

    def update(
        self,
        damaged: Iterable[Copy],
        sound: Collection[Copy],
        *,
        judged: int | None = None,
        read_whole: Collection[TargetName] = (),
    ) -> str:
        """Add damaged copies, and drop those that were read whole or are gone. Return why this is not recorded yet, if
        so.

        `judged`: the change of the manifest before which no read began (default: the present view). Every copy at the
        targets in `read_whole` was read.
        """
        before = self._read()
        after = (before - frozenset(sound)) | frozenset(damaged)
        self._keep(before, after)
        return self._record(after, sound, self._repository.view.sequence if judged is None else judged, read_whole)

    def publish(self) -> str:
        """Record the findings that earlier runs could not record. Return why that fails, if it does."""
        return self.update((), ())

    def _keep(self, before: frozenset[Copy], after: frozenset[Copy]) -> None:
        if after != before:
            write_atomically(self._path, msgspec.msgpack.encode(sorted(after)))
        self._own = after

    def _record(
        self, own: frozenset[Copy], sound: Collection[Copy], judged: int, read_whole: Collection[TargetName]
    ) -> str:
        known = self.all() - own
        overflowed = {row.target for row in self._rows() if row.more} & set(read_whole)
        op = Record(
            damaged=tuple(_rows_of(own)),
            sound=(
                *_rows_of(copy for copy in known if copy in set(sound) and copy[0] not in overflowed),
                *(Damage(target, more=True) for target in sorted(overflowed)),
            ),
            judged=judged,
        )
        if not op.damaged and not op.sound:
            return ""
        if self._repository.view.tentative:
            return "this view of the catalogue is not certain"
        try:
            committed = self._repository.manifest.commit(op)
        except DrtoolError as error:
            return error.message
        self._newest = (committed.view.sequence, committed.view.state.damage)
        self._keep(own, frozenset())
        return ""

    def _rows(self) -> tuple[Damage, ...]:
        view = self._repository.view
        return view.state.damage if view.sequence >= self._newest[0] else self._newest[1]

    def _copies(self, rows: Iterable[Damage]) -> Iterator[Copy]:
        for row in rows:
            yield from ((row.target, _name_of(each)) for each in split(row))
            yield from ((row.target, name) for name in row.catalogue)
            if row.more:
                yield from ((row.target, name) for name in self._every_name())

    def _every_name(self) -> Iterator[str]:
        yield from (pack_object(pack.pack) for pack in self._repository.index.packs())
        yield from (segment_object(ref.id) for ref in self._repository.view.state.segments)

    def _read(self) -> frozenset[Copy]:
        try:
            return frozenset(msgspec.msgpack.decode(self._path.read_bytes(), type=list[Copy]))
        except (OSError, msgspec.MsgspecError):
            return frozenset()


@contextmanager
def recording_reads(repository: "Repository", emit: Emit) -> Iterator[None]:
    """Record for all hosts, at the end and also after a failure, which copies were found damaged."""
    try:
        yield
    except DrtoolError:
        record_reads(repository, emit)
        raise
    record_reads(repository, emit)


def record_reads(repository: "Repository", emit: Emit) -> None:
    """Record the copies found damaged so far. During a drill's fault nothing is recorded, since it is not real damage."""
    read = {(bad.target, bad.object) for bad in repository.objects.bad_copies.values() if bad.damaged}
    found = read - repository.findings.all()
    if not found or repository.targets.overlays.in_force():
        return
    where = ", ".join(sorted({target for target, _ in found}))
    untold = repository.findings.update(found, ())
    unknown = f" (not yet recorded for other hosts: {untold})" if untold else ""
    emit(Warned(message=f"damaged copies were found at {where}: drtool repair replaces them{unknown}"))


def _rows_of(copies: Iterable[Copy]) -> Iterator[Damage]:
    """Yield a row for each target. Together they name at most `DAMAGE_LIMIT` copies of packs and index segments."""
    by_target: dict[TargetName, tuple[list[bytes], list[str]]] = {}
    for target, name in copies:
        objects, catalogue = by_target.setdefault(target, ([], []))
        if is_catalogue(name):
            catalogue.append(name)
        else:
            objects.append(_id_of(name))
    each = max(1, DAMAGE_LIMIT // max(1, len(by_target)))
    for target, (objects, catalogue) in sorted(by_target.items()):
        yield row_of(target, sorted(objects)[:each], catalogue, more=len(objects) > each)


def _id_of(name: str) -> bytes:
    """Return the kind and hash of a pack or index segment."""
    return _KINDS[name.partition("/")[0]] + bytes.fromhex(name.rpartition("/")[2])


def _name_of(object_id: bytes) -> str:
    number = object_id[1:]
    return pack_object(PackId(number)) if object_id[:1] == b"p" else segment_object(SegmentId(number))


_KINDS: Mapping[str, bytes] = {"packs": b"p", "index": b"i"}
