"""The damaged copies that the manifest records for all hosts. Pure.

Invariants
    A finding stands until a read that began after it was recorded found the copy whole, or the copy or its place is
    gone.
    At most `DAMAGE_LIMIT` copies of packs and index segments are listed. If more were found at a target, no copy there
    counts until all of it was read.
    At most `CATALOGUE_LIMIT` copies of the catalogue's own objects are listed. One suffices for an alarm, and `repair`
    reads them all.
    Recording the same finding twice only updates the change that dates it.
"""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from drtool.manifest.names import is_catalogue
from drtool.manifest.records import Damage, Target
from drtool.manifest.rejection import Refused
from drtool.model import TargetName

DAMAGE_LIMIT = 1024
CATALOGUE_LIMIT = 128
ID_BYTES = 33
NAME_LENGTH = 256
KINDS = (b"p", b"i")


def recorded(
    rows: Sequence[Damage], damaged: Iterable[Damage], sound: Iterable[Damage], judged: int, sequence: int
) -> tuple[Damage, ...]:
    """Return the rows after change `sequence`. The copies in `sound` were read after change `judged` and are whole."""
    for row in sound:
        rows = [_without(known, row) if known.sequence <= judged else known for known in rows]
    for row in damaged:
        rows = [_without(known, row) for known in rows]
        names = tuple(sorted(set(_checked_names(row))))
        rows = [*rows, replace(row, objects=_joined(split(row)), catalogue=names, sequence=sequence)]
    return tuple(row for row in _limited(rows) if row.objects or row.more or row.catalogue)


def still_there(rows: Iterable[Damage], before: Iterable[Target], after: Iterable[Target]) -> tuple[Damage, ...]:
    """Return the rows of targets that did not move: a finding at an earlier place says nothing about a new one."""
    places = {row.name: (row.url, row.host, row.id) for row in before}
    same = {row.name for row in after if places.get(row.name) == (row.url, row.host, row.id)}
    return tuple(row for row in rows if row.target in same)


def split(row: Damage) -> list[bytes]:
    """Return the objects in a row, each as its kind and its hash. `Refused` if the row is malformed."""
    found = [row.objects[at : at + ID_BYTES] for at in range(0, len(row.objects), ID_BYTES)]
    if any(len(each) != ID_BYTES or each[:1] not in KINDS for each in found):
        raise Refused("bad-damage", f"the findings at {row.target} are not a list of packs and index segments")
    return found


def row_of(
    target: TargetName, objects: Iterable[bytes], catalogue: Iterable[str] = (), *, more: bool = False
) -> Damage:
    """Return a row for a change, with at most `DAMAGE_LIMIT` objects, and `more` if there are others."""
    listed, names = sorted(set(objects)), tuple(sorted(set(catalogue)))[:CATALOGUE_LIMIT]
    more = more or len(listed) > DAMAGE_LIMIT
    return Damage(target, b"".join(listed[:DAMAGE_LIMIT]), more, catalogue=names)


def _joined(objects: Iterable[bytes]) -> bytes:
    return b"".join(sorted(set(objects)))


def _checked_names(row: Damage) -> tuple[str, ...]:
    if any(len(name) > NAME_LENGTH or not is_catalogue(name) for name in row.catalogue):
        raise Refused("bad-damage", f"the findings at {row.target} are not a list of objects of the catalogue")
    return row.catalogue


def _without(known: Damage, row: Damage) -> Damage:
    """Return `known` without the names in `row` at the same target. `row.more` stands for every pack and segment there."""
    if known.target != row.target:
        return known
    left = tuple(name for name in known.catalogue if name not in row.catalogue)
    if row.more:
        return replace(known, objects=b"", more=False, catalogue=left)
    gone = set(split(row))
    objects = b"".join(each for each in split(known) if each not in gone)
    return replace(known, objects=objects, catalogue=left)


def _limited(rows: Iterable[Damage]) -> Iterable[Damage]:
    left, names_left = DAMAGE_LIMIT, CATALOGUE_LIMIT
    for row in rows:
        kept, names = row.objects[: left * ID_BYTES], row.catalogue[:names_left]
        left -= len(kept) // ID_BYTES
        names_left -= len(names)
        yield replace(row, objects=kept, more=row.more or kept != row.objects, catalogue=names)
