"""Drafts: the same batch gives the same changes, and they fit any chosen head."""

import os

from drtool.manifest import Author, Found, OpenSession, Policy, SetPolicy
from drtool.manifest.drafting import Drafts
from drtool.manifest.ops import make_change
from drtool.manifest.records import Config, Voter
from drtool.manifest.state import State, apply_all, begin

CONFIG = Config(1, 1, (Voter("paris", "paris/main", bytes(16)),), 1)


def drafts() -> Drafts:
    return Drafts(Author(host_id="h", host="h"), os.urandom, lambda: 0)


def founded() -> State:
    return begin(make_change(Found(bytes(16), "acme", Policy(1), (), 1, CONFIG), bytes(16), 0, 0, "h"))


def grown(state: State, batches: int) -> State:
    for copies in range(batches):
        state = apply_all(state, drafts().draft([SetPolicy(Policy(1 + copies % 2))], state))
        assert isinstance(state, State)
    return state


def test_a_batch_that_is_drafted_again_is_the_same_changes():
    host, batch = drafts(), [OpenSession(kind="backup", host_id="h", host="h", source="home")]
    first = host.draft(batch, founded())
    assert host.pending(batch) == first
    host.settle(batch)
    assert host.pending(batch) == ()
    assert host.draft(batch, founded()) != first


def test_a_draft_on_a_head_that_lost_fits_a_shorter_one():
    """A proposer drafts on the value accepted under the highest ballot. Another value may be chosen in the end."""
    chosen = grown(founded(), 30)
    lost = grown(chosen, 4)
    for op in (OpenSession(kind="backup", host_id="h", host="h", source="home"), SetPolicy(Policy(3))):
        after = apply_all(chosen, drafts().draft([op], lost))
        assert isinstance(after, State), after


def test_an_old_draft_does_not_fit():
    early = grown(founded(), 30)
    changes = drafts().draft([OpenSession(kind="backup", host_id="h", host="h", source="home")], early)
    assert apply_all(grown(early, 400), changes).reason == "stale-open"
