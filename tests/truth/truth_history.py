"""Random histories: what is done to a repository, and what happens to it. Pure: the same seed gives the same steps.

Invariants
    No more sites are in trouble at a time than the promised copies cover, unless the history says that it goes beyond.
    A site's trouble ends with a healing: it is back and writable, everything is verified and repaired.
    A majority of the voters is lost in the end only, when nothing else is wrong; the catalogue is recovered by force then.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from truth_topology import ARBITER, Topology, topology

DAMAGES = ("flip", "flip", "truncate", "empty", "delete")
KINDS = ("packs", "packs", "segments", "pages", "pages", "records", "slots", "marker")
BEYOND_SHARE = 0.15
RECOVERED_SHARE = 0.2
KILLED_SHARE = 0.15
WHOLE = "whole"
"""How a repair is done that ends all trouble: it is not killed."""
KILLABLE = ("backup", "forget", "prune", "repair", "rebalance")
STEPS_MAX = 60
"""A command that is killed dies before one of its first so many changes of the file system, if it makes as many."""
ELSEWHERE_SHARE = 0.2
VERIFIED = ("back", "writable", "repair", "verify")
VERIFIED_SHARE = 0.4


@dataclass(frozen=True)
class Step:
    """One step; `words` are what `World` is told."""

    verb: str
    site: str = ""
    kind: str = ""
    how: str = ""
    share: float = 0.0
    at: float = 0.0
    draw: int = 0
    kill: int = 0
    """Before which change of the file system the command dies; 0: it lives."""
    elsewhere: bool = False
    """Whether another host runs it."""
    verified: bool = False
    """Whether everything is verified afterwards: damage is found, or stays unknown for a while."""

    def __str__(self) -> str:
        match self.verb:
            case "damage":
                return f"{self.how} {self.share:.0%} of the {self.kind} at {self.site}, newest first"
            case "edit":
                return f"edit the source (draw {self.draw})"
            case _:
                where = "on another host" if self.elsewhere else ""
                killed = f"(killed at change {self.kill})" if self.kill else ""
                return " ".join(word for word in (self.verb, self.site, where, killed) if word)


@dataclass
class _Plan:
    """What the planner knows without looking: which sites are in trouble and how."""

    draw: random.Random
    topology: Topology
    bearable: int
    sites: list[str]
    away: set[str] = field(default_factory=set)
    read_only: set[str] = field(default_factory=set)
    saved: set[str] = field(default_factory=set)
    troubled: set[str] = field(default_factory=set)
    added: int = 0

    def victim(self) -> str | None:
        """A site that trouble may come to; None if that would be more than the history bears."""
        every = {*self.sites, *(set(self.topology.every) - set(self.topology.sites))}
        if len(self.troubled) < self.bearable and (well := sorted(every - self.troubled)):
            self.troubled.add(self.draw.choice(well))
        here = sorted(self.troubled - self.away - self.read_only)
        return self.draw.choice(here) if here else None


def history(seed: int, steps: int, place: Topology | None = None) -> list[Step]:
    """The steps of a seed, about so many. It begins with two backups, and ends with a healing and a restore.

    `place`: instead of the seed's own topology.
    """
    draw = random.Random(seed)
    place = place or topology(seed)
    plan = _Plan(draw, place, place.bearable + goes_beyond(seed), list(place.sites))
    made = [Step("edit", draw=draw.randrange(1 << 30)), Step("backup"), Step("edit", draw=1), Step("backup")]
    while len(made) < steps:
        made += _next(plan)
    made = made[:steps]
    whole = [*made, *_healing(made), *_connections(made, plan), Step("restore")]
    if draw.random() < RECOVERED_SHARE:
        whole += _recovery(plan)
    return [_dressed(step, draw, first=number < 4) for number, step in enumerate(whole)]


def _dressed(step: Step, draw: random.Random, *, first: bool) -> Step:
    """Whether the command is killed, who runs it, whether everything is verified afterwards."""
    kill = step.verb in KILLABLE and step.how != WHOLE and not first and draw.random() < KILLED_SHARE
    return replace(
        step,
        kill=draw.randrange(1, STEPS_MAX) if kill else 0,
        elsewhere=step.verb in KILLABLE and not first and draw.random() < ELSEWHERE_SHARE,
        verified=step.verb in VERIFIED or draw.random() < VERIFIED_SHARE,
    )


def goes_beyond(seed: int) -> bool:
    """Whether two sites may be in trouble at once in the history of this seed."""
    return random.Random(~seed).random() < BEYOND_SHARE


def _next(plan: _Plan) -> Iterator[Step]:
    makers: list[tuple[int, Callable[[_Plan], Iterator[Step]]]] = [
        (6, _backup),
        (9, _damage),
        (3, _comings),
        (2, _restored_site),
        (3, _maintenance),
        (3, _forget),
        (3, _heal),
        (2, _keys),
        (1, _membership),
        (1, _connect),
        (1, _restore),
    ]
    weights, functions = zip(*makers, strict=True)
    yield from plan.draw.choices(functions, weights)[0](plan)


def _backup(plan: _Plan) -> Iterator[Step]:
    if plan.draw.random() < 0.7:
        yield Step("edit", draw=plan.draw.randrange(1 << 30))
    yield Step("backup")


def _damage(plan: _Plan) -> Iterator[Step]:
    if (site := plan.victim()) is not None:
        draw, kinds = plan.draw, (*KINDS, *(["mirrors"] * 3 if plan.topology.voteless else []))
        yield Step(
            "damage", site, draw.choice(kinds), draw.choice(DAMAGES), draw.choice((0.01, 0.3, 1.0)), draw.random()
        )


def _comings(plan: _Plan) -> Iterator[Step]:
    """A site goes away or comes back, becomes read-only or writable."""
    if plan.away and plan.draw.random() < 0.6:
        yield _back(plan, min(plan.away))
    elif plan.read_only and plan.draw.random() < 0.6:
        yield _writable(plan, min(plan.read_only))
    elif (site := plan.victim()) is not None:
        if plan.draw.random() < 0.7:
            plan.away.add(site)
            yield Step("away", site)
        else:
            plan.read_only.add(site)
            yield Step("read-only", site)


def _back(plan: _Plan, site: str) -> Step:
    plan.away.remove(site)
    return Step("back", site)


def _writable(plan: _Plan, site: str) -> Step:
    plan.read_only.remove(site)
    return Step("writable", site)


def _restored_site(plan: _Plan) -> Iterator[Step]:
    """A site is saved, or set back to what was saved."""
    if plan.saved and plan.draw.random() < 0.6 and (site := plan.victim()) in plan.saved:
        yield Step("set-back", site or "")
        return
    here = sorted(set(plan.sites) - plan.away - plan.read_only)
    site = plan.draw.choice(here)
    plan.saved.add(site)
    yield Step("save", site)


def _maintenance(plan: _Plan) -> Iterator[Step]:
    yield Step(plan.draw.choice(("repair", "rebalance", "prune", "repair")))


def _forget(plan: _Plan) -> Iterator[Step]:
    yield Step("forget", share=plan.draw.random())
    if plan.draw.random() < 0.7:
        yield Step("prune")


def _keys(plan: _Plan) -> Iterator[Step]:
    yield Step(plan.draw.choice(("rotate", "add-password", "remove-password")))


def _restore(_: _Plan) -> Iterator[Step]:
    yield Step("restore")


def _connect(plan: _Plan) -> Iterator[Step]:
    yield Step("connect", plan.draw.choice(sorted(set(plan.sites) - plan.away)))


def _heal(plan: _Plan) -> Iterator[Step]:
    """All trouble ends."""
    yield from (_back(plan, site) for site in sorted(plan.away))
    yield from (_writable(plan, site) for site in sorted(plan.read_only))
    yield Step("verify")
    yield Step("repair", how=WHOLE)
    plan.troubled.clear()


def _membership(plan: _Plan) -> Iterator[Step]:
    """A site that is away is replaced for good; a site comes or goes."""
    if away := plan.away & set(plan.sites):
        site = min(away)
        plan.away.remove(site)
        plan.saved.discard(site)
        plan.troubled.discard(site)
        yield Step("replace", site)
        yield Step("repair")
    elif not plan.troubled and len(plan.sites) == len(plan.topology.sites):
        plan.added += 1
        plan.sites.append(f"d{plan.added}")
        yield Step("add-site", plan.sites[-1])
        yield Step("rebalance")
    elif not plan.troubled:
        site = plan.sites.pop()
        plan.saved.discard(site)
        yield Step("drain", site)
        yield Step("rebalance")
        yield Step("remove-site", site)


def _healing(made: list[Step]) -> Iterator[Step]:
    """What ends the trouble in which `made` leaves the sites."""
    away, read_only = set(), set()
    for step in made:
        {"away": away.add, "back": away.discard, "replace": away.discard}.get(step.verb, lambda _: None)(step.site)
        {"read-only": read_only.add, "writable": read_only.discard}.get(step.verb, lambda _: None)(step.site)
    yield from (Step("back", site) for site in sorted(away))
    yield from (Step("writable", site) for site in sorted(read_only))
    yield Step("verify")
    yield Step("repair", how=WHOLE)


def _present(made: list[Step], plan: _Plan) -> list[str]:
    """The sites that store after `made`."""
    sites = set(plan.topology.sites)
    for step in made:
        {"add-site": sites.add, "remove-site": sites.discard}.get(step.verb, lambda _: None)(step.site)
    return sorted(sites)


def _connections(made: list[Step], plan: _Plan) -> Iterator[Step]:
    yield Step("connect", plan.draw.choice(_present(made, plan)))


def _recovery(plan: _Plan) -> Iterator[Step]:
    """So many voters are lost that no quorum is left; the others go on, and new places take the lost ones' part."""
    voters = plan.topology.voters
    left = plan.draw.choice([site for site in plan.topology.sites if site in voters])
    lost = plan.draw.sample(sorted(set(voters) - {left}), (len(voters) + 1) // 2)
    yield from (Step("away", site) for site in lost)
    yield Step("recover")
    for site in sorted(set(lost) - {ARBITER}):
        yield Step("replace", site, how="gone")
        yield Step("vote", site)
    yield Step("repair")
    yield Step("edit", draw=plan.draw.randrange(1 << 30))
    yield Step("backup")
    yield Step("connect", left)
    yield Step("restore")
