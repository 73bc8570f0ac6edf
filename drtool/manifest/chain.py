"""A register on a site that only supports put-if-absent: every version is an object that is never overwritten.

Read: list. The newest version m is the acceptor's state if version m-1 exists and m names its hash (or m = 1).
Write: put m+1 if absent. After a refusal or an unknown outcome, read which record is there. Then confirm by listing.

Invariants
    A write counts only if version m was still there and m+1 was the newest, or if m+2 was built on it. A late put into
    a hole that collection left is void and never counts.
    The newest two versions are never deleted. A refused delete is not an error, and old records cost readers nothing,
    since listings begin shortly before the newest version that this host saw.
"""

from collections.abc import Iterable
from typing import Any

from drtool.errors import FormatError
from drtool.manifest.names import sealed_name, version_name, version_of
from drtool.manifest.place import (
    Place,
    Reading,
    SiteView,
    Trouble,
    Writing,
    Written,
    absent,
    sealed,
    unreachable,
    view_of,
)
from drtool.manifest.ports import Delete, Failed, List, Missing, PutIfAbsent, Read, Talk
from drtool.paxos import Record
from drtool.paxos.record import record_hash

READ_ATTEMPTS = 5
COLLECT_EVERY = 16
COLLECT_AT_ONCE = 64
LISTED_BEHIND = 3


def read(place: Place) -> Talk[Reading]:
    """Return the acceptor's state, or why it has none. Repeat a read that a concurrent change made obsolete."""
    trouble = Trouble("unknown", "it changed faster than it could be read", definite=False)
    for _ in range(READ_ATTEMPTS):
        versions = yield from _list_versions(place)
        if isinstance(versions, Trouble):
            return versions
        if not versions:
            return absent()
        reading = yield from _read_newest(place, versions)
        if isinstance(reading, SiteView) or reading.kind != "broken":
            return reading
        trouble = reading  # perhaps collected between the listing and the reading: look again
    return trouble


def put_version(place: Place, version: int, data: bytes) -> Talk[Writing]:
    """Make `data` the version, if no other record took it first."""
    name = version_name(place.prefix, version)
    put = yield PutIfAbsent(place.site, name, data)
    if put is True:
        return Written()
    there = yield Read(place.site, name, durable=True)
    if isinstance(there, Failed):
        return unreachable(there)
    if isinstance(put, Failed) and isinstance(there, Missing):
        return Trouble("unknown", put.reason, put.definite)
    return Written() if there == data else None  # the token makes these bytes ours alone


def again(place: Place, view: SiteView, data: bytes) -> PutIfAbsent:
    """Return the request that puts the present version where it already is."""
    return PutIfAbsent(place.site, version_name(place.prefix, view.record.version), data)


def confirm(place: Place, version: int, own_hash: bytes) -> Talk[Trouble | None]:
    """Return None if `version`, which we put, took effect. Otherwise it must not be counted."""
    versions = yield from _list_versions(place, behind=version - 1)
    if isinstance(versions, Trouble):
        return versions
    if version - 1 in versions and max(versions) == version:
        return None
    if version - 1 in versions and version + 1 in versions:
        after = yield Read(place.site, version_name(place.prefix, version + 1), durable=True)
        if isinstance(after, bytes) and place.is_built_on(after, own_hash):
            return None
    return Trouble("unknown", f"version {version} was overtaken before it could be confirmed", definite=False)


def confirm_first(place: Place, own_hash: bytes) -> Talk[Trouble | None]:
    """Return None if our version 1 began this acceptor, or *broken* if it landed late, in the hole of a collected one."""
    versions = yield from _list_versions(place, behind=0)
    if isinstance(versions, Trouble):
        return versions
    if 1 not in versions:
        return Trouble("unknown", "its first version vanished", definite=False)
    if max(versions) == 1:
        return None
    after = yield Read(place.site, version_name(place.prefix, 2), durable=True)
    if isinstance(after, Failed):
        return unreachable(after)
    if isinstance(after, bytes) and place.is_built_on(after, own_hash):
        return None
    return Trouble("broken", "an acceptor is there already")


def collect(place: Place, newest: int, limit: int | None = COLLECT_AT_ONCE) -> Talk[int]:
    """Delete unneeded versions, up to newest - 2, oldest first.

    A refusal is not an error. Return how many were deleted.
    """
    names = yield List(place.site, place.prefix, limit=limit)
    if isinstance(names, Failed):
        return 0
    count = 0
    for version in sorted(_versions(place, names)):
        if version > newest - 2:
            break
        if isinstance((yield Delete(place.site, version_name(place.prefix, version))), Failed):
            break
        count += 1
    return count


def is_due_for_collection(version: int) -> bool:
    """Return whether a collection is due, which is now and then: a commit adds two versions."""
    return version // COLLECT_EVERY != (version - 2) // COLLECT_EVERY


def _versions(place: Place, names: Iterable[str]) -> set[int]:
    found = (version_of(place.prefix, name) for name in names)
    return {version for version in found if version is not None}


def _list_versions(place: Place, behind: int | None = None) -> Talk[set[int] | Trouble]:
    """Return the versions that the site holds, from shortly before the newest known one."""
    known = place.seen.version - LISTED_BEHIND if place.seen is not None else 0
    after = known if behind is None else behind - 1
    names: Any = yield List(place.site, place.prefix, version_name(place.prefix, after) if after > 0 else "")
    if names == [] and after > 0:
        names = yield List(place.site, place.prefix)
    if isinstance(names, Failed):
        return unreachable(names)
    return sealed() if sealed_name(place.prefix) in names else _versions(place, names)


def _read_newest(place: Place, versions: set[int]) -> Talk[Reading]:
    version = max(versions)
    data = yield from _read_durably(place, version)
    if isinstance(data, Failed):
        return unreachable(data)
    if isinstance(data, Missing):
        return Trouble("broken", f"version {version} vanished")
    try:
        record = place.decode(data)
    except FormatError as error:
        return Trouble("broken", f"version {version}: {error}")
    if record.version != version:
        return Trouble("broken", f"version {version} holds version {record.version}")
    own_hash = record_hash(data)
    if _was_seen(place, version, own_hash):
        # The predecessor was checked when this host saw the record, so its name is enough. It is still needed: a late
        # put of this record may have landed at a site that was wiped after newer versions.
        trouble = None if version == 1 or version - 1 in versions else _no_predecessor(version)
    else:
        trouble = yield from check_predecessor(place, record)
    if trouble is not None:
        return trouble
    return view_of(place, record, own_hash)


def _read_durably(place: Place, version: int) -> Talk[bytes | Missing | Failed]:
    """Return the record's bytes, durable on the site. A record that this host saw before was made durable then."""
    name = version_name(place.prefix, version)
    if place.seen is not None and place.seen.version == version:
        data: bytes | Missing | Failed = yield Read(place.site, name)
        if not isinstance(data, bytes) or record_hash(data) == place.seen.record_hash:
            return data
    data = yield Read(place.site, name, durable=True)
    return data


def check_predecessor(place: Place, record: Record) -> Talk[Trouble | None]:
    """Return a trouble unless the version before exists and is the one that `record` was built on."""
    if record.version == 1:
        return None
    before = yield Read(place.site, version_name(place.prefix, record.version - 1))
    if isinstance(before, Failed):
        return unreachable(before)
    if isinstance(before, Missing):
        return _no_predecessor(record.version)
    if record_hash(before) != record.prev:
        return Trouble("broken", f"version {record.version} was not built on version {record.version - 1}")
    return None


def _no_predecessor(version: int) -> Trouble:
    return Trouble("broken", f"version {version} has no predecessor")


def _was_seen(place: Place, version: int, own_hash: bytes) -> bool:
    return place.seen is not None and (place.seen.version, place.seen.record_hash) == (version, own_hash)
