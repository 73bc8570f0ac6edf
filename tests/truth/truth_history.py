"""Random histories: what is done to a repository, and what happens to it. Pure: the same seed gives the same steps.

Invariants
    No more sites are in trouble at a time than the promised copies cover, unless the history says that it goes beyond.
    A site's trouble ends with a healing: it is back and writable, everything is verified and repaired.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

SITES = ("a", "b", "c")
DAMAGES = ("flip", "flip", "truncate", "empty", "delete")
KINDS = ("packs", "packs", "segments", "pages", "pages", "records", "slots", "marker")
BEYOND_SHARE = 0.15
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
    verified: bool = False
    """Whether everything is verified afterwards: damage is found, or stays unknown for a while."""

    def __str__(self) -> str:
        match self.verb:
            case "damage":
                return f"{self.how} {self.share:.0%} of the {self.kind} at {self.site}, newest first"
            case "edit":
                return f"edit the source (draw {self.draw})"
            case _:
                return " ".join(word for word in (self.verb, self.site) if word)


@dataclass
class _Plan:
    """What the planner knows without looking: which sites are in trouble and how."""

    draw: random.Random
    beyond: bool
    sites: list[str] = field(default_factory=lambda: list(SITES))
    away: set[str] = field(default_factory=set)
    read_only: set[str] = field(default_factory=set)
    saved: set[str] = field(default_factory=set)
    troubled: set[str] = field(default_factory=set)
    added: int = 0

    def victim(self) -> str | None:
        """A site that trouble may come to; None if that would be more than the history bears."""
        bearable = 2 if self.beyond else 1
        if len(self.troubled) < bearable:
            self.troubled.add(self.draw.choice(sorted(set(self.sites) - self.troubled)))
        here = sorted(self.troubled - self.away - self.read_only)
        return self.draw.choice(here) if here else None


def history(seed: int, steps: int) -> list[Step]:
    """The steps of a seed, about so many. It begins with two backups, and ends with a healing and a restore."""
    draw = random.Random(seed)
    plan = _Plan(draw, goes_beyond(seed))
    made = [Step("edit", draw=draw.randrange(1 << 30)), Step("backup"), Step("edit", draw=1), Step("backup")]
    while len(made) < steps:
        made += _next(plan)
    whole = [*made[:steps], *_healing(made[:steps]), Step("restore")]
    return [replace(step, verified=step.verb in VERIFIED or draw.random() < VERIFIED_SHARE) for step in whole]


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
        draw = plan.draw
        yield Step(
            "damage", site, draw.choice(KINDS), draw.choice(DAMAGES), draw.choice((0.01, 0.3, 1.0)), draw.random()
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


def _heal(plan: _Plan) -> Iterator[Step]:
    """All trouble ends."""
    yield from (_back(plan, site) for site in sorted(plan.away))
    yield from (_writable(plan, site) for site in sorted(plan.read_only))
    yield Step("verify")
    yield Step("repair")
    plan.troubled.clear()


def _membership(plan: _Plan) -> Iterator[Step]:
    """A site that is away is replaced for good; a site comes or goes."""
    if plan.away:
        site = min(plan.away)
        plan.away.remove(site)
        plan.saved.discard(site)
        plan.troubled.discard(site)
        yield Step("replace", site)
        yield Step("repair")
    elif not plan.troubled and len(plan.sites) == len(SITES):
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
    yield Step("repair")
