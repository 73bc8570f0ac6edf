"""The acceptor's two rules, as functions from a record to its successor.

Invariants
    `promised` never decreases from version to version, nor does `accepted`, and accepted ≤ promised.
    A promise is given for a ballot above every promise; a value is accepted under a ballot not below the promise.
    Under one ballot an acceptor accepts one value. Two lives of one machine, frozen between its promises and its proposal and
    both continued, would otherwise overwrite with the second value what was chosen with the first.
    Re-reading the record just before the rule is applied is the caller's duty: the rule holds for what it is shown.
"""

import msgspec

from drtool.paxos.ballot import Ballot
from drtool.paxos.record import HASH_BYTES, Chain, Record


class Preempted(msgspec.Struct, frozen=True):
    """The acceptor has promised a higher ballot to somebody else."""

    by: Ballot


def found(chain: Chain, ballot: Ballot, value: bytes, token: bytes) -> Record:
    """Version 1: an acceptor begins with a value accepted; there is no implicit initial state."""
    return Record(1, bytes(HASH_BYTES), chain, ballot, ballot, value, token)


def promise(record: Record, record_hash: bytes, ballot: Ballot, token: bytes) -> Record | Preempted:
    """The next version after a promise for `ballot`; it reports what was accepted so far."""
    if ballot <= record.promised:
        return Preempted(record.promised)
    return _successor(record, record_hash, ballot, record.accepted, record.value, token)


def accept(record: Record, record_hash: bytes, ballot: Ballot, value: bytes, token: bytes) -> Record | Preempted:
    """The next version after `value` is accepted under `ballot`."""
    if ballot < record.promised or (ballot == record.accepted and value != record.value):
        return Preempted(record.promised)
    return _successor(record, record_hash, ballot, ballot, value, token)


def _successor(
    record: Record, record_hash: bytes, promised: Ballot, accepted: Ballot, value: bytes, token: bytes
) -> Record:
    return Record(record.version + 1, record_hash, record.chain, promised, accepted, value, token)
