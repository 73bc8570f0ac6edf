"""One register that is swapped: what counts, what does not, and what a late or repeated swap can do."""

import os

import msgspec
import pytest
from cas_world import SEAL, STATE, OneAcceptor, promising
from hypothesis import given
from hypothesis import strategies as st

from drtool.crypto import Keyring
from drtool.manifest.acceptor import SiteView, Trouble, begin, change_site, read_site
from drtool.manifest.ports import Delete, List, ReadTagged, Swap
from drtool.manifest.proposer import accepting
from drtool.paxos import Ballot, Preempted, accept, found, promise
from drtool.paxos.record import record_hash

MINE, THEIRS = b"m" * 16, b"t" * 16


@pytest.fixture
def one():
    return OneAcceptor().begun()


def their_promise(one, round_number):
    """Somebody else is promised a ballot, by a swap of their own."""

    def swap():
        found_there = one.store.read_tagged(STATE)
        record = one.place.decode(found_there.data)
        after = promise(record, record_hash(found_there.data), Ballot(round_number, THEIRS), os.urandom(16))
        one.store._objects[STATE] = one.place.encode(after)

    return swap


def kind_of(reply):
    return reply.kind if isinstance(reply, Trouble) else type(reply).__name__


def test_a_change_is_one_swap_and_a_look_for_a_seal(one):
    requests = []
    view = one.run(change_site(one.place, None, promising(2)), lambda _, request: requests.append(type(request)))
    talk = [kind for kind in requests if kind in {List, ReadTagged, Swap}]
    assert talk == [List, ReadTagged, Swap, List]
    assert (view.record, view.record_hash) == (one.record(), record_hash(one.store.get(STATE)))
    assert (view.record.version, view.record.prev) == (2, record_hash(one.place.encode(one.first)))
    requests.clear()
    again = one.run(change_site(one.place, view, promising(3)), lambda _, request: requests.append(type(request)))
    assert [kind for kind in requests if kind in {List, ReadTagged, Swap}] == [Swap, List], "the tag was in the answer"
    assert (again.record.version, one.record()) == (3, again.record)


def test_a_swap_that_was_refused_for_no_reason_is_tried_again(one):
    """What S3 means by 409: somebody else was at it, and perhaps nobody is any more."""
    one.store.plan = ["refuse", "refuse"]
    view = one.run(change_site(one.place, None, promising(2)))
    assert isinstance(view, SiteView)
    assert one.record() == view.record


def test_a_register_that_refuses_for_ever_is_given_up(one):
    one.store.plan = ["refuse"] * 50
    assert kind_of(one.run(change_site(one.place, None, promising(2)))) == "unknown"
    assert one.store.swaps < 10
    assert one.record() == one.first


@pytest.mark.parametrize("loss", ["lose reply", "deliver twice"])
def test_a_swap_whose_answer_was_lost_counts_when_it_is_found(one, loss):
    one.store.plan = [loss]
    view = one.run(change_site(one.place, None, promising(2)))
    assert isinstance(view, SiteView)
    assert (one.record(), one.store.swaps) == (view.record, 1)
    after = one.run(change_site(one.place, view, accepting(Ballot(2, b"p" * 16), b"a head")))
    assert (after.record.version, after.record.value, one.store.swaps) == (3, b"a head", 2)


def test_a_swap_whose_answer_was_lost_counts_when_the_next_one_is_built_on_it(one):
    inner = one.store.read_tagged

    def read_after_them(name):
        if one.store.swaps == 1:
            one.store.read_tagged = inner
            their_promise(one, 3)()
        return inner(name)

    one.store.plan = [lambda: setattr(one.store, "read_tagged", read_after_them), "do"]
    one.store.plan = ["lose reply"]
    view = one.run(change_site(one.place, None, promising(2, MINE)), after_swap(read_after_them, one))
    assert isinstance(view, SiteView)
    assert view.record.promised == Ballot(2, MINE)
    assert one.record().promised == Ballot(3, THEIRS)
    assert one.record().prev == view.record_hash
    reply = one.run(change_site(one.place, view, accepting(Ballot(2, MINE), b"a head")))
    assert reply == Preempted(Ballot(3, THEIRS)), "what is gone is not built upon: it is read again"


def after_swap(read, one):
    """From the first swap on, reads go through `read`."""

    def hook(_step, request):
        if isinstance(request, Swap):
            one.store.read_tagged = read

    return hook
