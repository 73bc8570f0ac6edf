"""Changing and reading the manifest: the conversations that the facade and the simulator run.

Commit: survey all sites. If our change is already in the agreed head, it is done. Otherwise journal it, take a ballot,
prepare at a quorum, adopt what was accepted under the highest ballot, put our change on top, accept at a quorum →
chosen → witness.

Invariants
    A change is journalled on this host before any site can have seen it, and is looked for before it is tried again. So
    it is applied at most once, regardless of lost replies.
    A rejection is final only against a chosen head that no earlier proposal of ours can displace. Only changes that
    stay rejected once they are rejected are left in the inbox for others to commit.
    An adopted value is proposed again with exactly the same bytes. A head with `stop` is never built upon.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from drtool.errors import Diverged, ObjectMissing, Rejected
from drtool.manifest import inbox
from drtool.manifest.acceptor import SiteView, Trouble
from drtool.manifest.context import Context, Outcome, is_hopeless, nearest, raise_no_quorum
from drtool.manifest.descent import problem_of_descent
from drtool.manifest.head import (
    RECENT_LIMIT,
    RECENT_LIMIT_BYTES,
    Head,
    Reference,
    digest_after,
    open_head,
    seal_head,
)
from drtool.manifest.holdings import PageGuard
from drtool.manifest.keyslots import SlotGuard
from drtool.manifest.library import Learned, store_everywhere, store_missing
from drtool.manifest.names import object_key
from drtool.manifest.ops import AddSnapshot, Change, encode_change
from drtool.manifest.ports import Delete, Draw, Failed, Gather, Journal, Note, Now, Sleep, Talk, never
from drtool.manifest.proposer import Round, Survey, elect, notify, offer, prepare, survey
from drtool.manifest.records import Config
from drtool.manifest.rejection import Rejection
from drtool.manifest.state import State, applied_at, apply_all
from drtool.manifest.switching import Ended, begin_absent, check_goes_on, ends, follow_seals, is_in_use, voters_targets
from drtool.manifest.turns import Turns
from drtool.manifest.witness import Outstanding
from drtool.model import SiteName
from drtool.paxos import NO_BALLOT, Ballot, Record, to_adopt

CHANGE_LIMIT_BYTES = 192 * 1024
READ_TRIES = 3
READ_PAUSE_S = 0.01
CLEARED_BY_OTHERS = 256
"""After that many later changes, the writer that left a change in the inbox is assumed not to clear it any more."""

Draft = Callable[[State], tuple[Change, ...]]
"""Makes the changes of one commit, once, when the state that they are based on is known."""


def read(context: Context) -> Talk[Outcome]:
    """Read the newest chosen head, linearizably: it includes every commit acknowledged before this began."""
    for attempt in range(READ_TRIES):
        seen = yield from _survey(context)
        record = seen.agreed(context.quorum)
        if record is not None:
            try:
                learned = yield from context.library.learn(nearest(context, seen), record.value)
            except ObjectMissing:
                break  # perhaps replaced since the head was read, so `_Commit` looks again first
            check_goes_on(context.config, learned)
            return Outcome(learned, seen.views)
        if len(seen.views) < context.quorum:
            break
        share = int.from_bytes((yield Draw(2)), "big") / 2**16
        yield Sleep(share * READ_PAUSE_S * 2**attempt)
    return (yield from _Commit(context, None).run())


def _survey(context: Context) -> Talk[Survey]:
    """Return the answers of the sites. `Ended` if one proves that their configuration is over."""
    seen = yield from survey(context.places, context.quorum)
    sealed = [site for site, trouble in seen.troubles.items() if trouble.kind == "sealed"]
    if sealed:
        yield from follow_seals(context.config, context.library.keys, sealed)
    if len(seen.views) < context.quorum:
        seen = yield from _completed(context, seen)
    return seen


def _completed(context: Context, seen: Survey) -> Talk[Survey]:
    """Return the answers of the sites after starting voters that never began, if that is possible.

    `Ended` if this configuration was begun at too few voters: its first head exists, so the switch can be finished.
    """
    absent = [site for site, trouble in seen.troubles.items() if trouble.kind == "absent"]
    if absent and not is_in_use(seen.views):
        for view in seen.views.values():
            head = open_head(context.library.keys, view.record.value)
            if head.stop == context.config:
                learned = yield from context.library.learn(nearest(context, seen), view.record.value)
                raise Ended(context.config, voters_targets(learned, context.config), learned)
    begun = begin_absent(context.library, context.places, context.config, context.slots, seen.views, absent)
    return (yield from survey(context.places, context.quorum)) if (yield from begun) else seen


def commit(context: Context, draft: Draft, *, resumed: bool = False) -> Talk[Outcome]:
    """Commit the drafted changes. `Rejected` or `NoQuorum` otherwise.

    `resumed`: this or an earlier process may have proposed them before.
    """
    return (yield from _Commit(context, draft, resumed=resumed).run())


def refresh(context: Context) -> Talk[Outcome]:
    """Choose the newest head once more, so that acceptors that lag or went back in time catch up, with all objects."""
    outcome = yield from _Commit(context, None, again=True).run()
    objects = yield from context.library.sealed_below(list(outcome.views), outcome.learned)
    # `repair`, which calls this, replaces damaged objects and reports them
    yield Gather({site: store_missing(site, objects, read=False) for site in context.places}, never)
    return outcome


class _Commit:
    """One task: a proposer id, the changes once drafted, and its knowledge so far."""

    def __init__(self, context: Context, draft: Draft | None, *, resumed: bool = False, again: bool = False) -> None:
        self._context = context
        self._draft = draft
        self._changes: tuple[Change, ...] = ()
        self._again = again
        self._in_flight = resumed  # a proposal of ours may still be chosen
        self._fits = False  # the newest agreed head does not reject our changes
        self._left = self._is_waiting = False  # they may be in the inbox, and a quorum of sites has them there
        self._over: inbox.Clearing | None = None  # its obsolete entries if our head is chosen (None: not read yet)
        self._turns = Turns(b"", 0.0, 0.0, met_others=False)
        self._proposer = b""
        self._ballot: Ballot = NO_BALLOT
        self._rejection: Rejection | None = None
        self._missing = ""
        self._refused: Mapping[SiteName, Trouble] = {}  # definitely refused our last write

    def run(self) -> Talk[Outcome]:
        self._proposer = yield Draw(16)
        crowd, began_s = self._context.crowd, (yield Now())
        self._turns = Turns(self._proposer, began_s, self._context.patience_s, met_others=crowd.met)
        while True:
            seen = yield from _survey(self._context)
            yield from self._turns.look(seen, began_s)
            outcome = yield from self._turn(seen)
            if outcome is not None:
                crowd.met = self._turns.met_others
                yield from self._clear()
                return outcome
            patient = yield from self._turns.pause()
            if is_hopeless(self._context, seen, self._refused) or not patient:
                raise_no_quorum(self._context, seen, self._refused, in_doubt=self._in_flight)
            began_s = yield Now()

    def _turn(self, seen: Survey) -> Talk[Outcome | None]:
        """Check whether there is anything to do, and try a round if it is our turn."""
        try:
            outcome = yield from self._already(seen)
            if outcome is None and (yield from self._may_begin(seen)):
                outcome = yield from self._round(seen)
        except ObjectMissing as error:
            # the read is so old that objects of its head were replaced and removed since: the newest head names others
            if error.message == self._missing:
                raise
            self._missing = error.message
            return None
        except Rejected:
            yield from self._clear()
            raise
        return outcome

    def _may_begin(self, seen: Survey) -> Talk[bool]:
        """Return whether it is our turn. If other writers are active, first leave our changes in the inbox."""
        record = seen.agreed(self._context.quorum)
        if not (self._turns.met_others and self._fits and record is not None and inbox.may_be_left(self._changes)):
            return not self._turns.waits(None)
        if not self._is_waiting:
            yield from self._leave()
        return not self._turns.waits(None if self._turns.busy else (yield from self._ahead(seen, record)))

    def _leave(self) -> Talk[None]:
        """Leave our changes in the inbox. From here on any writer may commit them."""
        context = self._context
        yield Journal(Outstanding(self._changes))
        self._in_flight = self._left = True
        self._is_waiting = yield from inbox.leave(context.places, context.library.keys, context.config, self._changes)

    def _ahead(self, seen: Survey, record: Record) -> Talk[int]:
        """Return how many entries in the inbox take precedence over ours after this head."""
        learned = yield from self._learn(seen, record.value)
        names = yield from inbox.look(seen.views, self._context.quorum)
        waiting = inbox.waiting(names, learned.state, learned.head.digest)
        self._is_waiting = inbox.key_of(self._changes) in waiting
        return waiting.index(inbox.key_of(self._changes)) if self._is_waiting else 0

    def _clear(self) -> Talk[None]:
        if self._left:
            yield from inbox.clear({site: [inbox.key_of(self._changes)] for site in self._context.places})

    def _already(self, seen: Survey) -> Talk[Outcome | None]:
        """Return the agreed head if there is nothing (more) to do. Also draft on it and find rejections early."""
        record = seen.agreed(self._context.quorum)
        if record is None:
            return None
        learned = yield from self._learn(seen, record.value)
        check_goes_on(self._context.config, learned)
        if self._again:
            return None
        if self._draft is None or self._is_in(learned.state):
            return Outcome(learned, seen.views)
        self._prepare_changes(learned.state)
        after = apply_all(learned.state, self._changes)
        self._fits = not isinstance(after, Rejection)
        if not self._fits and self._in_flight and self._is_in(learned.state):
            return Outcome(learned, seen.views)  # made before, by a run that did not learn of it
        if isinstance(after, Rejection) and (self._left or not self._in_flight):
            raise Rejected(after.reason, after.message)  # changes fit for the inbox stay rejected for ever
        return None

    def _round(self, seen: Survey) -> Talk[Outcome | None]:
        """Run one ballot: prepare, adopt, accept. Return None if it failed, or only finished another writer's proposal."""
        context = self._context
        self._refused = {}
        if len(seen.views) < context.quorum:
            return None
        self._ballot = elect(seen, self._ballot, self._proposer)
        promises = yield from prepare(context.places, seen, self._ballot, context.quorum, insists=self._turns.insists)
        if len(promises.views) < context.quorum:
            self._note_failure(promises)
            return None
        base = to_adopt([view.record for view in promises.views.values()], len(context.places), context.quorum)
        if base is None:
            silent = ", ".join(sorted(context.places.keys() - promises.views.keys()))
            yield Note(
                "warning", f"a machine ran twice, and its change has two forms: {silent} must say which one counts"
            )
            self._note_failure(promises)
            return None
        learned = yield from self._learn(seen, base.value)
        value = yield from self._value_on(seen, learned)
        if value is None:
            return None
        views = {**seen.views, **promises.views}
        chosen = yield from self._learn(seen, value)
        slots = SlotGuard(context.slots, chosen, context.config)
        slots.settle(context.library.keys, chosen.head, views)
        pages = PageGuard(context.library, nearest(context, seen), learned, chosen)
        pages.settle(views)
        guards = (slots.ready, pages.ready)
        accepted = yield from offer(context.places, promises, self._ballot, value, context.quorum, guards)
        if len(accepted.views) < context.quorum:
            self._note_failure(accepted)
            return None
        yield Note("decide", f"{self._ballot} is chosen by {', '.join(accepted.views)}")
        yield from notify(context.places, accepted)
        yield from _remove_obsolete(learned, chosen, accepted.views)
        yield from self._tidy(learned, chosen, accepted.views)
        return self._settled(Outcome(chosen, accepted.views, _lapsed(seen, broken_too=self._again)))

    def _note_failure(self, phase: Round) -> None:
        unknown = any(trouble.kind == "unknown" for trouble in phase.troubles.values())
        self._turns.failed(met_others=bool(phase.preempted) or unknown)
        self._refused = {site: trouble for site, trouble in phase.troubles.items() if trouble.definite}

    def _value_on(self, seen: Survey, base: Learned) -> Talk[bytes | None]:
        """Return the value to propose on top of `base`, or None if objects could not be stored."""
        self._rejection = None
        if self._draft is None or ends(self._context.config, base.head) or self._is_in(base.state):
            return base.value
        yield from self._check_descent(seen, base)
        self._prepare_changes(base.state)
        after = apply_all(base.state, self._changes)
        if isinstance(after, Rejection):
            self._rejection = after  # final once `base` is chosen under our ballot
            return base.value
        batch = yield from self._with_waiting(seen, base, after)
        head = yield from head_on(self._context, nearest(self._context, seen), base, batch.changes, batch.state)
        if head is None:
            return None
        yield Journal(Outstanding(self._changes))
        self._in_flight = True
        return seal_head(self._context.library.keys, head, base.state.keys)

    def _with_waiting(self, seen: Survey, base: Learned, after: State) -> Talk[inbox.Batch]:
        """Return our changes, followed by those that other writers left in the inbox, if there are any."""
        context = self._context
        self._over = None
        if not self._turns.met_others or after.config != base.state.config:
            return inbox.Batch(self._changes, after)
        names = yield from inbox.look(seen.views, context.quorum)
        waiting = inbox.waiting(names, after, base.head.digest)
        self._turns.met_others = bool(waiting)
        fetched = yield from inbox.fetch(context.library.keys, context.config, names, waiting[:RECENT_LIMIT])
        batch = inbox.batch(after, self._changes, fetched.entries, RECENT_LIMIT, RECENT_LIMIT_BYTES)
        self._over = inbox.over(names, fetched, batch, base.state.sequence - CLEARED_BY_OTHERS)
        yield Note(
            "accept", f"{len(batch.changes) - len(self._changes)} changes of others, {len(waiting)} entries waited"
        )
        return batch

    def _tidy(self, base: Learned, chosen: Learned, sites: Iterable[SiteName]) -> Talk[None]:
        """Clear obsolete inbox entries: those that this round found, and now and then all."""
        if self._over is not None:
            yield from inbox.clear(self._over)
        elif chosen.head.checkpoint != base.head.checkpoint:
            yield from inbox.tidy(sites, self._context.library.keys, self._context.config, chosen.state)

    def _settled(self, outcome: Outcome) -> Outcome | None:
        check_goes_on(self._context.config, outcome.learned)
        if self._draft is None or self._is_in(outcome.learned.state):
            return outcome
        if self._rejection is not None:
            raise Rejected(self._rejection.reason, self._rejection.message)
        self._in_flight = self._left  # our earlier proposal has a lower ballot than the chosen one
        return None

    def _is_in(self, state: State) -> bool:
        """Return whether our changes were applied. A snapshot shows this for longer than the session that added it."""
        if not self._changes:
            return False
        last, op = self._changes[-1], self._changes[-1].op
        known = isinstance(op, AddSnapshot) and op.snapshot.id in state.snapshots
        return known or applied_at(state, last.session, last.counter) is not None

    def _prepare_changes(self, state: State) -> None:
        """Draft the changes, once."""
        if self._changes or self._draft is None:
            return
        self._changes = self._draft(state)
        for change in self._changes:
            if len(encode_change(change)) > CHANGE_LIMIT_BYTES:
                raise Rejected(
                    "too-large", f"a change of {len(encode_change(change))} bytes is too large for the manifest"
                )

    def _learn(self, seen: Survey, value: bytes) -> Talk[Learned]:
        return (yield from self._context.library.learn(nearest(self._context, seen), value))

    def _check_descent(self, seen: Survey, base: Learned) -> Talk[None]:
        """Refuse to build on a head that contradicts what this host saw confirmed."""
        context = self._context
        near, strict = nearest(context, seen), not self._missing  # the second time, a missing page counts as lost
        problem = yield from problem_of_descent(context.library, near, context.witness, base, strict=strict)
        if problem is not None:
            raise Diverged(problem, hint="run `drtool manifest check`; nothing was changed")


def head_on(
    context: Context, near: Sequence[SiteName], base: Learned, changes: Sequence[Change], after: State
) -> Talk[Head | None]:
    """Return the head after `changes`. If there are too many, fold older ones under a checkpoint, durably first."""
    head = base.head
    size_bytes = sum(len(encode_change(change)) for change in (*head.recent, *changes))
    if len(head.recent) + len(changes) <= RECENT_LIMIT and size_bytes <= RECENT_LIMIT_BYTES:
        return _extended(context.config, head, changes, after)
    folded = yield from context.library.fold(near, base)
    stored = yield from store_everywhere(context.places, folded.objects, context.quorum)
    yield Note(
        "accept", f"{len(folded.objects)} objects under change {head.sequence}{'' if stored else ': too few sites'}"
    )
    return _extended(context.config, _emptied(head, folded.reference), changes, after) if stored else None


def _emptied(head: Head, checkpoint: Reference) -> Head:
    return Head(head.sequence, head.digest, head.config, (), head.sessions, checkpoint, head.sequence, head.digest)


def _extended(config: Config, head: Head, changes: Sequence[Change], after: State) -> Head:
    """Return `head` with `changes` in the configuration `config`. It is the last one there if they change the voters."""
    digest = head.digest
    for change in changes:
        digest = digest_after(digest, change)
    return Head(
        after.sequence,
        digest,
        config,
        (*head.recent, *changes),
        after.sessions,
        head.checkpoint,
        head.checkpoint_sequence,
        head.checkpoint_digest,
        after.config if after.config != config else None,
    )


def _remove_obsolete(base: Learned, chosen: Learned, sites: Mapping[SiteName, SiteView]) -> Talk[None]:
    """Delete, after a fold was chosen, the objects that were replaced long before it. Best effort."""
    if chosen.head.checkpoint == base.head.checkpoint or chosen.checkpoint is None or base.checkpoint is None:
        return
    still = {row.name for row in chosen.checkpoint.retired}
    names = [row.name for row in base.checkpoint.retired if row.name not in still]
    if names:
        yield Gather({site: _delete_objects(site, names) for site in sites}, lambda _: True, 0.3)


def _delete_objects(site: SiteName, names: Sequence[bytes]) -> Talk[None]:
    for name in names:
        if isinstance((yield Delete(site, object_key(name))), Failed):
            return


def _lapsed(seen: Survey, *, broken_too: bool) -> tuple[SiteName, ...]:
    """Return the voters that lost their state, or have an older one than this host saw. `repair` includes broken ones.

    A voter whose seal proves nothing counts, too: a valid seal would have ended the configuration.
    """
    kinds = {"absent", "broken", "sealed"} if broken_too else {"absent"}
    return (*seen.rolled_back, *(site for site, trouble in seen.troubles.items() if trouble.kind in kinds))
