"""Plays a history, and judges after each step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from command_shell import Ran
from truth_catalogue import Unreadable
from truth_history import Step
from truth_judgement import Answer, Case, Complaint, Connected, Restored, judge
from truth_kill import KILLED
from truth_oracle import Copy, Truth
from truth_world import World


@dataclass
class Played:
    """What became of a history: what was done, and what was said and not so."""

    seed: int
    lines: list[str] = field(default_factory=list)
    complaints: list[Complaint] = field(default_factory=list)


def play(
    world: World,
    steps: Sequence[Step],
    without: frozenset[str] = frozenset(),
    judged_from: int = 1,
    note: Callable[[str], None] = lambda _: None,
) -> Played:
    """All steps, or up to the first complaint. `without`: rules to leave out; `judged_from`: the first step to judge."""
    played = Played(world.seed)
    before = world.look()
    for number, step in enumerate(steps, start=1):
        did = world.do(step)
        settled = world.settle() if did is not None and did.code == KILLED else None
        line = f"{number:3} {step}{'' if did is None else f' -> exit {did.code}'}"
        played.lines.append(line)
        note(line)
        if number < judged_from:
            before = world.look()
            continue
        try:
            after = world.look()
        except Unreadable:  # two sites in trouble at once may take the catalogue itself
            played.lines.append("    the catalogue cannot be read any more")
            return played
        world.take_note(after)
        played.complaints = judge(_case(world, step, did, settled, before, after), without)
        if played.complaints:
            return played
        before = world.look()
    return played


def _case(world: World, step: Step, did: Ran | None, settled: Ran | None, before: Truth, after: Truth) -> Case:
    known = world.known
    failed: list[tuple[str, Answer]] = []
    if settled is not None and settled.code:
        failed.append(("tag, after a command was killed,", Answer(*_said(settled))))

    def look(*words: str, command: Callable[..., Ran] = world.command) -> Answer | None:
        """The answer of a command that only looks; one that failed is noted."""
        said = Answer(*_said(command(*words)))
        if "error" in said.document:
            failed.append((words[0], said))
            return None
        return said

    status = look("status")
    verify = look("verify", "--level", "full") if step.verified else None
    if verify is not None:
        world.known = _shown(known, after)
    status_after = look("status") if verify is not None else None
    status_elsewhere = look("status", command=world.elsewhere) if verify is not None else None
    survive = look("survive")
    restored = tuple(Restored(name, same, ran.code) for name, same, ran in world.restored)
    world.restored.clear()
    joined = world.connected
    return Case(
        step=step,
        before=before,
        after=after,
        now=world.look(),  # a verification commits what it covered
        known=known,
        acknowledged=dict(world.acknowledged),
        did=None if did is None else Answer(*_said(did)),
        status=status,
        verify=verify,
        status_after=status_after,
        status_elsewhere=status_elsewhere,
        survive=survive,
        failed=tuple(failed),
        restored=restored,
        connected=None if joined is None else Connected(joined[0], joined[1].code, joined[2], joined[1].out),
        shown=world.known,
    )


def _shown(known: frozenset[Copy], after: Truth) -> frozenset[Copy]:
    """The damage that a full verification has seen; what lies at a site that is away is known from before."""
    behind = {(row.target, "register") for row in after.good.voters if row.sequence < after.catalogue.sequence}
    return frozenset(copy for copy in known if copy[0] not in after.usable) | after.damaged | after.rotten | behind


def _said(ran: Ran) -> tuple[int, dict]:
    return ran.code, {} if ran.code == KILLED else ran.document
