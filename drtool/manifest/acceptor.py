"""One voter's memory on a passive store, in chain mode: every version is an object that nobody overwrites.

Read: list; the newest version m is the acceptor's memory if version m-1 is there and m names its hash (or m = 1).
Change: apply the rule to the record just read; put m+1 if absent; on a refusal or an unknown outcome look who is there,
and if it is not us, read again and apply the rule again; then confirm by listing.

Invariants
    A change counts only if version m was still there and m+1 was the newest, or m+2 was built on it: a put that lands
    late, into a hole that collection left, is void and is never counted. Unknown is never counted.
    The newest two versions are never deleted. A sealed configuration is never changed.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias

import msgspec

from drtool.errors import FormatError
from drtool.manifest.names import sealed_name, version_name, version_of
from drtool.manifest.ports import Delete, Draw, Failed, Keys, List, Missing, PutIfAbsent, Read, Talk
from drtool.manifest.witness import SiteWitness, went_back
from drtool.model import SiteName
from drtool.paxos import Chain, Preempted, Record, decode_record, encode_record
from drtool.paxos.record import record_hash

MAC_PURPOSE = "acceptor"
READ_ATTEMPTS = 5
CHANGE_ATTEMPTS = 6
COLLECT_EVERY = 16
LISTED_BEHIND = 3

Rule = Callable[[Record, bytes, bytes], Record | Preempted]
"""From a record, its hash and a fresh token to the next record."""


class Place(msgspec.Struct, frozen=True):
    """Where an acceptor is, whose memory it must be, and what this host last saw of it."""

    site: SiteName
    prefix: str
    chain: Chain
    keys: Keys
    seen: SiteWitness | None = None

    def encode(self, record: Record) -> bytes:
        return encode_record(record, lambda data: self.keys.mac(MAC_PURPOSE, data))

    def decode(self, data: bytes) -> Record:
        """The record; `FormatError` unless it is authentic and of this acceptor."""
        record = decode_record(data, lambda body, tag: self.keys.mac_matches(MAC_PURPOSE, body, tag))
        if record.chain != self.chain:
            raise FormatError(f"a record of another acceptor ({record.chain.site}) lies at {self.site}")
        return record


class SiteView(msgspec.Struct, frozen=True):
    """An acceptor's memory as it was at some moment of our reading. `rolled_back`: this host saw a newer one before."""

    record: Record
    record_hash: bytes
    rolled_back: bool = False

    def witness(self) -> SiteWitness:
        record = self.record
        return SiteWitness(record.chain.incarnation, record.version, record.promised, self.record_hash)


class Trouble(msgspec.Struct, frozen=True):
    """Why a site does not count."""

    kind: Literal["unreachable", "absent", "broken", "sealed", "rolled-back", "unknown"]
    reason: str
    definite: bool = True


Reading: TypeAlias = SiteView | Trouble
Changing: TypeAlias = SiteView | Preempted | Trouble


def unreachable(failed: Failed) -> Trouble:
    return Trouble("unreachable", failed.reason, failed.definite)


def read_site(place: Place) -> Talk[Reading]:
    """The acceptor's memory, or why it has none. Repeats what a concurrent change made obsolete."""
    trouble = Trouble("unknown", "it changed faster than it could be read", definite=False)
    for _ in range(READ_ATTEMPTS):
        versions = yield from _list_versions(place)
        if isinstance(versions, Trouble):
            return versions
        if not versions:
            return Trouble("absent", "it holds no acceptor of this configuration")
        reading = yield from _read_version(place, max(versions))
        if isinstance(reading, SiteView) or reading.kind != "broken":
            return reading
        trouble = reading  # perhaps collected between the listing and the reading: look again
    return trouble


def change_site(place: Place, view: SiteView | None, rule: Rule, *, rejoin: bool = False) -> Talk[Changing]:
    """Bring the acceptor one version further by `rule`, starting from `view` if it was read just now.

    One that went back in time is left alone, unless it is to `rejoin` after a decision that was made without it.
    """
    for _ in range(CHANGE_ATTEMPTS):
        if view is None:
            reading = yield from read_site(place)
            if isinstance(reading, Trouble):
                return reading
            view = reading
        if view.rolled_back and not rejoin:
            return Trouble("rolled-back", "it went back in time")
        successor = rule(view.record, view.record_hash, (yield Draw(16)))
        if isinstance(successor, Preempted):
            return successor
        data = place.encode(successor)
        there = yield from _put_version(place, successor.version, data)
        if isinstance(there, Trouble):
            return there
        if there:
            effective = yield from confirm(place, successor.version, record_hash(data))
            return effective or SiteView(successor, record_hash(data), view.rolled_back)
        view = None
    return Trouble("unknown", "others changed it faster", definite=False)


def confirm(place: Place, version: int, own_hash: bytes) -> Talk[Trouble | None]:
    """None if `version`, which we put, took effect; otherwise nobody may count it."""
    versions = yield from _list_versions(place, behind=version - 1)
    if isinstance(versions, Trouble):
        return versions
    if version - 1 in versions and max(versions) == version:
        return None
    if version - 1 in versions and version + 1 in versions:
        after = yield Read(place.site, version_name(place.prefix, version + 1), durable=True)
        if isinstance(after, bytes) and _built_on(place, after, own_hash):
            return None
    return Trouble("unknown", f"version {version} was overtaken before it could be confirmed", definite=False)


def confirm_first(place: Place) -> Talk[Trouble | None]:
    """None if our version 1 began this acceptor."""
    versions = yield from _list_versions(place)
    if isinstance(versions, Trouble):
        return versions
    return None if 1 in versions else Trouble("unknown", "its first version vanished", definite=False)


def collect(place: Place, newest: int) -> Talk[int]:
    """Delete what nobody needs: versions up to newest - 2, oldest first. A refusal is no error; returns how many went."""
    names = yield List(place.site, place.prefix)
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
    """Now and then: a commit adds two versions."""
    return version // COLLECT_EVERY != (version - 2) // COLLECT_EVERY


def _versions(place: Place, names: Iterable[str]) -> set[int]:
    found = (version_of(place.prefix, name) for name in names)
    return {version for version in found if version is not None}


def _list_versions(place: Place, behind: int | None = None) -> Talk[set[int] | Trouble]:
    """The versions that the site holds, from a little before the newest that we know of."""
    known = place.seen.version - LISTED_BEHIND if place.seen is not None else 0
    after = known if behind is None else behind - 1
    names: Any = yield List(place.site, place.prefix, version_name(place.prefix, after) if after > 0 else "")
    if names == [] and after > 0:
        names = yield List(place.site, place.prefix)
    if isinstance(names, Failed):
        return unreachable(names)
    if sealed_name(place.prefix) in names:
        return Trouble("sealed", "its configuration has been replaced by a newer one")
    return _versions(place, names)


def _read_version(place: Place, version: int) -> Talk[Reading]:
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
    if not _was_seen(place, version, own_hash):
        trouble = yield from check_predecessor(place, record)
        if trouble is not None:
            return trouble
    rolled_back = went_back(place.seen, version, record.promised, record.chain.incarnation)
    return SiteView(record, own_hash, rolled_back)


def _read_durably(place: Place, version: int) -> Talk[bytes | Missing | Failed]:
    """The record's bytes, durable on the site; what this host saw there before was made durable then."""
    name = version_name(place.prefix, version)
    if place.seen is not None and place.seen.version == version:
        data: bytes | Missing | Failed = yield Read(place.site, name)
        if not isinstance(data, bytes) or record_hash(data) == place.seen.record_hash:
            return data
    data = yield Read(place.site, name, durable=True)
    return data


def check_predecessor(place: Place, record: Record) -> Talk[Trouble | None]:
    """Whether the version before is there and is the one that `record` was built on."""
    if record.version == 1:
        return None
    before = yield Read(place.site, version_name(place.prefix, record.version - 1))
    if isinstance(before, Failed):
        return unreachable(before)
    if isinstance(before, Missing):
        return Trouble("broken", f"version {record.version} has no predecessor")
    if record_hash(before) != record.prev:
        return Trouble("broken", f"version {record.version} was not built on version {record.version - 1}")
    return None


def _was_seen(place: Place, version: int, own_hash: bytes) -> bool:
    return place.seen is not None and (place.seen.version, place.seen.record_hash) == (version, own_hash)


def _put_version(place: Place, version: int, data: bytes) -> Talk[bool | Trouble]:
    """Whether our bytes are at `version` now; Trouble if nobody can say."""
    name = version_name(place.prefix, version)
    put = yield PutIfAbsent(place.site, name, data)
    if put is True:
        return True
    there = yield Read(place.site, name, durable=True)
    if isinstance(there, Failed):
        return Trouble("unreachable", there.reason, there.definite)
    if isinstance(put, Failed) and isinstance(there, Missing):
        return Trouble("unknown", put.reason, put.definite)
    return bool(there == data)  # the token makes these bytes ours alone


def _built_on(place: Place, data: bytes, own_hash: bytes) -> bool:
    try:
        return place.decode(data).prev == own_hash
    except FormatError:
        return False
