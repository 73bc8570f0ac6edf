"""One voter's register on a passive store, in either update mode: `chain.py` or `swap.py`.

Change: apply the rule to the record just read, and write its successor. After a refusal or an unknown outcome, read
which record is there. If it is not ours, read again and apply the rule again. Finally confirm.

Invariants
    A promise or an acceptance counts only once it is confirmed. An unknown outcome never counts.
    A write succeeds only on top of the very record that the rule was applied to.
    A sealed configuration is never changed. A site that went back in time is left alone.
"""

from collections.abc import Callable

from drtool.manifest import chain, swap
from drtool.manifest.place import (
    MAC_PURPOSE,
    Changing,
    Place,
    Reading,
    SiteView,
    Trouble,
    Writing,
    unreachable,
)
from drtool.manifest.ports import Draw, Failed, Talk
from drtool.paxos import Preempted, Record
from drtool.paxos.record import record_hash

__all__ = [
    "MAC_PURPOSE",
    "Changing",
    "Place",
    "Reading",
    "Rule",
    "SiteView",
    "Trouble",
    "begin",
    "change_site",
    "collect",
    "collect_all",
    "is_due_for_collection",
    "offer_again",
    "read_site",
    "unreachable",
]

CHANGE_ATTEMPTS = 6

Rule = Callable[[Record, bytes, bytes], Record | Preempted]
"""Maps a record, its hash and a fresh token to the next record."""


def read_site(place: Place) -> Talk[Reading]:
    """Return the acceptor's state, or why it has none."""
    return (yield from swap.read(place) if place.mode == "cas" else chain.read(place))


def change_site(place: Place, view: SiteView | None, rule: Rule) -> Talk[Changing]:
    """Advance the acceptor by one version with `rule`, starting from `view` if it was read just now."""
    for _ in range(CHANGE_ATTEMPTS):
        if view is None or not _can_be_replaced(place, view):
            reading = yield from read_site(place)
            if isinstance(reading, Trouble):
                return reading
            view = reading
        if view.rolled_back:
            return Trouble("rolled-back", "it went back in time")
        successor = rule(view.record, view.record_hash, (yield Draw(16)))
        if isinstance(successor, Preempted):
            return successor
        data = place.encode(successor)
        written = yield from _write(place, view, successor.version, data)
        if isinstance(written, Trouble):
            return written
        if written is not None:
            after = SiteView(successor, record_hash(data), tag=written.tag)
            return (yield from _confirm(place, after)) or after
        view = None
    return Trouble("unknown", "others changed it faster", definite=False)


def offer_again(place: Place, view: SiteView) -> Talk[str]:
    """Write the present record once more, which changes nothing. Return why the site refused, or an empty string.

    In chain mode the name is taken, so nothing is stored. In swap mode the same bytes replace themselves, and only if
    they are still there. In both modes the call, the name and the permissions are those of a real change.
    """
    data = place.encode(view.record)
    if record_hash(data) != view.record_hash or (place.mode == "cas" and not view.tag):
        return ""
    reply = yield swap.again(place, view, data) if place.mode == "cas" else chain.again(place, view, data)
    return reply.reason if isinstance(reply, Failed) else ""


def begin(place: Place, record: Record) -> Talk[Reading]:
    """Make `record`, a version 1, the first of an acceptor, and confirm it. *broken* if another record is there."""
    data = place.encode(record)
    written = yield from swap.create(place, data) if place.mode == "cas" else chain.put_version(place, 1, data)
    if written is None:
        return Trouble("broken", "an acceptor is there already")
    if isinstance(written, Trouble):
        return written
    own_hash = record_hash(data)
    trouble = yield from swap.confirm(place) if place.mode == "cas" else chain.confirm_first(place, own_hash)
    return trouble or SiteView(record, own_hash, tag=written.tag)


def collect(place: Place, newest: int) -> Talk[int]:
    """Delete some old records, best effort, and return how many. A register in swap mode leaves none."""
    return (yield from chain.collect(place, newest)) if place.mode == "chain" else 0


def collect_all(place: Place, newest: int) -> Talk[int]:
    """Delete every old record, best effort, and return how many."""
    return (yield from chain.collect(place, newest, limit=None)) if place.mode == "chain" else 0


def is_due_for_collection(place: Place, view: SiteView) -> bool:
    return place.mode == "chain" and chain.is_due_for_collection(view.record.version)


def _can_be_replaced(place: Place, view: SiteView) -> bool:
    return place.mode == "chain" or view.tag != ""


def _write(place: Place, view: SiteView, version: int, data: bytes) -> Talk[Writing]:
    if place.mode == "cas":
        return (yield from swap.replace(place, view, data))
    return (yield from chain.put_version(place, version, data))


def _confirm(place: Place, after: SiteView) -> Talk[Trouble | None]:
    if place.mode == "cas":
        return (yield from swap.confirm(place))
    return (yield from chain.confirm(place, after.record.version, after.record_hash))
