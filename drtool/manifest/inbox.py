"""The inbox: a writer that finds the manifest busy leaves its changes on the sites, and the next committer includes
them.

An entry is `manifest/inbox/<session>.<counter>`, named after the last of its changes: the sealed change set of one
commit, of which all or nothing is applied. It is a request, not a promise. Nothing is lost if it vanishes, and nothing
happens twice if it stays, comes back or is put there by another host, because a change counts once, by its op id.

Invariants
    Every entry was valid on a chosen head, and is of a kind that stays rejected once a chosen head rejects it. So its
    owner may report *rejected*, and an entry that arrives a day late changes nothing.
    The owner's journal holds the changes before any site does, since from then on other writers may commit them.
    No entry can block a commit: foreign, damaged, oversized and rejected entries are skipped.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from blake3 import blake3

from drtool.crypto import SealKind
from drtool.errors import FormatError, KeyMissing, SealBroken
from drtool.manifest.head import open_row, seal_row
from drtool.manifest.names import INBOX, inbox_key, op_id_of
from drtool.manifest.ops import (
    AddSnapshot,
    Change,
    CheckpointSession,
    CloseSession,
    ForgetSnapshots,
    Op,
    OpenSession,
    Record,
    encode_change,
)
from drtool.manifest.ports import Delete, Failed, Gather, Keys, List, Put, Read, Talk, never
from drtool.manifest.records import Config, Row
from drtool.manifest.rejection import Rejection
from drtool.manifest.state import EXCLUSIVE_KINDS, State, applied_at, apply_all
from drtool.model import SiteName

LISTED_LIMIT = 512
ENTRY_LIMIT_BYTES = 32 * 1024
SEALED_LIMIT_BYTES = 2 * ENTRY_LIMIT_BYTES
LANES = 4
FETCH_TRIES = 2
LIST_GRACE_S = 0.1
CLEAR_LIMIT = 32

Names = Mapping[SiteName, Sequence[str]]
"""The entries in the inbox of each site that answered."""


Clearing = Mapping[SiteName, Sequence[str]]
"""The entries to delete, by site."""


class Entry(Row, frozen=True):
    """One commit's change set, and the recovery generation that it is meant for. A forced recovery invalidates it."""

    generation: int
    recovery: bytes
    changes: tuple[Change, ...]

    @property
    def key(self) -> str:
        last = self.changes[-1]
        return inbox_key(last.session, last.counter)


class Fetched(msgspec.Struct, frozen=True):
    """The readable entries, and the names under which sites hold objects not made with the key."""

    entries: Sequence[Entry]
    foreign: Mapping[SiteName, Sequence[str]]


class Batch(msgspec.Struct, frozen=True):
    """Changes to commit in one head, the state after them, and the entries that can never be committed."""

    changes: tuple[Change, ...]
    state: State
    refused: tuple[str, ...] = ()


def may_be_left(changes: Sequence[Change]) -> bool:
    """Return whether they are small enough, and stay rejected once a chosen head rejects them after one that did not."""
    size_bytes = sum(len(encode_change(change)) for change in changes)
    return bool(changes) and size_bytes <= ENTRY_LIMIT_BYTES and all(_is_lasting(change.op) for change in changes)


def _is_lasting(op: Op) -> bool:
    """Return whether a rejection lasts. Sessions and snapshots end for good, but a mover in the way goes away again."""
    if isinstance(op, OpenSession):
        return op.kind not in EXCLUSIVE_KINDS
    return isinstance(op, CheckpointSession | CloseSession | AddSnapshot | ForgetSnapshots | Record)


def leave(sites: Iterable[SiteName], keys: Keys, config: Config, changes: tuple[Change, ...]) -> Talk[bool]:
    """Put the changes into the inbox, and return whether a quorum of sites has them."""
    entry, quorum = Entry(config.generation, config.recovery, changes), config.quorum
    sealed = seal_row(keys, SealKind.INBOX, entry)
    replies = yield Gather(
        {site: _put(site, entry.key, sealed) for site in sites},
        lambda results: sum(reply is None for reply in results.values()) >= quorum,
        LIST_GRACE_S,
    )
    return sum(reply is None for reply in replies.values()) >= quorum


def look(sites: Iterable[SiteName], quorum: int) -> Talk[Names]:
    """Return the inbox entries at the sites that answer first."""
    replies = yield Gather(
        {site: _list(site) for site in sites},
        lambda results: sum(not isinstance(reply, Failed) for reply in results.values()) >= quorum,
        LIST_GRACE_S,
    )
    return {site: names for site, names in replies.items() if not isinstance(names, Failed)}


def waiting(names: Names, state: State, turn: bytes) -> list[str]:
    """Return the entries that `state` does not hold, in an order determined by `turn`, so that none is last for ever.

    Those at most sites come first, since a single site could list entries just to delay the others.
    """
    count = Counter(name for listed in names.values() for name in listed)
    return sorted(
        (name for name in count if _is_waiting(name, state)), key=lambda name: (-count[name], _place(name, turn))
    )


def fetch(keys: Keys, config: Config, names: Names, wanted: Sequence[str]) -> Talk[Fetched]:
    """Return the entries, read in several lanes from each site.

    Other sites are asked for the ones that a site does not return.
    """
    entries: dict[str, Entry] = {}
    foreign: dict[SiteName, list[str]] = {}
    left = {site: set(listed) for site, listed in names.items()}
    for _ in range(FETCH_TRIES):
        shares = _shares(left, [name for name in wanted if name not in entries])
        replies = yield Gather(_lanes(shares), never)
        for site, asked in shares.items():
            left[site] -= set(asked)
            for name, data in _joined(site, replies).items():
                try:
                    entries[name] = _opened(keys, config, name, data)
                except SealBroken:
                    foreign.setdefault(site, []).append(name)
    return Fetched([entries[name] for name in wanted if name in entries and entries[name].changes], foreign)


def batch(state: State, own: tuple[Change, ...], entries: Iterable[Entry], count: int, size_bytes: int) -> Batch:
    """Return `own`, which `state` already holds, and as many of the entries as fit."""
    changes, refused = list(own), []
    left = size_bytes - sum(len(encode_change(change)) for change in own)
    for entry in entries:
        size = sum(len(encode_change(change)) for change in entry.changes)
        if len(changes) + len(entry.changes) > count or size > left or not _is_waiting(entry.key, state):
            continue
        after = apply_all(state, entry.changes)
        if isinstance(after, Rejection):
            refused.append(entry.key)
        else:
            state, left = after, left - size
            changes += entry.changes
    return Batch(tuple(changes), state, tuple(refused))


def tidy(sites: Iterable[SiteName], keys: Keys, config: Config, state: State) -> Talk[None]:
    """Delete the entries that can never be applied after `state`, which is chosen. Best effort, in the background.

    An entry made for a newer head may be deleted as well: its owner notices that and leaves it again.
    """
    yield Gather({site: _tidy(site, keys, config, state) for site in sites}, lambda _: True)


def over(names: Names, fetched: Fetched, batch: Batch, horizon: int) -> Clearing:
    """Return the obsolete entries once `batch` is chosen: rejected, foreign, or applied before change `horizon`."""
    gone = set(batch.refused)
    keys: dict[SiteName, list[str]] = {}
    for site, listed in names.items():
        foreign = fetched.foreign.get(site, ())
        keys[site] = [key for key in listed if key in gone or key in foreign or _was_applied(key, batch.state, horizon)]
    return {site: mine for site, mine in keys.items() if mine}


def clear(keys: Clearing) -> Talk[None]:
    """Delete entries, best effort and without waiting."""
    if keys:
        yield Gather({site: _delete(site, mine[:CLEAR_LIMIT]) for site, mine in keys.items()}, lambda _: True)


def key_of(changes: Sequence[Change]) -> str:
    """Return the name of the changes in the inbox."""
    return inbox_key(changes[-1].session, changes[-1].counter)


def _put(site: SiteName, key: str, sealed: bytes) -> Talk[Failed | None]:
    failed: Failed | None = yield Put(site, key, sealed)
    return failed


def _list(site: SiteName) -> Talk[Sequence[str] | Failed]:
    names = yield List(site, INBOX, limit=LISTED_LIMIT)
    return names if isinstance(names, Failed) else [name for name in names if op_id_of(name) is not None]


def _read(site: SiteName, names: Sequence[str]) -> Talk[dict[str, bytes]]:
    found: dict[str, bytes] = {}
    for name in names:
        data = yield Read(site, name)
        if isinstance(data, Failed):
            break
        if isinstance(data, bytes):
            found[name] = data
    return found


def _delete(site: SiteName, keys: Sequence[str]) -> Talk[None]:
    for key in keys:
        if isinstance((yield Delete(site, key)), Failed):
            return


def _tidy(site: SiteName, keys: Keys, config: Config, state: State) -> Talk[None]:
    names = yield from _list(site)
    for name in [] if isinstance(names, Failed) else names[:CLEAR_LIMIT]:
        data = yield Read(site, name)
        if isinstance(data, bytes) and _is_over(keys, config, name, data, state):
            yield Delete(site, name)


def _is_over(keys: Keys, config: Config, name: str, sealed: bytes, state: State) -> bool:
    """Return whether an entry can never (or not again) be in a head that is built on `state`."""
    try:
        entry = _opened(keys, config, name, sealed)
    except SealBroken:
        return True
    return bool(entry.changes) and isinstance(apply_all(state, entry.changes), Rejection)


def _shares(names: Mapping[SiteName, set[str]], wanted: Sequence[str]) -> dict[SiteName, list[str]]:
    """Return the site to read each entry from: of those that list it, the one with the fewest reads."""
    shares: dict[SiteName, list[str]] = {site: [] for site in names}
    for name in wanted:
        having = [site for site, listed in names.items() if name in listed]
        if having:
            shares[min(having, key=lambda site: len(shares[site]))].append(name)
    return shares


def _lanes(shares: Mapping[SiteName, Sequence[str]]) -> dict[SiteName, Talk[dict[str, bytes]]]:
    """Return a few readers for each site, so that many entries do not cost a round trip each."""
    return {
        _lane(site, number): _read(site, mine[number::LANES])
        for site, mine in shares.items()
        for number in range(min(LANES, len(mine)))
    }


def _lane(site: SiteName, number: int) -> SiteName:
    return SiteName(f"{site} {number}")


def _joined(site: SiteName, replies: Mapping[SiteName, dict[str, bytes] | Failed]) -> dict[str, bytes]:
    """Return what the lanes of one site have read."""
    lanes = (replies.get(_lane(site, number)) for number in range(LANES))
    return {name: data for lane in lanes if isinstance(lane, dict) for name, data in lane.items()}


def _opened(keys: Keys, config: Config, name: str, sealed: bytes) -> Entry:
    """Return the entry, or an empty one if a newer program or key is needed. `SealBroken` if it does not belong here."""
    if len(sealed) > SEALED_LIMIT_BYTES:
        raise SealBroken(f"{name} is too large for an inbox entry")
    try:
        entry = open_row(keys, SealKind.INBOX, sealed, Entry)
        sound = may_be_left(entry.changes) and entry.key == name
    except (FormatError, KeyMissing):
        return Entry(config.generation, config.recovery, ())
    if not sound or (entry.generation, entry.recovery) != (config.generation, config.recovery):
        raise SealBroken(f"{name} does not hold the entry that its name says")
    return entry


def _is_waiting(name: str, state: State) -> bool:
    op_id = op_id_of(name)
    return op_id is not None and applied_at(state, *op_id) is None


def _was_applied(name: str, state: State, horizon: int) -> bool:
    op_id = op_id_of(name)
    at = applied_at(state, *op_id) if op_id is not None else None
    return at is not None and at < horizon


def _place(name: str, turn: bytes) -> bytes:
    return blake3(turn + name.encode()).digest()
