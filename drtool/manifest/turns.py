"""Turn-taking: proposers that meet take turns instead of competing for the next ballot.

While another proposer's promise is unfinished, all others only read. They go on if nothing has changed for so long that
its owner must be gone. When the manifest is idle, the first in the inbox goes at once, and the others after it, one by
one. Each committer includes all changes that wait there.

Invariants
    Turns only decide when a ballot is begun, never what it may do. No safety depends on them, nor on a clock.
    Without contention there is no delay.
"""

from collections import Counter

import msgspec

from drtool.manifest.ports import Draw, Now, Sleep, Talk
from drtool.manifest.proposer import Survey
from drtool.paxos import NO_BALLOT, Ballot

BUSY_TRIPS = 18
"""The duration of a round with a fold and many entries.

If nothing changes for once to twice this time, its owner is gone.
"""
SPLIT_TRIPS = 8
"""If no proposer has most of the sites, one with an unfinished promise tries again within this time, and all others
wait.
"""
AHEAD_TRIPS = 4
AHEAD_LIMIT_TRIPS = 16
"""When the manifest is idle, the first in the inbox goes at once, and each other one this much later per entry before
it.
"""
IDLE_TRIPS = 10
"""A proposer whose changes cannot be in the inbox goes within this time."""
PASSED_ROUNDS = 4
"""After so many rounds without our changes we stop waiting, since the committers may not see our entry."""
POLL_TRIPS = 2

TRIP_MIN_S = 0.02
"""Below this, disks, processors and the scheduler take the time rather than the network."""
TRIP_MAX_S = 0.5
BACK_OFF_LIMIT_S = 2.0


class Crowd(msgspec.Struct):
    """A process's memory from one commit to the next: whether other writers were active."""

    met: bool = False


class Turns:
    """One commit's place among the others, and its waiting time so far."""

    def __init__(self, proposer: bytes, started_s: float, patience_s: float, *, met_others: bool) -> None:
        self.met_others = met_others
        self.busy = self.insists = False
        self._proposer = proposer
        self._ends_s = started_s + patience_s
        self._trip_s = TRIP_MAX_S
        self._now_s = self._since_s = started_s
        self._sign: tuple[Ballot, Ballot] = (NO_BALLOT, NO_BALLOT)
        self._share = 0.0
        self._holds_up = False
        self._failures = self._came_at_round = 0
        self._left_s = 0.0

    def look(self, seen: Survey, began_s: float) -> Talk[None]:
        """Update from the survey: the distance of the sites, whether another proposer is at work, and what has changed."""
        self._now_s = yield Now()
        self._trip_s = max(TRIP_MIN_S, min(self._trip_s, (self._now_s - began_s) / 2))
        records = [view.record for view in seen.views.values()]
        accepted = max((record.accepted for record in records), default=NO_BALLOT)
        unfinished = Counter(record.promised for record in records if record.promised > accepted)
        own = {ballot for ballot in unfinished if ballot.proposer == self._proposer}
        promised = max(unfinished.keys() - own, default=NO_BALLOT)
        self.busy = promised > accepted
        self._holds_up = bool(own) and not (self.busy and 2 * unfinished[promised] > len(records))
        self.met_others = self.met_others or self.busy
        if not self.met_others or not self._came_at_round:
            self._came_at_round = accepted.round
        self.insists = accepted.round - self._came_at_round > PASSED_ROUNDS
        if (promised, accepted) != self._sign:
            self._sign, self._since_s = (promised, accepted), self._now_s
            self._share = yield from _draw_share()

    def waits(self, ahead: int | None) -> bool:
        """Return whether it is not our turn yet.

        `ahead`: entries before ours in the inbox, or None if we are not in it.
        """
        if self.insists:
            self._came_at_round = 0
            return False
        self._left_s = self._since_s + self._patience_trips(ahead) * self._trip_s - self._now_s
        return self.met_others and self._left_s > 0

    def failed(self, *, met_others: bool) -> None:
        """Note a round without a result."""
        self.met_others = self.met_others or met_others
        self._failures += 1
        self._left_s = 0.0

    def pause(self) -> Talk[bool]:
        """Sleep until it is worth looking again, or return False if the patience is exhausted."""
        now_s = yield Now()
        if now_s >= self._ends_s:
            return False
        share = yield from _draw_share()
        poll_s = POLL_TRIPS * (1 + share) * self._trip_s
        if self._left_s > 0:
            yield Sleep(min(poll_s, self._left_s))
        elif self.met_others:
            yield Sleep(poll_s)
        else:
            yield Sleep(share * min(BACK_OFF_LIMIT_S, POLL_TRIPS * self._trip_s * 2 ** min(self._failures, 8)))
        return True

    def _patience_trips(self, ahead: int | None) -> float:
        if self._holds_up:
            return SPLIT_TRIPS * self._share
        if self.busy:
            return BUSY_TRIPS * (1 + self._share)
        if ahead is None:
            return IDLE_TRIPS * self._share
        return min(AHEAD_TRIPS * ahead, AHEAD_LIMIT_TRIPS) * (1 + self._share / 2)


def _draw_share() -> Talk[float]:
    """Return a random number between 0 and 1."""
    return int.from_bytes((yield Draw(4)), "big") / 2**32
