"""The acceptor's two rules, as functions from a record to its successor.

Invariants
    `promised` never decreases from version to version, nor does `accepted`, and accepted ≤ promised.
    A promise is given for a ballot above every promise. A value is accepted under a ballot not below the promise.
    Under one ballot an acceptor accepts one value. Otherwise two copies of one machine, cloned between its promises and
    its proposal, could overwrite the value chosen by the first with the value of the second.
    The caller must read the record just before it applies a rule, since the rule only holds for that record.
"""

import msgspec

from drtool.paxos.ballot import Ballot
from drtool.paxos.record import HASH_BYTES, Chain, Record


class Preempted(msgspec.Struct, frozen=True):
    """The acceptor has promised a higher ballot to another proposer."""

    by: Ballot


def found(chain: Chain, ballot: Ballot, value: bytes, token: bytes) -> Record:
    """Return version 1. An acceptor begins with an accepted value, so there is no implicit initial state."""
    return Record(1, bytes(HASH_BYTES), chain, ballot, ballot, value, token)


def promise(record: Record, record_hash: bytes, ballot: Ballot, token: bytes) -> Record | Preempted:
    """Return the next version after a promise for `ballot`. It keeps what was accepted so far."""
    if ballot <= record.promised:
        return Preempted(record.promised)
    return _successor(record, record_hash, ballot, record.accepted, record.value, token)


def accept(record: Record, record_hash: bytes, ballot: Ballot, value: bytes, token: bytes) -> Record | Preempted:
    """Return the next version after `value` is accepted under `ballot`."""
    if ballot < record.promised or (ballot == record.accepted and value != record.value):
        return Preempted(record.promised)
    return _successor(record, record_hash, ballot, ballot, value, token)


def _successor(
    record: Record, record_hash: bytes, promised: Ballot, accepted: Ballot, value: bytes, token: bytes
) -> Record:
    return Record(record.version + 1, record_hash, record.chain, promised, accepted, value, token)
