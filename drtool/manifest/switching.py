"""The switch from one set of voters to the next, after a head with `stop` was chosen, and how other hosts follow.

A head with `stop` is the last of its configuration. Any host that learns that it is chosen may finish the switch, also
several at once. Its objects are copied to the new voters. Version 1 there holds that very head: the same bytes under
the same ballot from any writer. When a quorum of the new voters has begun, the old registers are sealed and cleared.

Invariants
    No acceptor of the next configuration begins before the head that stops this one is known to be chosen.
    A voter begins only with all objects of the head in place, and never after a quorum has begun: an acceptor that is
    absent then may have lost its state, and takes part again only after a decision made without it.
    Nothing of the old configuration is deleted at a site before that site is sealed, nor sealed before the next one is
    in place.

Source: Lamport, Malkhi, Zhou 2009 (Stoppable Paxos; Vertical Paxos), Rystsov 2018 for the register.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from drtool.crypto import SealKind
from drtool.errors import NoQuorum
from drtool.manifest.acceptor import Place, SiteView, Trouble, read_site
from drtool.manifest.beginning import begin_at, first_record
from drtool.manifest.finding import forked, read_seal
from drtool.manifest.head import Head, seal_row
from drtool.manifest.keyslots import SlotGuard, SlotSource
from drtool.manifest.library import Learned, Library, store_missing
from drtool.manifest.names import ACCEPTORS, Life, life_of, sealed_name, version_of
from drtool.manifest.ports import Delete, Draw, Failed, Gather, Keys, List, Note, PutIfAbsent, Talk, never
from drtool.manifest.records import Config, Mode, Successor, Target, Voter
from drtool.model import SiteName, TargetName
from drtool.paxos import Record, found, highest_accepted, majority


class Member(msgspec.Struct, frozen=True):
    """A wanted voter. `fresh`: its register starts a new incarnation, because the old state is lost or not trusted."""

    site: SiteName
    target: TargetName
    mode: Mode = "chain"
    fresh: bool = False


def check_reachable(now: Config, new: Config) -> Talk[None]:
    """Raise `NoQuorum` unless every new voter and a quorum of all can be reached, since the switch could not finish."""
    known = set(now.voters)
    replies = yield Gather({voter.site: _ping(voter.site) for voter in new.voters}, never)
    silent = {site: reply.reason for site, reply in replies.items() if isinstance(reply, Failed)}
    begins = {voter.site for voter in new.voters if voter not in known}
    if begins & silent.keys() or len(new.voters) - len(silent) < new.quorum:
        ails = ", ".join(f"{site}: {reason}" for site, reason in sorted(silent.items()))
        raise NoQuorum(
            f"the voters cannot be changed to {', '.join(voter.site for voter in new.voters)}: {ails}, so nothing was changed",
            hint="a voter that begins must be reachable, and a quorum of all of them",
        )


def _ping(site: SiteName) -> Talk[Any]:
    return (yield List(site, ACCEPTORS))


def next_config(now: Config, members: Sequence[Member]) -> Talk[Config]:
    """Return the configuration after `now` with these voters. Those that stay at the same target keep their
    incarnation.

    It tolerates as many liars as `now`. If there are too few voters for that, all of them are the quorum.
    """
    known = {(voter.site, voter.target): voter.incarnation for voter in now.voters}
    voters: list[Voter] = []
    for member in sorted(members, key=lambda member: member.site):
        kept = None if member.fresh else known.get((member.site, member.target))
        voters.append(Voter(member.site, member.target, kept or (yield Draw(16)), member.mode))
    return Config(
        now.generation, now.number + 1, tuple(voters), quorum_of(len(voters), now.liars), now.recovery, now.liars
    )


def quorum_of(voters: int, liars: int) -> int:
    """Return how many of `voters` decide if `liars` of them are tolerated, at most all."""
    return min(voters, majority(voters, liars)) if voters else 0


class Ended(Exception):
    """The configuration of a conversation has ended, and `config` follows. Never leaves the manifest.

    `last`: the head that ended it, if the switch may be unfinished, or None if a seal named the successor.
    """

    def __init__(self, config: Config, targets: Sequence[Target], last: Learned | None = None) -> None:
        super().__init__(f"configuration {config.number} follows")
        self.config = config
        self.targets = tuple(targets)
        self.last = last


def ends(config: Config, head: Head) -> bool:
    """Return whether `head` is the last one of `config`."""
    return head.stop is not None and head.stop != config


def check_goes_on(config: Config, learned: Learned) -> None:
    """Raise `Ended` if the head, known to be chosen, is the last of `config`."""
    if learned.head.stop is not None and ends(config, learned.head):
        raise Ended(learned.head.stop, voters_targets(learned, learned.head.stop), learned)


def voters_targets(learned: Learned, config: Config) -> tuple[Target, ...]:
    """Return the targets of the registers of `config`, from the state."""
    names = {voter.target for voter in config.voters}
    return tuple(row for row in learned.state.targets if row.name in names)


def follow_seals(config: Config, keys: Keys, sealed: Iterable[SiteName]) -> Talk[None]:
    """Raise `Ended` if one of the sites can prove its seal, and `Forked` if two prove different successors."""
    life = Life(config.generation, config.number, config.recovery)
    replies = yield Gather({site: read_seal(site, keys, life) for site in sealed}, never)
    found = {site: reply for site, reply in replies.items() if isinstance(reply, Successor)}
    if not found:
        return
    newest = max(found.values(), key=lambda successor: successor.config.place)
    lines: dict[bytes, list[SiteName]] = {}
    for site, successor in found.items():
        if successor.config.generation == newest.config.generation:
            lines.setdefault(successor.config.recovery, []).append(site)
    if len(lines) > 1:
        raise forked(newest.config.generation, lines)
    yield Note("election", f"configuration {newest.config.number} of generation {newest.config.generation} follows")
    raise Ended(newest.config, newest.targets)


def finish_switch(
    library: Library,
    old: Mapping[SiteName, Place],
    new: Mapping[SiteName, Place],
    config: Config,
    last: Learned,
    slots: SlotSource,
) -> Talk[None]:
    """Begin `config` with the head that ended the previous one, and seal and clear the old registers. `NoQuorum`
    otherwise.

    `Ended` if it has ended as well.
    """
    readings = yield Gather({site: read_site(place) for site, place in new.items()}, never)
    yield from follow_seals(config, library.keys, _sealed(readings))  # it began long ago, and has ended since
    begun = {site for site, reading in readings.items() if isinstance(reading, SiteView)}
    if len(begun) < config.quorum and not is_in_use(readings):
        objects = yield from library.sealed_below(list(dict.fromkeys((*old, *new))), last)
        absent = [
            site for site, reading in readings.items() if isinstance(reading, Trouble) and reading.kind == "absent"
        ]
        guard = SlotGuard(slots, last, config)
        firsts = {site: first_record(new[site], last.head, last.value) for site in absent}
        talks = {site: _begin(new[site], first, objects, guard) for site, first in firsts.items()}
        replies = yield Gather(talks, never)
        begun |= {site for site, reply in replies.items() if isinstance(reply, SiteView)}
        yield Note("notify", f"configuration {config.number} begins at {', '.join(sorted(begun)) or 'no site'}")
        _demand_quorum(config, begun, {**readings, **replies})
    yield from seal_sites(library.keys, old, config, voters_targets(last, config))


def is_in_use(readings: Mapping[SiteName, Any]) -> bool:
    """Return whether any acceptor has promised. Then a quorum had begun, and an empty acceptor has lost its state."""
    return any(isinstance(reading, SiteView) and reading.record.version > 1 for reading in readings.values())


def _sealed(readings: Mapping[SiteName, Any]) -> list[SiteName]:
    return [site for site, reading in readings.items() if isinstance(reading, Trouble) and reading.kind == "sealed"]


def begin_absent(
    library: Library,
    places: Mapping[SiteName, Place],
    config: Config,
    slots: SlotSource,
    views: Mapping[SiteName, SiteView],
    absent: Sequence[SiteName],
) -> Talk[bool]:
    """Begin voters that hold nothing in a configuration that is in use, if it would have no quorum otherwise.

    Return whether any was tried. Only a configuration that tolerates liars allows this: no more voters lost their state
    than it tolerates, and the others never began. For those it is as if only the newest proposal had reached them.
    """
    if not absent or not config.quorum - config.liars <= len(views) < config.quorum:
        return False
    newest = highest_accepted([view.record for view in views.values()])
    learned = yield from library.learn([*views, *absent], newest.value)
    objects = yield from library.sealed_below([*views, *absent], learned)
    guard = SlotGuard(slots, learned, config)
    talks: dict[SiteName, Talk[Any]] = {}
    for site in absent:
        first = found(places[site].chain, newest.accepted, newest.value, (yield Draw(16)))
        talks[site] = _begin(places[site], first, objects, guard)
    yield Gather(talks, never)
    yield Note("notify", f"{', '.join(absent)} held nothing of configuration {config.number} and should begin")
    return True


def _begin(place: Place, first: Record, objects: Mapping[bytes, bytes], guard: SlotGuard) -> Talk[Any]:
    locked = yield from guard.ready(place.site)
    if locked is not None:
        return locked
    if not (yield from store_missing(place.site, objects)):
        return Trouble("unreachable", "it did not accept the catalogue's pages", definite=False)
    begun = yield from begin_at(place, first)
    if isinstance(begun, Trouble) and begun.kind == "broken":  # another run finished the switch since we looked
        return (yield from read_site(place))
    return begun


def _demand_quorum(config: Config, begun: set[SiteName], replies: Mapping[SiteName, Any]) -> None:
    if len(begun) >= config.quorum:
        return
    ails = [f"{site}: {reply.reason}" for site, reply in sorted(replies.items()) if isinstance(reply, Trouble | Failed)]
    raise NoQuorum(
        f"the voters are changed to {', '.join(voter.site for voter in config.voters)}, and {len(begun)} of the"
        f" {config.quorum} that are needed could begin ({'; '.join(ails) or 'the others were not reached'})",
        hint="make the new voters reachable and run any command again: it finishes the change",
    )


def seal_sites(keys: Keys, ended: Mapping[SiteName, Place], config: Config, targets: Sequence[Target]) -> Talk[None]:
    """Record the successor at every register of an ended configuration, then clear the register. Best effort."""
    if not ended:
        return
    chain = next(iter(ended.values())).chain
    life = life_of(next(iter(ended.values())).prefix)
    recovery = life.recovery if life is not None else None
    row = Successor(chain.generation, chain.config_number, config, tuple(targets), recovery)
    seal = seal_row(keys, SealKind.SUCCESSOR, row)
    replies = yield Gather({site: _seal_and_clear(place, seal) for site, place in ended.items()}, _all_told, 1.0)
    told = [site for site, reply in replies.items() if reply is True]
    yield Note("notify", f"configuration {chain.config_number} is sealed at {', '.join(told) or 'no site'}")


def _all_told(results: Mapping[SiteName, Any]) -> bool:
    return any(result is True for result in results.values())


def _seal_and_clear(place: Place, seal: bytes) -> Talk[bool]:
    life = life_of(place.prefix)
    if life is None or not (yield from put_seal(place.site, place.keys, life, seal)):
        return False
    names = yield List(place.site, place.prefix)
    if isinstance(names, Failed):
        return True
    for name in names:
        if version_of(place.prefix, name) is None and name != f"{place.prefix}state":
            continue
        if isinstance((yield Delete(place.site, name)), Failed):
            break
    return True


def put_seal(site: SiteName, keys: Keys, life: Life, seal: bytes) -> Talk[bool]:
    """Seal the register, and return whether it is provably sealed now, by us or by another run."""
    put = yield PutIfAbsent(site, sealed_name(life.prefix), seal)
    if put is True:
        return True
    there = yield from read_seal(site, keys, life)
    return isinstance(there, Successor)
