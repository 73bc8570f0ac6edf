"""When a majority is lost for ever: a person names the sites that are left, and the manifest goes on from what they hold.

A recovery is a new generation with a random id. First every named survivor is sealed with the plan of the new generation, so
that nothing of the old one is confirmed there any more; then the newest head among the survivors, with a `recover` change on
top, becomes the first head of the new generation. The first voter of the plan decides which head that is, by *put if
absent*; the others copy it. So a recovery that died is finished by running it again, by anybody.

Invariants
    Nothing is read for the new head before all named survivors are sealed.
    A seal that is not ours stops nobody: it is told and passed over. How many names a site invents costs nothing.
    One generation and id has one first head, whoever finishes it; two ids to one generation are a fork, and are named.
    Voters begin only while fewer than a quorum have begun.
    What was acknowledged on the survivors stays; what only the lost majority held is given up, and this is said.
    A survivor that has only a mirror gives its head, and votes only if a place there was found able to (`Standing`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from drtool.crypto import SealKind
from drtool.errors import NoQuorum, Refused
from drtool.manifest.acceptor import Place, SiteView, Trouble, read_site
from drtool.manifest.beginning import begin_at, places_of
from drtool.manifest.commit import head_on
from drtool.manifest.context import Context
from drtool.manifest.finding import READS_LIMIT, Sighting, age_of, forked, look_around, newest_record, successor_in
from drtool.manifest.head import seal_head, seal_row
from drtool.manifest.keyslots import SlotGuard, SlotSource
from drtool.manifest.library import Learned, Library, store_missing
from drtool.manifest.mirror import newest_in_mirrors
from drtool.manifest.names import Life, sealed_name
from drtool.manifest.ops import Change, Op, Recover
from drtool.manifest.ports import Draw, Failed, Gather, Note, PutIfAbsent, Read, Talk, never
from drtool.manifest.records import Config, Mode, Successor, Voter
from drtool.manifest.rejection import Rejection
from drtool.manifest.state import State, apply_all
from drtool.manifest.switching import quorum_of, voters_targets
from drtool.manifest.witness import Witness
from drtool.model import SiteName, TargetName
from drtool.paxos import Ballot, Record, found

Modes: TypeAlias = Mapping[SiteName, Mode]
DraftBatch = Callable[[Sequence[Op], State], tuple[Change, ...]]


class Standing(msgspec.Struct, frozen=True):
    """Voters that begin with the recovery, beside the survivors' registers: the target of each, and how its register moves on.

    `ops`: what the same change set does besides, such as making new targets known.
    """

    voters: Mapping[SiteName, tuple[TargetName, Mode]] = {}
    ops: Callable[[State], Sequence[Op]] = lambda _state: ()


ALONE = Standing()
"""The survivors' own registers are the voters."""


class Survivors(msgspec.Struct, frozen=True):
    """What the named sites hold: the newest head among them, and who holds how much of it.

    `mirrored`: the sites whose newest head is in a mirror, and when its newest change was made.
    """

    learned: Learned
    sightings: Mapping[SiteName, Sighting]
    sequences: Mapping[SiteName, int]
    mirrored: Mapping[SiteName, int] = {}

    def with_register(self) -> list[SiteName]:
        """Return the sites that hold a register of some configuration."""
        return sorted(site for site, seen in self.sightings.items() if seen.lives)


def look_at_survivors(library: Library, sites: Sequence[SiteName], others: Sequence[SiteName]) -> Talk[Survivors]:
    """The newest head among `sites`; `NoQuorum` if one does not answer, `Refused` if one holds nothing."""
    replies = yield from look_around(sites, library.keys, wait_for_all=True)
    copies = yield from newest_in_mirrors(library)
    sightings: dict[SiteName, Sighting] = {}
    mirrored: dict[SiteName, int] = {}
    for site, reply in replies.items():
        if isinstance(reply, Failed):
            raise NoQuorum(
                f"{site} was named as a survivor and does not answer: {reply.reason}", hint="name only sites that do"
            )
        if reply.unread:
            raise NoQuorum(
                f"{site} did not give {reply.unread}, which may be newer than all that it gave; nothing was changed",
                hint="run the same command again; if that object can never be read, move it away first",
            )
        copy = copies.get(site)
        if copy is not None and age_of(copy) > age_of(reply):
            sightings[site] = msgspec.structs.replace(reply, record=copy.record, config=copy.config)
            mirrored[site] = 0
            continue
        if reply.record is None:
            why = f" ({reply.problem})" if reply.problem else ""
            raise Refused(
                f"{site} holds no head of the manifest{why}; nothing was changed", hint="leave it out of --from"
            )
        sightings[site] = reply
    record = newest_record(sightings.values())
    if record is None:
        raise Refused(f"no head at {', '.join(sites)} can be opened; nothing was changed", hint="name other survivors")
    sequences: dict[SiteName, int] = {}
    for site, seen in sightings.items():
        if seen.record is not None:
            each = yield from library.learn([*sites, *others], seen.record.value)
            sequences[site] = each.head.sequence
            if site in mirrored:
                mirrored[site] = max((change.time_ns for change in each.head.recent), default=0)
    learned = yield from library.learn([*sites, *others], record.value)
    return Survivors(learned, sightings, sequences, mirrored)


def recover(
    library: Library,
    sites: Sequence[SiteName],
    others: Sequence[SiteName],
    draft: DraftBatch,
    patience_s: float,
    slots: SlotSource,
    modes: Modes,
    standing: Standing,
) -> Talk[Config]:
    """Begin a new generation at `sites` with the newest head among them; its configuration. `modes`: of their media."""
    before = yield from look_at_survivors(library, sites, others)
    elsewhere = yield from look_around(others, library.keys, wait_for_all=True)
    known = [*before.sightings.values(), *(seen for seen in elsewhere.values() if isinstance(seen, Sighting))]
    plan = _unfinished(before.sightings, known) or (yield from _plan(before, known, modes, standing))
    yield from _seal_all(library, before, plan)
    places = places_of(plan, library.keys.repository, library.keys, Witness())
    context = Context(plan, places, library, Witness(), patience_s, slots=slots)

    def drafted(ops: Sequence[Op], state: State) -> tuple[Change, ...]:
        return draft((*ops, *standing.ops(state)), state)

    yield from _begin_generation(context, sites, others, drafted)
    return plan


def _unfinished(survivors: Mapping[SiteName, Sighting], known: Sequence[Sighting]) -> Config | None:
    """The plan of a recovery from the same sites that did not get far enough to be the present configuration."""
    plans = {config for seen in survivors.values() for config in _plans(seen)}
    newest = max((config.generation for seen in known for config in seen.configs()), default=1)
    for plan in plans:
        begun = sum(any(life.recovery == plan.recovery for life in seen.lives) for seen in survivors.values())
        same = {voter.site for voter in plan.voters} == survivors.keys()
        if plan.generation == newest and same and begun < plan.quorum:
            return plan
    return None


def _plans(seen: Sighting) -> Iterable[Config]:
    return (row.config for row in seen.successors if row.config.generation > row.generation)


def _plan(before: Survivors, known: Iterable[Sighting], modes: Modes, standing: Standing) -> Talk[Config]:
    state = before.learned.state
    targets = {voter.site: voter for voter in state.config.voters}
    voters: list[Voter] = []
    for site in before.with_register():
        seen = before.sightings[site]
        config = seen.config
        row = (
            targets.get(site) or next((voter for voter in config.voters if voter.site == site), None)
            if config
            else None
        )
        if row is None:
            raise Refused(f"{site} holds a register of which its own head knows nothing", hint="leave it out of --from")
        voters.append(Voter(site, row.target, (yield Draw(16)), modes.get(site, row.mode)))
    for site, (target, mode) in sorted(standing.voters.items()):
        voters.append(Voter(site, target, (yield Draw(16)), mode))
    if not voters:
        raise Refused(
            f"{', '.join(before.sightings)} cannot vote; nothing was changed", hint="name a place that can: --arbiter"
        )
    highest = max((config.generation for seen in known for config in seen.configs()), default=state.config.generation)
    recovery = yield Draw(16)
    liars = state.config.liars
    return Config(highest + 1, 1, tuple(voters), quorum_of(len(voters), liars), recovery, liars)


def _seal_all(library: Library, before: Survivors, plan: Config) -> Talk[None]:
    """Every register at every survivor, the newest last known included, leads to `plan` or to what led there."""
    targets = voters_targets(before.learned, plan)
    talks = {
        site: _seal_site(library, site, _lives_to_seal(seen, plan.generation), plan, targets)
        for site, seen in before.sightings.items()
        if seen.lives  # where there is no register, nothing can be confirmed
    }
    if not talks:
        return
    replies = yield Gather(talks, never)
    lines: dict[bytes, list[SiteName]] = {}
    for site, reply in replies.items():
        if not isinstance(reply, Config):
            reason = reply.reason if isinstance(reply, Failed | Trouble) else "no answer"
            raise NoQuorum(
                f"{site} could not be sealed: {reason}", hint="run the same recovery again, or without that site"
            )
        lines.setdefault(reply.recovery, []).append(site)
    if len(lines) > 1 or plan.recovery not in lines:
        raise forked(plan.generation, lines | {plan.recovery: lines.get(plan.recovery, [])})
    yield Note("election", f"generation {plan.generation}: {', '.join(lines[plan.recovery])} are sealed")


def _lives_to_seal(seen: Sighting, before: int) -> list[Life]:
    """Registers at the site that end with the generation `before`; the last is the newest that is proven.

    Proven: an authentic record or seal tells of it, perhaps of one that nobody has begun (two recoveries that met
    half-way). Of those that are only a name no more than a few: a hostile site may invent any number.
    """
    proven = {Life(config.generation, config.number, config.recovery) for config in seen.configs()}
    named = [life for life in sorted(seen.lives, reverse=True) if life.generation < before and life not in proven]
    return [*named[:READS_LIMIT], *sorted(life for life in proven if life.generation < before)]


def _seal_site(
    library: Library, site: SiteName, lives: Sequence[Life], plan: Config, targets: Sequence[Any]
) -> Talk[Any]:
    """The configuration to which the newest register at the site leads after all were sealed."""
    leads: Config | Trouble = Trouble("absent", "it holds no register")
    for life in lives:
        row = Successor(life.generation, life.number, plan, tuple(targets), life.recovery)
        yield PutIfAbsent(site, sealed_name(life.prefix), seal_row(library.keys, SealKind.SUCCESSOR, row))
        there = yield Read(site, sealed_name(life.prefix), durable=True)
        if not isinstance(there, bytes):
            return Trouble("unreachable", "it did not take the seal", definite=False)
        ended = successor_in(library.keys, life, there)
        leads = ended.config if isinstance(ended, Successor) else plan
        if isinstance(ended, str):  # whatever it says, under its name nothing is confirmed here any more
            yield Note("warning", f"{site}: {sealed_name(life.prefix)}: {ended}; passed over")
    return leads


def _begin_generation(
    context: Context, sites: Sequence[SiteName], others: Sequence[SiteName], draft: DraftBatch
) -> Talk[None]:
    """Version 1 at every voter: the first of them decides what it is."""
    first, *rest = sorted(context.places)
    readings = yield Gather({site: read_site(place) for site, place in context.places.items()}, never)
    begun = {site for site, reading in readings.items() if isinstance(reading, SiteView)}
    if len(begun) >= context.quorum:
        return
    there = readings[first]
    if not isinstance(there, SiteView):
        there = yield from _decide_first(context, first, sites, others, draft)
    if not isinstance(there, SiteView):
        raise NoQuorum(
            f"{first} could not begin the new generation: {there.reason}", hint="run the same recovery again"
        )
    record = there.record
    learned = yield from context.library.learn([*sites, *others], record.value)
    objects = yield from context.library.sealed_below([*sites, *others], learned, sites)
    guard = SlotGuard(context.slots, learned, context.config)
    talks = {site: _copy(context.places[site], objects, record, guard) for site in rest if site not in begun}
    replies = yield Gather(talks, never)
    begun |= {first} | {site for site, reply in replies.items() if isinstance(reply, SiteView)}
    yield Note("decide", f"generation {context.config.generation} begins at {', '.join(sorted(begun))}")
    if len(begun) < context.quorum:
        raise NoQuorum(
            f"the new generation began at {', '.join(sorted(begun))}, {context.quorum} are needed",
            hint="run the same recovery again: it goes on where this one stopped",
        )


def _decide_first(
    context: Context, first: SiteName, sites: Sequence[SiteName], others: Sequence[SiteName], draft: DraftBatch
) -> Talk[SiteView | Trouble]:
    """Put the newest sealed-off head with the `recover` change at the first voter, unless somebody else did."""
    library = context.library
    after = yield from look_at_survivors(library, sites, others)
    base = after.learned
    op = Recover(context.config, tuple(sorted(sites)))
    changes = draft((op,), base.state)
    state = apply_all(base.state, changes)
    if isinstance(state, Rejection):
        raise Refused(f"the recovery does not apply: {state.message}")
    head = yield from head_on(context, [*sites, *others], base, changes, state)
    if head is None:
        raise NoQuorum("too few of the survivors took the catalogue's pages", hint="make room there and run it again")
    value = seal_head(library.keys, head, base.state.keys)
    chosen = yield from library.learn([*sites, *others], value)
    objects = yield from library.sealed_below([*sites, *others], chosen, sites)
    if not (yield from store_missing(first, objects)):
        return Trouble("unreachable", "it did not take the catalogue's pages", definite=False)
    locked = yield from SlotGuard(context.slots, chosen, context.config).ready(first)
    if locked is not None:
        return locked
    place = context.places[first]
    view = yield from begin_at(place, found(place.chain, Ballot(1, (yield Draw(16))), value, (yield Draw(16))))
    return view if isinstance(view, SiteView) else (yield from read_site(place))


def _copy(place: Place, objects: Mapping[bytes, bytes], first: Record, guard: SlotGuard) -> Talk[Any]:
    locked = yield from guard.ready(place.site)
    if locked is not None:
        return locked
    if not (yield from store_missing(place.site, objects)):
        return Trouble("unreachable", "it did not take the catalogue's pages", definite=False)
    return (yield from begin_at(place, found(place.chain, first.accepted, first.value, (yield Draw(16)))))
