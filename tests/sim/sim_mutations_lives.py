"""More broken protocols: wrong ways to begin a register, to end a configuration, and to remember a promise."""

from collections.abc import Iterator, Mapping
from typing import Any
from unittest.mock import patch

from blake3 import blake3
from sim_mutations import any_value, mutation
from sim_world import Process, World

from drtool.manifest import acceptor, commit, facade, following, proposer, recovery, switching
from drtool.manifest.acceptor import SiteView, Trouble, begin, read_site
from drtool.manifest.head import open_head
from drtool.manifest.ports import Draw
from drtool.manifest.proposer import Round
from drtool.paxos import found


@mutation("stalls")
def promise_not_confirmed() -> Iterator[None]:
    """A promise counts as soon as it was put, also into a hole that collection left."""
    confirm = acceptor._confirm

    def trusting(place: Any, after: SiteView) -> Any:
        if after.record.accepted != after.record.promised:
            return None
        return (yield from confirm(place, after))

    with patch.object(acceptor, "_confirm", trusting):
        yield


@mutation("wiped")
def wiped_site_begins_anew_in_the_same_life() -> Iterator[None]:
    """A site without a register votes again after the next decision, though nobody knows what it has promised."""
    notify = commit.notify

    def admitting(places: Mapping[str, Any], done: Round) -> Any:
        yield from notify(places, done)
        record = next(iter(done.views.values())).record
        for site in places.keys() - done.views.keys():
            reading = yield from read_site(places[site])
            if isinstance(reading, Trouble) and reading.kind == "absent":
                yield from begin(places[site], found(places[site].chain, record.accepted, record.value, bytes(16)))

    with patch.object(commit, "notify", admitting), patch.object(commit, "_lapsed", lambda *_, **__: ()):
        yield


@mutation("voters")
def next_configuration_on_a_stop_that_is_not_chosen() -> Iterator[None]:
    """One site accepted a head with `stop`, and that is taken for a decision."""
    offer = commit.offer

    def hasty(places: Any, promises: Round, ballot: Any, value: bytes, *more: Any) -> Any:
        done = yield from offer(places, promises, ballot, value, *more)
        keys = next(iter(places.values())).keys
        if done.views and open_head(keys, value).stop is not None:
            return Round({**promises.views, **done.views}, {}, {})
        return done

    with patch.object(commit, "offer", hasty):
        yield


@mutation("voters")
def sealed_before_the_next_configuration_stands() -> Iterator[None]:
    """The old registers are sealed and cleared first, and then the new ones are begun."""
    finish = switching.finish_switch

    def hasty(library: Any, old: Mapping[str, Any], new: Any, config: Any, last: Any, slots: Any) -> Any:
        yield from switching.seal_sites(library.keys, old, config, switching.voters_targets(last, config))
        yield from finish(library, old, new, config, last, slots)

    with patch.object(following, "finish_switch", hasty):
        yield


@mutation("voters")
def register_begun_again_in_a_configuration_that_is_in_use() -> Iterator[None]:
    """Who finishes a switch late begins every register that is not there, also those that lost their memory since."""
    with (
        patch.object(switching, "is_in_use", lambda readings: False),
        patch.object(commit, "is_in_use", lambda readings: False),
    ):
        yield


@mutation("recovery")
def recovery_that_looks_before_it_seals() -> Iterator[None]:
    """The newest head among the survivors is chosen before they are fenced, so that what comes in between is lost."""
    looked: list[Any] = []
    look, recover = recovery.look_at_survivors, recovery.recover

    def once(*words: Any) -> Any:
        if not looked:
            looked.append((yield from look(*words)))
        return looked[0]

    def forgetful(*words: Any) -> Any:
        looked.clear()
        return (yield from recover(*words))

    with patch.object(recovery, "look_at_survivors", once), patch("drtool.manifest.facade.recover", forgetful):
        yield


@mutation("rolled-back")
def what_a_host_saw_confirmed_is_not_compared() -> Iterator[None]:
    """A head is shown, and built upon, though it is no descendant of what this host remembers."""

    def content(*_words: Any) -> Any:
        return None
        yield

    with patch.object(facade, "problem_of_descent", content), patch.object(commit, "problem_of_descent", content):
        yield


@mutation("images")
def what_is_drawn_follows_from_what_a_host_remembers() -> Iterator[None]:
    """A host draws ids from a seed that it keeps: its clone, and its own image put back, draw the same again.

    Acceptors that take one value under one ballot prevent the worst of it, so these take any.
    """
    plain = World._instant

    def remembered(self: World, process: Process, request: Any) -> Any:
        if not isinstance(request, Draw):
            return plain(self, process, request)
        process.local.drawn = drawn = getattr(process.local, "drawn", 0) + 1
        return blake3(f"{process.name.partition('+')[0]} {drawn}".encode()).digest(length=request.count)

    with patch.object(World, "_instant", remembered), patch.object(proposer, "accept", any_value):
        yield


@mutation("recovery")
def loss_shown_to_those_who_do_not_look() -> Iterator[None]:
    """A commit whose view goes to no person counts as having said what a recovery gave up."""
    plain = facade.Manifest._confirmed

    def telling(self: Any, context: Any, outcome: Any, problems: Any, before: Any, *, tells: bool = True) -> Any:
        return (yield from plain(self, context, outcome, problems, before))

    with patch.object(facade.Manifest, "_confirmed", telling):
        yield


@mutation("images")
def two_values_accepted_under_one_ballot() -> Iterator[None]:
    """An acceptor takes whatever comes under the ballot that it promised."""
    with patch.object(proposer, "accept", any_value):
        yield


@mutation("rolled-back")
def another_past_is_remembered_by_a_host_that_finds_its_change_in_it() -> Iterator[None]:
    """Whoever finds its change made takes that head for a descendant of what it saw confirmed."""
    plain = facade.Manifest._confirmed

    def hasty(self: Any, context: Any, outcome: Any, problems: Any, before: Any, *, tells: bool = True) -> Any:
        return (yield from plain(self, context, outcome, problems if tells else (), before, tells=tells))

    with patch.object(facade.Manifest, "_confirmed", hasty):
        yield
