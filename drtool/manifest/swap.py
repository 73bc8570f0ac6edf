"""A register on a site that can compare and swap: one object, replaced by naming the tag that was read.

Read: list (has the configuration ended?), then read the object with its tag. No predecessor is needed, since the swap
checked it.
Write: swap. After a refusal or an unknown outcome (404, 409, 412 and a timeout are one case) read again and compare.
Our own bytes, or a record built on them, mean that it took effect. Otherwise another record was first. Then confirm by
listing.

Invariants
    A swap takes effect at most once, however often and late it is delivered. Every record holds a token drawn for it
    alone, so no two records have the same bytes, no tag ever comes back, and a swap that names a replaced tag is
    refused for ever. A swap that still finds its tag is as good as one in time, since nothing happened in between.
    So a swap without an answer may take effect later, but only on the very record that its rule was applied to. An
    unknown outcome never counts.
    The object is created once, by a swap that requires its absence, and is never deleted.
    A sealed configuration never counts: a record confirmed without a seal was there before the seal, and the sealer
    reads it.
"""

from drtool.errors import FormatError
from drtool.manifest.names import sealed_name, state_name
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
from drtool.manifest.ports import Failed, List, Missing, ReadTagged, Swap, Tagged, Talk
from drtool.paxos.record import record_hash


def read(place: Place) -> Talk[Reading]:
    """Return the acceptor's state, or why it has none."""
    trouble = yield from _look(place)
    if trouble is not None:
        return trouble
    found = yield ReadTagged(place.site, state_name(place.prefix))
    if isinstance(found, Failed):
        return unreachable(found)
    if isinstance(found, Missing):
        return absent()
    try:
        record = place.decode(found.data)
    except FormatError as error:
        return Trouble("broken", f"its record: {error}")
    return view_of(place, record, record_hash(found.data), found.tag)


def create(place: Place, data: bytes) -> Talk[Writing]:
    """Begin the acceptor with `data`, if it has not begun."""
    return (yield from _swap(place, data, None))


def replace(place: Place, view: SiteView, data: bytes) -> Talk[Writing]:
    """Replace the record that was read by `data`, if it is still there."""
    return (yield from _swap(place, data, view.tag))


def again(place: Place, view: SiteView, data: bytes) -> Swap:
    """Return the request that replaces the record by itself."""
    return Swap(place.site, state_name(place.prefix), data, view.tag)


def confirm(place: Place) -> Talk[Trouble | None]:
    """Return None if our record was there before the configuration ended. Otherwise it must not be counted."""
    trouble = yield from _look(place)
    if trouble is not None and trouble.kind == "absent":
        return Trouble("unknown", "its record vanished before it could be confirmed", definite=False)
    return trouble


def _look(place: Place) -> Talk[Trouble | None]:
    names = yield List(place.site, place.prefix)
    if isinstance(names, Failed):
        return unreachable(names)
    if sealed_name(place.prefix) in names:
        return sealed()
    return None if state_name(place.prefix) in names else absent()


def _swap(place: Place, data: bytes, expected: str | None) -> Talk[Writing]:
    tag = yield Swap(place.site, state_name(place.prefix), data, expected)
    if isinstance(tag, str):
        return Written(tag)
    there = yield ReadTagged(place.site, state_name(place.prefix))
    if isinstance(there, Failed):
        return unreachable(there)
    if isinstance(there, Tagged):
        if there.data == data:
            return Written(there.tag)
        if place.is_built_on(there.data, record_hash(data)):
            return Written()  # and was replaced since, so read again before going on from it
        return _not_heard_of(tag) if there.tag == expected else None
    if expected is None:
        return _not_heard_of(tag) or Trouble("unknown", "it refused a first record though it has none", definite=False)
    return None  # it is gone: read again


def _not_heard_of(reply: Failed | None) -> Trouble | None:
    """Return the trouble for a swap without visible effect: a failed one may still land, a refused one may be retried."""
    return Trouble("unknown", reply.reason, reply.definite) if reply is not None else None
