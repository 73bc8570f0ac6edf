"""The manifest's data on a site, independent of its voters: for new hosts, for reading without a quorum, for recovery.

Invariants
    Only authentic bytes count: a record of this repository and site, under the name of its version, or a seal that
    names the configuration it ends. All other objects are skipped.
    A site is asked for a bounded number of objects, regardless of how many names it lists.
    Two recoveries to one generation are a fork. It is reported, and only a person resolves it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from drtool.crypto import SealKind
from drtool.errors import DrtoolError, Forked, FormatError, NoQuorum, NoRepository
from drtool.manifest.acceptor import MAC_PURPOSE
from drtool.manifest.head import Head, open_head, open_row
from drtool.manifest.names import ACCEPTORS, Life, life_of, sealed_name, version_of
from drtool.manifest.ports import Failed, Gather, Keys, List, Read, Talk
from drtool.manifest.records import Config, Successor
from drtool.model import SiteName
from drtool.paxos import NO_BALLOT, Ballot, Record, decode_record

READS_LIMIT = 64
RIVALS_LIMIT = 16
RIVAL_READS = 4
STATE = "state"


class Sighting(msgspec.Struct, frozen=True):
    """The contents of one site: the newest authentic record, the seals of ended configurations, and unreadable items.

    `unread`: a possibly newer record whose bytes the site did not return. `rivals`: other recoveries to the generation
    of `record`, proven by their authentic records.
    """

    site: SiteName
    record: Record | None
    config: Config | None
    successors: tuple[Successor, ...]
    lives: tuple[Life, ...]
    problem: str = ""
    unread: str = ""
    rivals: tuple[Config, ...] = ()

    def configs(self) -> Iterable[Config]:
        """Yield every configuration that the site has evidence of."""
        yield from (successor.config for successor in self.successors)
        if self.config is not None:
            yield self.config
        yield from self.rivals


def why_no_head(reply: object) -> str:
    """Return why a site's answer holds no head, for an error message."""
    if isinstance(reply, Sighting):
        return reply.problem or "it holds none"
    return reply.reason if isinstance(reply, Failed) else "no answer"


def look_at(site: SiteName, keys: Keys) -> Talk[Sighting | Failed]:
    """Return everything of the manifest that the site holds, except objects."""
    names = yield List(site, ACCEPTORS)
    if isinstance(names, Failed):
        return names
    lives: dict[Life, list[str]] = {}
    for name in names:
        life = life_of(name)
        if life is not None:
            lives.setdefault(life, []).append(name)
    newest_first = sorted(lives, reverse=True)
    successors = yield from _successors(
        site, keys, [life for life in newest_first if sealed_name(life.prefix) in lives[life]]
    )
    record, problem, unread = yield from _newest_record(site, keys, {life: lives[life] for life in newest_first})
    config = config_of(keys, record) if record is not None else None
    rivals = (yield from _rivals(site, keys, config, lives)) if config is not None else ()
    return Sighting(site, record, config, successors, tuple(newest_first), problem, unread, rivals)


def _rivals(
    site: SiteName, keys: Keys, config: Config, lives: Mapping[Life, Sequence[str]]
) -> Talk[tuple[Config, ...]]:
    """Return configurations of the same generation that another recovery began. A name alone proves nothing."""
    found: list[Config] = []
    others = [life for life in lives if life.generation == config.generation and life.recovery != config.recovery]
    for life in sorted(others, reverse=True)[:RIVALS_LIMIT]:
        newest = sorted(name for name in lives[life] if _holds_record(life, name))[-RIVAL_READS:]
        record, _, _ = yield from _newest_record(site, keys, {life: newest})
        rival = config_of(keys, record) if record is not None else None
        if rival is not None and rival.recovery == life.recovery:
            found.append(rival)
    return tuple(found)


def _successors(site: SiteName, keys: Keys, ended: Sequence[Life]) -> Talk[tuple[Successor, ...]]:
    found: list[Successor] = []
    for life in ended[:READS_LIMIT]:
        successor = yield from read_seal(site, keys, life)
        if isinstance(successor, Successor):
            found.append(successor)
    return tuple(found)


def read_seal(site: SiteName, keys: Keys, life: Life) -> Talk[Successor | str]:
    """Return the successor of an ended configuration, or a sentence if the site's `z-sealed` does not name it."""
    sealed = yield Read(site, sealed_name(life.prefix))
    if not isinstance(sealed, bytes):
        return sealed.reason if isinstance(sealed, Failed) else "its seal is gone"
    return successor_in(keys, life, sealed)


def successor_in(keys: Keys, life: Life, sealed: bytes) -> Successor | str:
    """Return what the bytes of a seal say about the register of `life`, or a sentence if they are not ours."""
    try:
        successor = open_row(keys, SealKind.SUCCESSOR, sealed, Successor)
    except DrtoolError as error:
        return f"its seal is not ours: {error.message}"
    if (successor.generation, successor.number) != (life.generation, life.number) or (
        successor.recovery not in (None, life.recovery)  # two recoveries may have begun the same generation
    ):
        return "its seal belongs to another configuration"
    return successor


def _newest_record(
    site: SiteName, keys: Keys, lives: Mapping[Life, Sequence[str]]
) -> Talk[tuple[Record | None, str, str]]:
    """Return the newest authentic record, why newer ones do not count, and which of them was not read."""
    problem = unread = ""
    reads = 0
    for life, names in lives.items():
        for name in sorted((name for name in names if _holds_record(life, name)), reverse=True):
            if reads == READS_LIMIT:
                return None, problem, unread
            reads += 1
            data = yield Read(site, name)
            if not isinstance(data, bytes):
                problem = problem or f"{name} could not be read"
                unread = unread or (name if isinstance(data, Failed) else "")
                continue
            try:
                return _authentic(site, keys, life, name, data), problem, unread
            except FormatError as error:
                problem = problem or error.message
    return None, problem, unread


def _holds_record(life: Life, name: str) -> bool:
    return version_of(life.prefix, name) is not None or name == life.prefix + STATE


def _authentic(site: SiteName, keys: Keys, life: Life, name: str, data: bytes) -> Record:
    record = decode_record(data, lambda body, tag: keys.mac_matches(MAC_PURPOSE, body, tag))
    chain = record.chain
    if (chain.site, chain.repository, chain.generation, chain.config_number) != (
        site,
        keys.repository,
        life.generation,
        life.number,
    ) or version_of(life.prefix, name) not in (None, record.version):
        raise FormatError(f"{name} holds a record of another place")
    return record


def config_of(keys: Keys, record: Record) -> Config | None:
    """Return the configuration in which a record was written, from its head, or None if the head cannot be opened."""
    try:
        head = open_head(keys, record.value)
    except DrtoolError:
        return None
    return config_in(head, (record.chain.generation, record.chain.config_number))


def config_in(head: Head, place: tuple[int, int]) -> Config | None:
    """Return the configuration at `place` that `head` belongs to. The last head of one is the first of the next."""
    return next((config for config in (head.config, head.stop) if config is not None and config.place == place), None)


def look_around(sites: Sequence[SiteName], keys: Keys, *, wait_for_all: bool = False) -> Talk[dict[SiteName, Any]]:
    """Return a sighting of each site, or Failed for those that do not answer."""

    def enough(results: Mapping[SiteName, Any]) -> bool:
        return not wait_for_all and any(isinstance(seen, Sighting) and seen.record for seen in results.values())

    replies = yield Gather({site: look_at(site, keys) for site in sites}, enough, grace_s=0.5)
    return dict(replies)


def newest_config(sightings: Sequence[Sighting]) -> Config | None:
    """Return the configuration that came last. `Forked` if two claim to be."""
    configs = [config for seen in sightings for config in seen.configs()]
    newest = max(configs, key=lambda config: config.place, default=None)
    if newest is not None:
        check_not_forked(sightings, newest)
    return newest


def check_not_forked(sightings: Iterable[Sighting], newest: Config) -> None:
    """Raise `Forked` if a site has evidence of another recovery to the same generation."""
    places: dict[bytes, set[SiteName]] = {newest.recovery: set()}
    for seen in sightings:
        for config in seen.configs():
            if config.generation == newest.generation:
                places.setdefault(config.recovery, set()).add(seen.site)
    if len(places) > 1:
        raise forked(newest.generation, places)


def forked(generation: int, places: Mapping[bytes, Iterable[SiteName]]) -> Forked:
    """Return the error that names both lines of history and a person's options."""
    lines = "; ".join(
        f"{recovery.hex()[:8] or 'none'} at {', '.join(sorted(sites)) or 'no site that answers'}"
        for recovery, sites in sorted(places.items())
    )
    return Forked(
        f"the manifest was recovered twice, to the same generation {generation}: recovery {lines}",
        hint="choose one: `drtool manifest recover --from SITE… --i-accept-lost-writes` with the sites of the one to keep"
        " (`drtool snapshots --manifest-from SITE` shows what each holds)",
    )


def discover(sites: Sequence[SiteName], keys: Keys) -> Talk[Config]:
    """Return the newest configuration known to any of the sites. `NoRepository` if all answer and none holds one."""
    replies = yield from look_around(sites, keys)
    sightings = [seen for seen in replies.values() if isinstance(seen, Sighting)]
    newest = newest_config(sightings)
    if newest is not None:
        return newest
    silent = [f"{site}: {reply.reason}" for site, reply in replies.items() if isinstance(reply, Failed)]
    silent += [f"{seen.site}: {seen.problem}" for seen in sightings if seen.problem]
    if silent:
        raise NoQuorum(f"no site could tell who votes on the manifest ({', '.join(silent)})")
    raise NoRepository(f"none of the sites holds a manifest ({', '.join(sites)})", hint="found one with `drtool init`")


def age_of(seen: Sighting) -> tuple[int, int, Ballot]:
    """Return the generation, configuration and accepted ballot of a sighting's record. The newest is the greatest."""
    record = seen.record
    if record is None:
        return 0, 0, NO_BALLOT
    return record.chain.generation, record.chain.config_number, record.accepted


def newest_record(sightings: Iterable[Sighting]) -> Record | None:
    """Return the record with the newest generation, configuration and accepted ballot."""
    known = [seen for seen in sightings if seen.record is not None and seen.config is not None]
    newest = max(known, key=age_of, default=None)
    return newest.record if newest is not None else None
