"""The protocol, broken on purpose: each way must be caught by the simulator, or the simulator proves nothing.

Every entry replaces one rule of the production code by a wrong one. `PROFILE` names the world that shows it soonest.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import msgspec

from drtool.manifest import acceptor, beginning, chain, commit, inbox, proposer, swap
from drtool.manifest.place import Written
from drtool.manifest.ports import Failed, Put, PutIfAbsent, Read, ReadTagged, Tagged
from drtool.manifest.state import Rejection
from drtool.paxos import Ballot, Preempted, Record
from drtool.paxos.record import record_hash

MUTATIONS: dict[str, Callable[[], Any]] = {}
PROFILE: dict[str, str] = {}


def mutation(profile: str) -> Callable[[Callable[[], Iterator[None]]], Callable[[], Iterator[None]]]:
    def register(function: Callable[[], Iterator[None]]) -> Callable[[], Iterator[None]]:
        name = function.__name__.replace("_", "-")
        MUTATIONS[name], PROFILE[name] = contextmanager(function), profile
        return function

    return register


@mutation("lossy")
def highest_accepted_value_not_adopted() -> Iterator[None]:
    """The proposer builds on any promise's value."""
    with patch.object(commit, "to_adopt", lambda promises, *_: min(promises, key=lambda record: record.accepted)):
        yield


@mutation("lossy")
def no_op_id_dedupe() -> Iterator[None]:
    """A change that was proposed and not heard of is drafted anew, under another id."""
    prepare = commit._Commit._prepare_changes

    def forgetful(self: Any, state: Any) -> Any:
        self._changes = ()
        prepare(self, state)

    with patch.object(commit._Commit, "_prepare_changes", forgetful), patch.object(commit._Commit, "_is_in", _not_in):
        yield


def _not_in(self: Any, state: Any) -> bool:
    """Only what this very round proposed counts as done."""
    last = self._changes[-1] if self._changes else None
    value = getattr(self, "_proposed", None)
    self._proposed = last
    return last is not None and value is last and any(row.id == last.session for row in state.closed)


@mutation("calm")
def accept_without_reading_the_promise_again() -> Iterator[None]:
    """A promise that somebody else got meanwhile is overlooked."""

    def accept(record: Record, record_hash: bytes, ballot: Ballot, value: bytes, token: bytes) -> Record:
        promised = max(ballot, record.promised)
        return Record(record.version + 1, record_hash, record.chain, promised, ballot, value, token)

    with patch.object(proposer, "accept", accept), patch("drtool.paxos.record._checked", lambda record: record):
        yield


@mutation("everything")
def quorum_too_small() -> Iterator[None]:
    """Half of the sites, rounded down."""
    with patch("drtool.manifest.beginning.majority", lambda voters, _liars: voters // 2):
        yield


@mutation("lossy")
def read_from_one_site() -> Iterator[None]:
    """One acceptor's word is taken for the head."""

    def any_record(self: Any, quorum: int) -> Record | None:
        return next((view.record for view in self.views.values()), None)

    with patch.object(proposer.Survey, "agreed", any_record):
        yield


@mutation("lossy")
def unconfirmed_read() -> Iterator[None]:
    """The highest accepted value among a quorum is taken for chosen."""

    def highest(self: Any, quorum: int) -> Record | None:
        records = [view.record for view in self.views.values()]
        return max(records, key=lambda record: record.accepted) if len(records) >= quorum else None

    with patch.object(proposer.Survey, "agreed", highest):
        yield


@mutation("stalls")
def no_confirmation_after_collection() -> Iterator[None]:
    """A put that succeeded counts, also into a hole that collection left."""

    def confirm(place: Any, version: int, own_hash: bytes) -> Any:
        return None
        yield

    with patch.object(chain, "confirm", confirm):
        yield


@mutation("wiped")
def reader_skips_the_predecessor() -> Iterator[None]:
    """A late put on a wiped site is taken for its memory."""

    def check_predecessor(place: Any, record: Record) -> Any:
        return None
        yield

    with patch.object(chain, "check_predecessor", check_predecessor):
        yield


@mutation("wiped")
def absent_treated_as_initial() -> Iterator[None]:
    """A site without an acceptor is begun anew, as if it had never promised anything."""
    first: list[Record] = []
    found, read_site = beginning.found, acceptor.read_site

    def noted(*words: Any) -> Record:
        first[:] = [found(*words)]
        return first[0]

    def hopeful(place: Any) -> Any:
        reading = yield from read_site(place)
        if getattr(reading, "kind", "") != "absent":
            return reading
        record = found(place.chain, first[0].accepted, first[0].value, bytes(16))
        data = place.encode(record)
        yield PutIfAbsent(place.site, chain.version_name(place.prefix, 1), data)
        return acceptor.SiteView(record, record_hash(data))

    with (
        patch.object(beginning, "found", noted),
        patch.object(acceptor, "read_site", hopeful),
        patch.object(proposer, "read_site", hopeful),
    ):
        yield


def any_value(record: Record, own_hash: bytes, ballot: Ballot, value: bytes, token: bytes) -> Record | Preempted:
    """Accept whatever comes under the ballot that was promised, also a second value."""
    if ballot < record.promised:
        return Preempted(record.promised)
    return Record(record.version + 1, own_hash, record.chain, ballot, ballot, value, token)


@mutation("calm")
def ballot_used_by_two() -> Iterator[None]:
    """Proposers do not draw an id of their own; a promise may be given twice, and a second value be accepted under it."""

    def shared(seen: Iterable[Ballot], proposer_id: bytes) -> Ballot:
        return Ballot(1 + max(ballot.round for ballot in seen), bytes(16))

    def twice(record: Record, record_hash: bytes, ballot: Ballot, token: bytes) -> Record | Preempted:
        if ballot < record.promised:
            return Preempted(record.promised)
        return Record(record.version + 1, record_hash, record.chain, ballot, record.accepted, record.value, token)

    with (
        patch.object(proposer, "next_ballot", shared),
        patch.object(proposer, "promise", twice),
        patch.object(proposer, "accept", any_value),
    ):
        yield


@mutation("lossy")
def timeout_treated_as_success() -> Iterator[None]:
    """What was sent is taken for what is there."""

    def put_version(place: Any, version: int, data: bytes) -> Any:
        name = chain.version_name(place.prefix, version)
        put = yield PutIfAbsent(place.site, name, data)
        if put is True or isinstance(put, Failed):
            return Written()
        return Written() if (yield Read(place.site, name, durable=True)) == data else None

    confirm = chain.confirm

    def trusting(place: Any, version: int, own_hash: bytes) -> Any:
        trouble = yield from confirm(place, version, own_hash)
        return None if trouble is not None and trouble.kind == "unknown" else trouble

    with patch.object(chain, "put_version", put_version), patch.object(chain, "confirm", trusting):
        yield


@mutation("everything")
def rejection_of_a_head_that_is_not_final() -> Iterator[None]:
    """A rejection is believed although an earlier proposal of ours may still be chosen."""
    with patch.object(
        commit._Commit, "_in_flight", property(lambda self: False, lambda self, value: None), create=True
    ):
        yield


@mutation("lossy")
def swap_without_comparing() -> Iterator[None]:
    """A register that could be swapped is overwritten, and whoever was last is right."""

    def overwrite(place: Any, data: bytes, expected: str | None) -> Any:
        name = swap.state_name(place.prefix)
        if isinstance((yield Put(place.site, name, data)), Failed):
            return None
        found = yield ReadTagged(place.site, name)
        return Written(found.tag) if isinstance(found, Tagged) and found.data == data else None

    with patch.object(swap, "_swap", overwrite):
        yield


@mutation("lossy")
def tag_that_the_rule_never_saw() -> Iterator[None]:
    """The tag is read just before the swap, after the rule was applied to an older record."""
    compared = swap._swap

    def hurried(place: Any, data: bytes, expected: str | None) -> Any:
        found = yield ReadTagged(place.site, swap.state_name(place.prefix))
        return (yield from compared(place, data, found.tag if isinstance(found, Tagged) else expected))

    with patch.object(swap, "_swap", hurried):
        yield


@mutation("lossy")
def swap_that_was_not_heard_of_taken_for_done() -> Iterator[None]:
    """A timeout of a swap counts."""
    compared = swap._swap

    def trusting(place: Any, data: bytes, expected: str | None) -> Any:
        written = yield from compared(place, data, expected)
        return Written() if getattr(written, "kind", "") == "unknown" else written

    with patch.object(swap, "_swap", trusting):
        yield


@mutation("crowd")
def left_in_the_inbox_is_taken_for_done() -> Iterator[None]:
    """Who has left its changes with the others does not wait for a head that holds them."""
    is_in = commit._Commit._is_in

    def hopeful(self: Any, state: Any) -> bool:
        return self._is_waiting or is_in(self, state)

    with patch.object(commit._Commit, "_is_in", hopeful):
        yield


@mutation("crowd")
def inbox_entries_applied_without_dedupe() -> Iterator[None]:
    """What lies in the inbox goes into the head, whether it is in the manifest already or not."""

    def unjudged(state: Any, own: Any, entries: Iterable[Any], count: int, size_bytes: int) -> inbox.Batch:
        changes = list(own)
        for entry in entries:
            after = inbox.apply_all(state, entry.changes)
            state = msgspec.structs.replace(state, sequence=state.sequence + len(entry.changes))
            state = state if isinstance(after, Rejection) else after
            changes += entry.changes
        return inbox.Batch(tuple(changes), state)

    with patch.object(inbox, "batch", unjudged), patch.object(inbox, "_is_waiting", lambda name, state: True):
        yield
