"""Quorums: how many answers are enough, and what they mean together.

Invariants
    Any two quorums share at least one acceptor (and with `liars` f > 0, at least f+1).
    Only answers that were confirmed on their site may be passed to these functions.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from drtool.paxos.ballot import Ballot
from drtool.paxos.record import Record


def majority(voters: int, liars: int = 0) -> int:
    """Return ⌈(N + f + 1) / 2⌉: the size at which two quorums share more than `liars` acceptors."""
    if voters < 1 or liars < 0:
        raise ValueError(f"no quorum among {voters} voters with {liars} liars")
    return (voters + liars + 2) // 2


def agreed(records: Iterable[Record], quorum: int) -> Record | None:
    """Return a record whose accepted ballot and value a quorum reports.

    It is chosen, and no later one was before we asked.
    """
    found = list(records)
    counts = Counter((record.accepted, record.value) for record in found)
    return next((record for record in found if counts[record.accepted, record.value] >= quorum), None)


def highest_accepted(promises: Sequence[Record]) -> Record:
    """Return what a proposer must build on: the value accepted under the highest ballot among a quorum of promises."""
    return max(promises, key=lambda record: record.accepted)


def to_adopt(promises: Sequence[Record], voters: int, quorum: int) -> Record | None:
    """Return what a proposer must build on. None if two values share the highest ballot and too few promises decide.

    A ballot with two values was used by two copies of one machine. Each acceptor accepted one of them, so at most one
    is chosen:
    one that may have a quorum, counting all voters that gave no promise.
    """
    highest = highest_accepted(promises).accepted
    candidates = [record for record in promises if record.accepted == highest]
    counts = Counter(record.value for record in candidates)
    possible = [record for record in candidates if counts[record.value] + voters - len(promises) >= quorum]
    if len({record.value for record in possible}) > 1:
        return None
    return next(iter((*possible, *candidates)))


def highest_round(records: Iterable[Record]) -> Ballot:
    """Return the highest ballot that any of `records` promised."""
    return max(record.promised for record in records)
