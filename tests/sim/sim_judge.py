"""The checkers: what must hold of every answer, of the end, and of every alarm. They know nothing of Paxos.

Always: no two answers to one host contradict each other in silence; no change is in the list twice; an alarm has a cause.
In a world whose faults the protocol prevents from being seen (`trusted`) more: one history for everybody, in an order that
explains all answers, with every acknowledged change in it, and no alarm but about the faulty site itself.
"""

from dataclasses import dataclass, field
from typing import Any

from sim_linear import Operation, is_linearizable

from drtool.manifest.head import digests_of
from drtool.manifest.records import Config
from drtool.manifest.witness import Witness

SPECIFIED = ("append", "read", "epoch")  # what the linearizability checker knows
State = tuple[tuple[str, ...], int]


@dataclass
class Seen:
    """The newest answer that one host was given without an alarm."""

    sequence: int
    marks: tuple[str, ...]
    epoch: int


@dataclass
class Judge:
    """Collects what was seen; `violations` says what must never be."""

    trusted: bool
    violations: list[str] = field(default_factory=list)
    digests: dict[int, bytes] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    configs: dict[tuple[int, int, bytes], Config] = field(default_factory=dict)
    faulty: set[str] = field(default_factory=set)  # sites that were wiped, set back, or lie
    alarms: int = 0
    may_give_up: bool = False  # a forced recovery is under way: what only the lost majority knew may be given up

    def see(self, host: str, view: Any, before: Witness) -> State:
        """Judge a view that was shown to `host`, whose memory was `before` when it asked."""
        state = tuple(row.source for row in view.state.snapshots), view.state.ring_epoch
        if len(set(state[0])) != len(state[0]):
            self.violations.append(f"duplicates: {state[0]}")
        self._see_config(view.state.config)
        if view.problems:
            self._alarm(host, view, before)
        else:
            self._see_in_silence(host, view, state, before)
        if self.trusted and self.digests.setdefault(view.sequence, view.digest) != view.digest:
            self.violations.append(f"fork: two heads at change {view.sequence}")
        return state

    def _see_config(self, config: Config) -> None:
        place = (config.generation, config.number, config.recovery)
        if self.configs.setdefault(place, config) != config:
            self.violations.append(f"fork: two configurations {place}")

    def _see_in_silence(self, host: str, view: Any, state: State, before: Witness) -> None:
        """No alarm: then everything that this host ever saw confirmed is there, in the same order."""
        marks, epoch = state
        known = self.seen.get(host)
        if known and not (self._goes_on(known.marks, marks) and epoch >= known.epoch):
            self.violations.append(f"silent loss: {host} saw {known} and is shown {state} without an alarm")
        if self.trusted or not known or view.sequence >= known.sequence:
            self.seen[host] = Seen(view.sequence, marks, epoch)
        if not self.may_give_up and _contradicts(view, before):
            self.violations.append(f"silent loss: {host} remembers change {before.sequence}, not in {view.sequence}")

    def _goes_on(self, before: tuple[str, ...], after: tuple[str, ...]) -> bool:
        """What a recovery gave up may come back in another order, with nothing left to complain of."""
        return set(before) <= set(after) if self.may_give_up else after[: len(before)] == before

    def _alarm(self, host: str, view: Any, before: Witness) -> None:
        self.alarms += 1
        if self.may_give_up:
            self.seen.pop(host, None)  # it is told once what was given up, and goes on from there
        if self.trusted or _contradicts(view, before) is False:
            self.violations += [f"false alarm: {problem}" for problem in view.problems]

    def check(self, problems: list[Any]) -> None:
        """What `check` may say in the end: what ails faulty sites, and that fewer copies of objects are left."""
        for problem in problems:
            blamed = problem.site in self.faulty or bool(problem.kind == "missing-object" and self.faulty)
            if problem.kind == "absent" and any(place[:2] != (1, 1) for place in self.configs):
                blamed = True  # it was away when its register began; the next commit gives it another
            if problem.kind == "no-quorum" and self.faulty and any(row.kind == "absent" for row in problems):
                blamed = True  # such a register and a site that lies are together more than the quorum tolerates
            if not blamed and (self.trusted or problem.site):
                self.violations.append(f"check: {problem}")

    def conclude(self, history: list[Operation], last: State, now: float) -> None:
        """In the end, after everything has landed, everybody reads the same; and one order explains all answers."""
        if not self.trusted:
            return
        acknowledged = {op.value for op in history if op.kind == "append" and op.answer is not None}
        if not acknowledged <= set(last[0]):
            self.violations.append(f"lost acknowledgements: {sorted(acknowledged - set(last[0]))}")
        reading = Operation("read", None, now, now, last)
        if not is_linearizable([*(op for op in history if op.kind in SPECIFIED), reading]):
            self.violations.append("not linearizable")


def _contradicts(view: Any, before: Witness) -> bool | None:
    """Whether the view is no descendant of what the host saw confirmed; None if its head does not tell."""
    head = view.learned.head
    if head.sequence < before.sequence:
        return True
    place = before.sequence - head.checkpoint_sequence
    return digests_of(head)[place] != before.digest if before.sequence and place >= 0 else None
