"""One round of Paxos over all voters: survey, prepare, accept. Each phase asks every site at once.

The phases, in the textbook's terms: *election* picks a ballot above every one seen, *prepare* asks for promises,
*accept* offers the value, *decide* is the moment when a quorum confirmed it, *notify* collects old records, *confirm*
writes the witness.

Invariants
    Nothing is accepted before a quorum of confirmed promises for the same ballot. A proposer adopts the value accepted
    under the highest ballot among them.
    A site that went back in time, as seen from this host, does not count and is not written to, because its earlier
    promises are unknown. It starts a new incarnation in another configuration.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from drtool.manifest.acceptor import (
    Changing,
    Place,
    Rule,
    SiteView,
    Trouble,
    change_site,
    collect,
    is_due_for_collection,
    read_site,
    unreachable,
)
from drtool.manifest.ports import Failed, Gather, Note, Talk
from drtool.model import SiteName
from drtool.paxos import NO_BALLOT, Ballot, Preempted, Record, accept, agreed, next_ballot, promise

SURVEY_GRACE_S = 0.3
ACCEPT_GRACE_S = 1.0

Guard = Callable[[SiteName], Talk[Trouble | None]]
"""Returns None once the site may accept the offered value, or otherwise why it may not."""


class Survey(msgspec.Struct, frozen=True):
    """The answers of the sites: acceptors that count, those that went back in time, and the troubles of the rest."""

    views: Mapping[SiteName, SiteView]
    rolled_back: Mapping[SiteName, SiteView]
    troubles: Mapping[SiteName, Trouble]

    def agreed(self, quorum: int) -> Record | None:
        return agreed((view.record for view in self.views.values()), quorum)

    def ballots(self) -> Iterable[Ballot]:
        """Return every ballot seen. Those of sites that do not count are included, since exceeding them costs nothing."""
        return (view.record.promised for views in (self.views, self.rolled_back) for view in views.values())


class Round(msgspec.Struct, frozen=True):
    """The outcome of one phase: sites that agreed, sites that had promised a higher ballot, and troubles of the rest."""

    views: Mapping[SiteName, SiteView]
    preempted: Mapping[SiteName, Preempted]
    troubles: Mapping[SiteName, Trouble]


def survey(places: Mapping[SiteName, Place], quorum: int) -> Talk[Survey]:
    """Read every acceptor, and go on when a quorum agrees."""
    replies = yield Gather(
        {site: read_site(place) for site, place in places.items()},
        lambda results: agreed(_counted(results), quorum) is not None,
        SURVEY_GRACE_S,
    )
    views = {site: reply for site, reply in replies.items() if isinstance(reply, SiteView)}
    yield Note("election", ", ".join(f"{site}: {_said(reply)}" for site, reply in replies.items()))
    return Survey(
        {site: view for site, view in views.items() if not view.rolled_back},
        {site: view for site, view in views.items() if view.rolled_back},
        _troubles(replies),
    )


def elect(seen: Survey, beyond: Ballot, proposer: bytes) -> Ballot:
    """Return a ballot above every one seen in this task."""
    return next_ballot((*seen.ballots(), beyond), proposer)


def prepare(
    places: Mapping[SiteName, Place], seen: Survey, ballot: Ballot, quorum: int, *, insists: bool = False
) -> Talk[Round]:
    """Ask for promises, and return the confirmed ones.

    A proposer that got a promise after `seen` goes first, even with a lower ballot, since overtaking it would cost both
    a round.
    With `insists` it does not.
    """
    known = max(seen.ballots(), default=NO_BALLOT)

    def rule(record: Record, record_hash: bytes, token: bytes) -> Record | Preempted:
        if not insists and _goes_first(record, known, ballot):
            return Preempted(record.promised)
        return promise(record, record_hash, ballot, token)

    return (yield from _phase("prepare", places, seen, rule, ballot, quorum, SURVEY_GRACE_S))


def _goes_first(record: Record, known: Ballot, ballot: Ballot) -> bool:
    """Return whether another proposer got an unfinished promise here since the survey.

    A courtesy, irrelevant to safety.
    """
    return record.promised > max(known, record.accepted) and record.promised.proposer != ballot.proposer


def offer(
    places: Mapping[SiteName, Place],
    seen: Round,
    ballot: Ballot,
    value: bytes,
    quorum: int,
    guards: Sequence[Guard],
) -> Talk[Round]:
    """Ask each site to accept `value` once all `guards` allow it, and return the confirmed acceptances."""
    rule = accepting(ballot, value)
    return (yield from _phase("accept", places, seen, rule, ballot, quorum, ACCEPT_GRACE_S, guards))


def accepting(ballot: Ballot, value: bytes) -> Rule:
    def rule(record: Record, record_hash: bytes, token: bytes) -> Record | Preempted:
        return accept(record, record_hash, ballot, value, token)

    return rule


def notify(places: Mapping[SiteName, Place], done: Round) -> Talk[None]:
    """Collect old records after the decision, at the sites where it is due."""
    due = {site: view.record.version for site, view in done.views.items() if is_due_for_collection(places[site], view)}
    if due:
        yield Gather(
            {site: collect(places[site], version) for site, version in due.items()}, lambda _: True, SURVEY_GRACE_S
        )
        yield Note("notify", f"old records go at {', '.join(due)}")


def _phase(
    name: str,
    places: Mapping[SiteName, Place],
    seen: Survey | Round,
    rule: Rule,
    ballot: Ballot,
    quorum: int,
    grace_s: float,
    guards: Sequence[Guard] = (),
) -> Talk[Round]:
    set_aside = seen.rolled_back if isinstance(seen, Survey) else {}
    asked = {site: place for site, place in places.items() if site not in set_aside and not _is_hopeless(seen, site)}
    replies = yield Gather(
        {site: _change(place, seen.views.get(site), rule, guards) for site, place in asked.items()},
        lambda results: len(_counted(results)) >= quorum,
        grace_s,
    )
    yield Note(name, f"{ballot}: " + ", ".join(f"{site}: {_said(reply)}" for site, reply in replies.items()))
    return Round(
        {site: reply for site, reply in replies.items() if isinstance(reply, SiteView) and not reply.rolled_back},
        {site: reply for site, reply in replies.items() if isinstance(reply, Preempted)},
        _troubles(replies) | {site: seen.troubles[site] for site in places if _is_hopeless(seen, site)},
    )


def _change(place: Place, view: SiteView | None, rule: Rule, guards: Sequence[Guard]) -> Talk[Changing]:
    for guard in guards:
        trouble = yield from guard(place.site)
        if trouble is not None:
            return trouble
    return (yield from change_site(place, view, rule))


def _is_hopeless(seen: Survey | Round, site: SiteName) -> bool:
    """Return whether the site is not worth another request in this round."""
    trouble = seen.troubles.get(site)
    return trouble is not None and (trouble.definite or trouble.kind in ("absent", "sealed"))


def _counted(replies: Mapping[SiteName, Any]) -> list[Record]:
    return [reply.record for reply in replies.values() if isinstance(reply, SiteView) and not reply.rolled_back]


def _troubles(replies: Mapping[SiteName, Any]) -> dict[SiteName, Trouble]:
    failed = {site: unreachable(reply) for site, reply in replies.items() if isinstance(reply, Failed)}
    return failed | {site: reply for site, reply in replies.items() if isinstance(reply, Trouble)}


def _said(reply: object) -> str:
    match reply:
        case SiteView(record=record):
            return f"v{record.version} promised {record.promised} accepted {record.accepted}"
        case Preempted(by=ballot):
            return f"promised {ballot} to another"
        case Trouble(kind=kind, reason=reason):
            return f"{kind} ({reason})"
        case _:
            return "no answer"
