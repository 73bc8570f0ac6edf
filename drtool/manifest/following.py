"""The search for the current configuration: from this host's record, along seals and unfinished switches.

Invariants
    A host only goes forward, to a configuration that a seal or a chosen head proves to follow, or that a site has
    begun.
    After a forced recovery every reachable register of an older generation is sealed before anything is done in the
    newer one.
    Two recoveries to one generation stop everything.
"""

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import TypeVar

from drtool.crypto import SealKind
from drtool.errors import Forked, NoQuorum, NoRepository
from drtool.manifest.beginning import places_of
from drtool.manifest.context import Context
from drtool.manifest.finding import (
    READS_LIMIT,
    Sighting,
    check_not_forked,
    discover,
    look_around,
    newest_config,
    newest_record,
)
from drtool.manifest.head import seal_row
from drtool.manifest.keyslots import SlotSource
from drtool.manifest.library import Library
from drtool.manifest.mirror import MirrorView, look_at_mirrors
from drtool.manifest.names import Life
from drtool.manifest.ports import Gather, LocalState, Note, SitePort, Talk, never
from drtool.manifest.records import Config, Successor, Target
from drtool.manifest.switching import Ended, finish_switch, put_seal, voters_targets
from drtool.manifest.turns import Crowd
from drtool.model import SiteName, TargetName, site_of

T = TypeVar("T")

SWITCHES_LIMIT = 32

Reach = Callable[[Sequence[Target]], Mapping[SiteName, SitePort]]
"""Opens the registers on these targets, as far as this host can reach them."""


class Course:
    """Finds and follows the current configuration. `sites` grows as more of them become known."""

    def __init__(
        self,
        sites: MutableMapping[SiteName, SitePort],
        library: Library,
        local: LocalState,
        patience_s: float,
        reach: Reach | None = None,
        keyless: Iterable[TargetName] = (),
    ) -> None:
        self._sites = sites
        self._keyless = frozenset(keyless)
        self._library = library
        self._local = local
        self._patience_s = patience_s
        self._crowd = Crowd()
        self._reach = reach or _reach_nobody
        self._asked: set[tuple[int, int]] = set()
        self._fenced: set[bytes] = set()

    def in_force(self, talk: Callable[[Context], Talk[T]], config: Config | None = None) -> Talk[tuple[Context, T]]:
        """Run `talk` in the current configuration, starting with `config` and following those that have ended."""
        for _ in range(SWITCHES_LIMIT):
            context = yield from self.context(config)
            try:
                yield from self._fence(context.config)
                return context, (yield from talk(context))
            except Ended as ended:
                config = yield from self._follow(context, ended)
                if ended.last is None:  # a seal names only the next one, and this host may have missed many
                    config = (yield from self._newer_than(config)) or config
            except (NoQuorum, Forked):  # a later recovery ends a fork
                config = yield from self._newer_than(context.config)
                if config is None:
                    raise
        raise NoQuorum("the voters changed faster than they could be followed", hint="run the same command again")

    def context(self, config: Config | None = None) -> Talk[Context]:
        """Return the context that this host last saw, or that of `config`."""
        witness = self._local.witness()
        chosen = config or witness.config
        if chosen is None:
            chosen = yield from self._discover()
        if any(voter.site not in self._sites for voter in chosen.voters):
            yield from self._reach_voters(chosen)
        places = places_of(chosen, self._library.keys.repository, self._library.keys, witness)
        return Context(chosen, places, self._library, witness, self._patience_s, self._crowd, self.slots())

    def _discover(self) -> Talk[Config]:
        """Return the newest configuration that any site has.

        `NoQuorum` if only mirrors, which hold no register, have one.
        """
        keys = self._library.keys
        try:
            return (yield from discover(list(self._sites), keys))
        except NoRepository:
            copies = sorted((yield from self._mirrored()))
            if not copies:
                raise
            have = f"{', '.join(copies)} {'hold copies' if copies[1:] else 'holds a copy'} of the catalogue"
            raise NoQuorum(f"no voter can be reached; {have}") from None

    def _mirrored(self) -> Talk[dict[SiteName, Config]]:
        """Return the configuration in each reachable mirror."""
        keys, places = self._library.keys, self._library.mirrors()
        views = yield Gather({place: look_at_mirrors(place, keys) for place in places}, never)
        return {
            place: view.held[0].config for place, view in views.items() if isinstance(view, MirrorView) and view.held
        }

    def slots(self) -> SlotSource:
        """Return where key slots may be read: at any site known to this host."""
        return SlotSource(tuple(self._sites), self._keyless)

    def newest(self) -> Talk[tuple[Context, Forked | None]]:
        """Return the newest configuration known to any site, for inspection, and the fork, if there is one."""
        replies = yield from look_around(list(self._sites), self._library.keys, wait_for_all=True)
        sightings = [seen for seen in replies.values() if isinstance(seen, Sighting)]
        known = self._local.witness().config
        configs = [config for seen in sightings for config in seen.configs()] + ([known] if known else [])
        configs = configs or list((yield from self._mirrored()).values())
        newest = max(configs, key=lambda config: config.place, default=None)
        fork = None
        if newest is not None:
            try:
                check_not_forked(sightings, newest)
            except Forked as error:
                fork = error
        return (yield from self.context(newest)), fork

    def _follow(self, context: Context, ended: Ended) -> Talk[Config]:
        """Return the next configuration, begun if need be, at the places that the catalogue names."""
        self._sites.update(self._reach(ended.targets) if ended.targets else {})
        if ended.last is not None:
            keys = self._library.keys
            old, new = (
                places_of(config, keys.repository, keys, context.witness)
                for config in (ended.last.head.config, ended.config)
            )
            try:
                yield from finish_switch(self._library, old, new, ended.config, ended.last, self.slots())
            except Ended as further:
                return (yield from self._follow(context, further))
        return ended.config

    def _newer_than(self, config: Config) -> Talk[Config | None]:
        """Return a configuration that came after `config`, if any reachable site has one."""
        replies = yield from look_around(list(self._sites), self._library.keys, wait_for_all=True)
        sightings = [seen for seen in replies.values() if isinstance(seen, Sighting)]
        newest = newest_config(sightings)
        if newest is not None and newest.generation == config.generation:
            check_not_forked(sightings, config)
        return newest if newest is not None and newest.place > config.place else None

    def _fence(self, config: Config) -> Talk[None]:
        """Seal the remains of older generations after a forced recovery, once per run, and detect a second recovery."""
        if not config.recovery or config.recovery in self._fenced:
            return
        keys = self._library.keys
        replies = yield from look_around(list(self._sites), keys, wait_for_all=True)
        sightings = [seen for seen in replies.values() if isinstance(seen, Sighting)]
        newest = newest_config(sightings)
        if newest is not None and newest.generation > config.generation:
            raise Ended(newest, ())
        check_not_forked(sightings, config)
        open_ = {seen.site: talk for seen in sightings if (talk := self._seal_older(seen, config)) is not None}
        if open_:
            yield Gather(open_, lambda results: len(results) == len(open_))
            yield Note("notify", f"older generations are sealed at {', '.join(sorted(open_))}")
        self._fenced.add(config.recovery)

    def _seal_older(self, seen: Sighting, config: Config) -> Talk[None] | None:
        ended = {(row.generation, row.number) for row in seen.successors}
        lives = [
            life
            for life in seen.lives
            if life.generation < config.generation and (life.generation, life.number) not in ended
        ]
        return self._seal_lives(seen.site, lives[:READS_LIMIT], config) if lives else None

    def _seal_lives(self, site: SiteName, lives: Sequence[Life], config: Config) -> Talk[None]:
        keys = self._library.keys
        for life in lives:
            row = Successor(life.generation, life.number, config, (), life.recovery)
            yield from put_seal(site, keys, life, seal_row(keys, SealKind.SUCCESSOR, row))

    def _reach_voters(self, config: Config) -> Talk[None]:
        """Find registers that this host has no port for, through a site that it can reach."""
        if config.place in self._asked:
            return
        self._asked.add(config.place)
        replies = yield from look_around(list(self._sites), self._library.keys)
        sightings = [seen for seen in replies.values() if isinstance(seen, Sighting)]
        for seen in sightings:
            for successor in seen.successors:
                self._reach_more(successor.targets)
        record = newest_record(sightings)
        if record is not None:
            learned = yield from self._library.learn(list(self._sites), record.value)
            self._reach_more(voters_targets(learned, config))

    def _reach_more(self, targets: Sequence[Target]) -> None:
        """Try to reach registers at sites that were unknown to this host."""
        unknown = [row for row in targets if site_of(row.name) not in self._sites]
        self._sites.update(self._reach(unknown) if unknown else {})


def _reach_nobody(_targets: Sequence[Target]) -> Mapping[SiteName, SitePort]:
    return {}
