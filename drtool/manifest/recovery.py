"""Forced recovery after a majority is lost: a person names the surviving sites, and the manifest continues from what
they hold.

A recovery is a new generation with a random id. First every named survivor is sealed with the plan of the new
generation, so that nothing of the old one is confirmed there any more. Then the newest head among the survivors, with a
`recover` change on top, becomes the first head of the new generation. The first voter of the plan decides which head
that is, by *put if absent*, and the others copy it. So an interrupted recovery is finished by running it again, on any
host.

Invariants
    Nothing is read for the new head before all named survivors are sealed.
    A seal that is not ours does not stop the recovery: it is reported and skipped. Any number of invented names costs
    nothing.
    One generation and id has one first head, whichever host finishes it. Two ids to one generation are a fork, and are
    reported.
    Voters begin only while fewer than a quorum have begun.
    Changes acknowledged on the survivors stay. Those that only the lost majority held are given up, and this is
    reported.
    A survivor that has only a mirror provides its head, and votes only if a place there was found suitable
    (`Standing`).
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
    """Voters that begin with the recovery, besides the survivors' registers: each one's target and update mode.

    `ops`: further ops of the same change set, such as the registration of new targets.
    """

    voters: Mapping[SiteName, tuple[TargetName, Mode]] = {}
    ops: Callable[[State], Sequence[Op]] = lambda _state: ()


ALONE = Standing()
"""The survivors' own registers are the voters."""


class Survivors(msgspec.Struct, frozen=True):
    """The contents of the named sites: the newest head among them, and the newest change at each.

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
    """Return the newest head among `sites`. `NoQuorum` if one does not answer, `Refused` if one holds nothing."""
    replies = yield from look_around(sites, library.keys, wait_for_all=True)
    copies = yield from newest_in_mirrors(library)
    sightings: dict[SiteName, Sighting] = {}
    mirrored: dict[SiteName, int] = {}
    for site, reply in replies.items():
        if isinstance(reply, Failed):
            raise NoQuorum(
                f"{site} was named as a survivor but does not answer: {reply.reason}", hint="name only sites that do"
            )
        if reply.unread:
            raise NoQuorum(
                f"{site} did not return {reply.unread}, which may be newer than everything it returned, so nothing was changed",
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
                f"{site} holds no head of the manifest{why}, so nothing was changed", hint="leave it out of --from"
            )
        sightings[site] = reply
    record = newest_record(sightings.values())
    if record is None:
        raise Refused(
            f"no head at {', '.join(sites)} can be opened, so nothing was changed", hint="name other survivors"
        )
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
    """Begin a new generation at `sites` with the newest head among them, and return its configuration.

    `modes`: of their media.
    """
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
    """Return the plan of an unfinished recovery from the same sites, if it did not become the present configuration."""
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
            raise Refused(f"{site} holds a register that its own head does not mention", hint="leave it out of --from")
        voters.append(Voter(site, row.target, (yield Draw(16)), modes.get(site, row.mode)))
    for site, (target, mode) in sorted(standing.voters.items()):
        voters.append(Voter(site, target, (yield Draw(16)), mode))
    if not voters:
        raise Refused(
            f"{', '.join(before.sightings)} cannot vote, so nothing was changed",
            hint="name a place that can: --arbiter",
        )
    highest = max((config.generation for seen in known for config in seen.configs()), default=state.config.generation)
    recovery = yield Draw(16)
    liars = state.config.liars
    return Config(highest + 1, 1, tuple(voters), quorum_of(len(voters), liars), recovery, liars)


def _seal_all(library: Library, before: Survivors, plan: Config) -> Talk[None]:
    """Seal every register at every survivor, including the newest, so that it leads to `plan` or to its predecessors."""
    targets = voters_targets(before.learned, plan)
    talks = {
        site: _seal_site(library, site, _lives_to_seal(seen, plan.generation), plan, targets)
        for site, seen in before.sightings.items()
        if seen.lives  # without a register nothing can be confirmed
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
    """Return the registers at the site that end with generation `before`. The last is the newest proven one.

    A register is proven if an authentic record or seal mentions it, even if it has not begun (after two recoveries that
    met half-way). Only a few of the others are returned, since a hostile site may list any number of names.
    """
    proven = {Life(config.generation, config.number, config.recovery) for config in seen.configs()}
    named = [life for life in sorted(seen.lives, reverse=True) if life.generation < before and life not in proven]
    return [*named[:READS_LIMIT], *sorted(life for life in proven if life.generation < before)]


def _seal_site(
    library: Library, site: SiteName, lives: Sequence[Life], plan: Config, targets: Sequence[Any]
) -> Talk[Any]:
    """Seal all registers at the site, and return the configuration to which the newest one leads."""
    leads: Config | Trouble = Trouble("absent", "it holds no register")
    for life in lives:
        row = Successor(life.generation, life.number, plan, tuple(targets), life.recovery)
        yield PutIfAbsent(site, sealed_name(life.prefix), seal_row(library.keys, SealKind.SUCCESSOR, row))
        there = yield Read(site, sealed_name(life.prefix), durable=True)
        if not isinstance(there, bytes):
            return Trouble("unreachable", "it did not accept the seal", definite=False)
        ended = successor_in(library.keys, life, there)
        leads = ended.config if isinstance(ended, Successor) else plan
        if isinstance(ended, str):  # regardless of its content, its name prevents further confirmations here
            yield Note("warning", f"{site}: {sealed_name(life.prefix)}: {ended} (skipped)")
    return leads


def _begin_generation(
    context: Context, sites: Sequence[SiteName], others: Sequence[SiteName], draft: DraftBatch
) -> Talk[None]:
    """Write version 1 at every voter. The first of them decides its content."""
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
            hint="run the same recovery again: it continues where this one stopped",
        )


def _decide_first(
    context: Context, first: SiteName, sites: Sequence[SiteName], others: Sequence[SiteName], draft: DraftBatch
) -> Talk[SiteView | Trouble]:
    """Put the newest sealed-off head with the `recover` change at the first voter, unless another run did."""
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
        raise NoQuorum(
            "too few of the survivors accepted the catalogue's pages", hint="free some space there and run it again"
        )
    value = seal_head(library.keys, head, base.state.keys)
    chosen = yield from library.learn([*sites, *others], value)
    objects = yield from library.sealed_below([*sites, *others], chosen, sites)
    if not (yield from store_missing(first, objects)):
        return Trouble("unreachable", "it did not accept the catalogue's pages", definite=False)
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
        return Trouble("unreachable", "it did not accept the catalogue's pages", definite=False)
    return (yield from begin_at(place, found(place.chain, first.accepted, first.value, (yield Draw(16)))))
