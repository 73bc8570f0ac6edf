"""Ballots: totally ordered pairs of round and proposer, never used by two proposers.

Invariants
    The proposer is 128 random bits drawn for one proposing task, so no two tasks ever share a ballot. This includes two
    tasks of one process, and a task restored from a machine image.
    One ballot carries one value: a task that proposes again takes a higher round.
"""

from collections.abc import Iterable

import msgspec

PROPOSER_BYTES = 16
ROUND_LIMIT = 1 << 62


class Ballot(msgspec.Struct, frozen=True, order=True, array_like=True, gc=False):
    """(round, proposer), compared in that order."""

    round: int
    proposer: bytes

    def __str__(self) -> str:
        return f"{self.round}.{self.proposer[:4].hex()}" if self.round else "none"


NO_BALLOT = Ballot(0, bytes(PROPOSER_BYTES))
"""Below every ballot. An acceptor that never promised or accepted has it in that field."""


def next_ballot(seen: Iterable[Ballot], proposer: bytes) -> Ballot:
    """Return the ballot of `proposer` in the first round above every round seen."""
    return Ballot(1 + max((ballot.round for ballot in seen), default=0), proposer)


def is_sound(ballot: Ballot) -> bool:
    """Return whether a decoded ballot is one that this code could have written."""
    return 0 <= ballot.round < ROUND_LIMIT and len(ballot.proposer) == PROPOSER_BYTES
