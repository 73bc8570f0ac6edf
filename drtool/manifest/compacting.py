"""Compaction: removal of objects that no head names (left by folds that lost a race), old records and ended registers.

The objects at each site are listed first. Then a change is committed that alters nothing but the head. An earlier
proposal that could still name a listed object now has a lower ballot than a chosen head, so it cannot be chosen any
more. Its proposer folds again upon this head, under other names. So an object that was listed, and is named neither by
this head nor as retired, is garbage for ever.

Invariants
    Nothing is deleted that was not listed before the change was proposed. So a repeated compaction proposes another
    change: the first one may have been chosen, and a later fold may have stored objects that are listed now.
    No object is deleted at a site whose own head is on another checkpoint, since that site must be able to present its
    head alone.
    Registers are cleared only where they are sealed. The newest two versions of the present one stay.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from drtool.manifest.acceptor import Place, Reading, SiteView, collect_all, read_site
from drtool.manifest.finding import STATE
from drtool.manifest.head import open_head
from drtool.manifest.library import Learned, object_names
from drtool.manifest.names import ACCEPTORS, OBJECTS, Life, life_of, object_key, sealed_name, version_of
from drtool.manifest.ports import Delete, Failed, Gather, List, Note, Talk, never
from drtool.model import SiteName, counted


class Listed(msgspec.Struct, frozen=True):
    """The contents of one site: names of objects, and names below the acceptors' root."""

    objects: tuple[str, ...]
    records: tuple[str, ...]


class Compacted(msgspec.Struct, frozen=True, kw_only=True):
    """The number of objects and records that were, or would be, deleted on each site."""

    objects: dict[SiteName, int]
    records: dict[SiteName, int]


def list_everything(sites: Sequence[SiteName]) -> Talk[dict[SiteName, Listed]]:
    """Return the contents of the sites. Those that do not answer are left out."""
    replies = yield Gather({site: _list(site) for site in sites}, never)
    return {site: reply for site, reply in replies.items() if isinstance(reply, Listed)}


def _list(site: SiteName) -> Talk[Listed | Failed]:
    objects = yield List(site, OBJECTS)
    records = yield List(site, ACCEPTORS)
    for reply in (objects, records):
        if isinstance(reply, Failed):
            return reply
    return Listed(tuple(objects), tuple(records))


def garbage(listed: Listed, learned: Learned, place: Place) -> tuple[list[str], list[str]]:
    """Return the names of objects and of records that can never be needed again."""
    checkpoint = learned.checkpoint
    retired = {row.name for row in checkpoint.retired} if checkpoint else set()
    needed = {object_key(name) for name in object_names(learned) | retired}
    objects = [name for name in listed.objects if name not in needed]
    present = life_of(place.prefix)
    sealed = {life for name in listed.records if (life := life_of(name)) and name == sealed_name(life.prefix)}
    ended = [
        name for name in listed.records if (life := life_of(name)) in sealed - {present} and _is_record(life, name)
    ]
    old = [(version, name) for name in listed.records if (version := version_of(place.prefix, name)) is not None]
    newest = max((version for version, _ in old), default=0) if place.mode == "chain" else 0
    return objects, [*ended, *(name for version, name in sorted(old) if version <= newest - 2)]


def _is_record(life: Life | None, name: str) -> bool:
    return life is not None and (version_of(life.prefix, name) is not None or name == life.prefix + STATE)


def clear(listed: Mapping[SiteName, Listed], learned: Learned, places: Mapping[SiteName, Place]) -> Talk[Compacted]:
    """Delete the garbage at every voter's site. A refusal ends the work at that site."""
    talks = {
        site: _clear(places[site], learned, *garbage(rows, learned, places[site]))
        for site, rows in listed.items()
        if site in places
    }
    replies = yield Gather(talks, never)
    counts = {site: reply for site, reply in replies.items() if not isinstance(reply, Failed)}
    yield Note(
        "notify",
        ", ".join(
            f"{site}: {counted(objects, 'object')}, {counted(records, 'record')}"
            for site, (objects, records) in counts.items()
        ),
    )
    return Compacted(
        objects={site: objects for site, (objects, _) in counts.items()},
        records={site: records for site, (_, records) in counts.items()},
    )


def _clear(place: Place, learned: Learned, objects: Sequence[str], records: Sequence[str]) -> Talk[Any]:
    reading = yield from read_site(place)
    gone = (yield from _delete(place.site, objects)) if _is_on_the_same_checkpoint(place, reading, learned) else 0
    ended = yield from _delete(place.site, [name for name in records if not name.startswith(place.prefix)])
    old = (yield from collect_all(place, reading.record.version)) if isinstance(reading, SiteView) else 0
    return gone, ended + old


def _is_on_the_same_checkpoint(place: Place, reading: Reading, learned: Learned) -> bool:
    """Return whether the site's head is on the same checkpoint.

    A lagging or never chosen head still needs other objects.
    """
    return (
        isinstance(reading, SiteView)
        and open_head(place.keys, reading.record.value).checkpoint == learned.head.checkpoint
    )


def _delete(site: SiteName, names: Sequence[str]) -> Talk[int]:
    for count, name in enumerate(names):
        if isinstance((yield Delete(site, name)), Failed):
            return count
    return len(names)


def preview(listed: Mapping[SiteName, Listed], learned: Learned, places: Mapping[SiteName, Place]) -> Compacted:
    """Return what `clear` would delete now."""
    found = {site: garbage(rows, learned, places[site]) for site, rows in listed.items() if site in places}
    return Compacted(
        objects={site: len(objects) for site, (objects, _) in found.items()},
        records={site: len(records) for site, (_, records) in found.items()},
    )
