"""One swapped register: which answers count, and the effects of a late or repeated swap."""

import os

import msgspec
import pytest
from cas_world import PREFIX, SEAL, STATE, OneAcceptor, promising
from hypothesis import given
from hypothesis import strategies as st

from drtool.crypto import Keyring
from drtool.manifest.acceptor import SiteView, begin, change_site, collect, read_site
from drtool.manifest.ports import Delete, List, ReadTagged, Swap
from drtool.manifest.proposer import accepting
from drtool.manifest.witness import SiteWitness
from drtool.paxos import Ballot, Preempted, found, promise
from drtool.paxos.record import record_hash

MINE, THEIRS = b"m" * 16, b"t" * 16


@pytest.fixture
def one():
    return OneAcceptor().begun()


def they_promise(one, round_number):
    """Let another host get a promise for a ballot by its own swap."""
    data = one.store.get(STATE)
    after = promise(one.place.decode(data), record_hash(data), Ballot(round_number, THEIRS), os.urandom(16))
    one.store.put(STATE, one.place.encode(after))


def when(kind, action, *, number=1):
    """Do something just before the `number`th request of a kind."""
    left = [number]

    def hook(_step, request):
        if isinstance(request, kind):
            left[0] -= 1
            if left[0] == 0:
                action()

    return hook


def seen_in(requests):
    return lambda _, request: (
        requests.append(type(request)) if isinstance(request, List | ReadTagged | Swap | Delete) else None
    )


def test_a_change_is_one_swap_and_a_look_for_a_seal(one):
    requests = []
    view = one.run(change_site(one.place, None, promising(2)), seen_in(requests))
    assert requests == [List, ReadTagged, Swap, List]
    assert (view.record, view.record_hash) == (one.record(), record_hash(one.store.get(STATE)))
    assert (view.record.version, view.record.prev) == (2, record_hash(one.place.encode(one.first)))
    requests.clear()
    again = one.run(change_site(one.place, view, promising(3)), seen_in(requests))
    assert requests == [Swap, List], "the tag was in the answer"
    assert (again.record.version, one.record()) == (3, again.record)
    requests.clear()
    assert one.run(collect(one.place, 3), seen_in(requests)) == 0
    assert requests == [], "there is nothing to collect"


def test_a_swap_that_was_refused_for_no_reason_is_tried_again(one):
    """The meaning of 409 in S3: another client was writing, and may have stopped since."""
    one.store.plan = ["refuse", "refuse"]
    view = one.run(change_site(one.place, None, promising(2)))
    assert isinstance(view, SiteView)
    assert one.record() == view.record


def test_a_register_that_refuses_for_ever_is_given_up(one):
    one.store.plan = ["refuse"] * 50
    assert one.run(change_site(one.place, None, promising(2))).kind == "unknown"
    assert one.store.swaps < 10
    assert one.record() == one.first


@pytest.mark.parametrize("loss", ["lose reply", "deliver twice"])
def test_a_swap_with_a_lost_answer_counts_when_it_is_found(one, loss):
    one.store.plan = [loss]
    view = one.run(change_site(one.place, None, promising(2)))
    assert (one.record(), one.store.swaps) == (view.record, 1)
    after = one.run(change_site(one.place, view, accepting(Ballot(2, b"p" * 16), b"a head")))
    assert (after.record.version, after.record.value, one.store.swaps) == (3, b"a head", 2)


def test_a_swap_with_a_lost_answer_counts_when_the_next_record_is_built_on_it(one):
    one.store.plan = ["lose reply"]
    hook = when(ReadTagged, lambda: they_promise(one, 3), number=2)
    view = one.run(change_site(one.place, None, promising(2, MINE)), hook)
    assert view.record.promised == Ballot(2, MINE)
    assert (one.record().promised, one.record().prev) == (Ballot(3, THEIRS), view.record_hash)
    reply = one.run(change_site(one.place, view, accepting(Ballot(2, MINE), b"a head")))
    assert reply == Preempted(Ballot(3, THEIRS)), "a replaced record is not built upon but read again"
    assert one.store.swaps == 1


def test_a_swap_that_was_overtaken_twice_is_not_counted(one):
    """The swap may have taken effect, but nothing in the register shows it."""
    one.store.plan = ["lose reply"]

    def they_go_on():
        they_promise(one, 3)
        they_promise(one, 4)

    reply = one.run(change_site(one.place, None, promising(2, MINE)), when(ReadTagged, they_go_on, number=2))
    assert reply == Preempted(Ballot(4, THEIRS))


def test_the_rule_is_applied_again_when_the_record_was_replaced(one):
    view = one.run(read_site(one.place))
    they_promise(one, 5)
    assert one.run(change_site(one.place, view, promising(4, MINE))) == Preempted(Ballot(5, THEIRS))
    after = one.run(change_site(one.place, view, promising(6, MINE)))
    assert (after.record.version, after.record.promised) == (3, Ballot(6, MINE))


def test_a_swap_without_an_answer_is_unknown_and_may_arrive_late(one):
    """It finds its tag and takes effect as if it were on time. No host counted it, and every host sees it."""
    one.store.plan = ["lose"]
    assert one.run(change_site(one.place, None, promising(2, MINE))).kind == "unknown"
    assert one.record() == one.first
    assert one.store.land_late_swaps() != [None]
    assert one.run(read_site(one.place)).record.promised == Ballot(2, MINE)
    assert one.run(change_site(one.place, None, promising(1, THEIRS))) == Preempted(Ballot(2, MINE))


def test_a_swap_that_lands_after_another_one_changes_nothing(one):
    one.store.plan = ["lose"]
    one.run(change_site(one.place, None, promising(2, MINE)))
    they_promise(one, 3)
    there = one.store.get(STATE)
    assert one.store.land_late_swaps() == [None]
    assert one.store.get(STATE) == there


def test_tags_never_come_back(one):
    """One ballot promised again and again, as a lost answer makes a proposer do: no two records are alike."""
    tags = {one.store.read_tagged(STATE).tag}
    for _ in range(20):
        data = one.store.get(STATE)
        record = msgspec.structs.replace(one.place.decode(data), version=2, token=os.urandom(16))
        one.store.put(STATE, one.place.encode(record))
        tags.add(one.store.read_tagged(STATE).tag)
    assert len(tags) == 21


@pytest.mark.parametrize("list_number", [1, 2])
def test_a_seal_that_comes_before_the_confirmation_voids_the_change(one, list_number):
    seal = when(List, lambda: one.store.put_if_absent(SEAL, b"sealed"), number=list_number)
    assert one.run(change_site(one.place, None, promising(2)), seal).kind == "sealed"
    assert one.store.swaps == list_number - 1
    assert one.run(read_site(one.place)).kind == "sealed"


def test_a_record_that_vanished_before_it_was_confirmed_is_not_counted(one):
    wipe = when(List, lambda: one.store.delete(STATE), number=2)
    assert one.run(change_site(one.place, None, promising(2)), wipe).kind == "unknown"


@pytest.mark.parametrize("step", [ReadTagged, Swap])
def test_a_wiped_register_is_absent_and_no_swap_brings_it_back(one, step):
    wipe = when(step, lambda: one.store.delete(STATE))
    assert one.run(change_site(one.place, None, promising(2)), wipe).kind == "absent"
    assert one.run(read_site(one.place)).kind == "absent"
    assert [row.name for row in one.store.list()] == []


def test_a_late_swap_on_a_wiped_register_is_refused(one):
    one.store.plan = ["lose"]
    one.run(change_site(one.place, None, promising(2)))
    one.store.delete(STATE)
    assert one.store.land_late_swaps() == [None]
    assert one.run(read_site(one.place)).kind == "absent"


def test_records_of_a_chain_are_no_memory_of_a_register_that_is_swapped(one):
    one.store.put(PREFIX + "v-000000000001", one.store.get(STATE))
    one.store.delete(STATE)
    assert one.run(read_site(one.place)).kind == "absent"


def seen_now(one):
    """Return the acceptor as known to a host that has just read it."""
    return msgspec.structs.replace(one.place, seen=one.run(read_site(one.place)).witness())


def test_a_register_with_an_older_record_went_back_in_time(one):
    older = one.store.get(STATE)
    one.run(change_site(one.place, None, promising(2)))
    place = seen_now(one)
    one.store.put(STATE, older)
    view = one.run(read_site(place))
    assert view.rolled_back
    assert one.run(change_site(place, view, promising(9))).kind == "rolled-back"
    assert one.record() == one.first
    one.run(
        change_site(one.place, None, accepting(Ballot(9, MINE), b"chosen later"))
    )  # by a host without this information
    assert not one.run(read_site(place)).rolled_back, "it has accepted a ballot above all that it had forgotten"


def test_a_register_that_forgot_no_more_than_an_acceptance_went_back_too(one):
    view = one.run(change_site(one.place, None, promising(2, MINE)))
    promised = one.store.get(STATE)
    one.run(change_site(one.place, view, accepting(Ballot(2, MINE), b"a head")))
    place = seen_now(one)
    one.store.put(STATE, promised)
    assert one.run(read_site(place)).rolled_back
    they_promise(one, 3)
    assert one.run(read_site(place)).rolled_back, "a higher promise does not bring the acceptance back"


def test_another_record_of_the_version_that_this_host_saw_is_no_memory(one):
    """A store that accepts two swaps of one record, or a restored site that was written to."""
    before = one.store.get(STATE)
    one.run(change_site(one.place, None, promising(3, MINE)))
    place = seen_now(one)
    one.store.put(STATE, before)
    they_promise(one, 2)
    assert one.record().version == place.seen.version
    assert one.run(read_site(place)).rolled_back
    they_promise(one, 4)
    assert one.record().version == place.seen.version + 1
    assert one.run(read_site(place)).rolled_back, "nor is one that was built on it"
    assert not one.run(read_site(one.place)).rolled_back, "a host that saw nothing cannot notice a rollback"


def test_a_witness_of_another_life_says_nothing(one):
    far = SiteWitness(b"j" * 16, 99, Ballot(99, MINE), b"h" * 32)
    assert not one.run(read_site(msgspec.structs.replace(one.place, seen=far))).rolled_back


def test_a_record_of_another_acceptor_does_not_count(one):
    mine = one.store.get(STATE)
    elsewhere = OneAcceptor("rome")
    other_keys = Keyring.draw(one.keys.repository)
    strangers = (one.at("rome"), one.at("paris", b"j" * 16), elsewhere.place, one.at("paris", keys=other_keys))
    for place in strangers:
        record = found(place.chain, Ballot(1, MINE), b"another head", os.urandom(16))
        one.store.put(STATE, place.encode(record))
        assert one.run(read_site(one.place)).kind == "broken"
        assert one.run(change_site(one.place, None, promising(2))).kind == "broken"
        assert one.store.get(STATE) == place.encode(record), "an unintelligible record is not replaced"
    one.store.put(STATE, mine)
    assert isinstance(one.run(read_site(one.place)), SiteView)


@given(data=st.binary(max_size=200), where=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_garbage_is_a_broken_register(data, where, flip):
    one = OneAcceptor().begun()
    whole = bytearray(one.store.get(STATE))
    one.store.put(STATE, data)
    assert one.run(read_site(one.place)).kind == "broken"
    whole[where % len(whole)] ^= flip
    one.store.put(STATE, bytes(whole))
    assert one.run(read_site(one.place)).kind == "broken"


def test_a_register_begins_once():
    one = OneAcceptor()
    assert one.run(read_site(one.place)).kind == "absent"
    view = one.run(begin(one.place, one.first))
    assert (view.record, view.tag) == (one.first, one.store.read_tagged(STATE).tag)
    other = msgspec.structs.replace(one.first, token=os.urandom(16))
    assert one.run(begin(one.place, other)).kind == "broken"
    assert one.record() == one.first
    assert isinstance(one.run(begin(one.place, one.first)), SiteView), (
        "the same bytes, as two that finish a switch write"
    )
    assert one.run(change_site(one.place, view, promising(2))).record.version == 2


def test_a_register_that_began_and_went_on_has_begun():
    one = OneAcceptor()
    one.store.plan = ["lose reply"]
    hook = when(ReadTagged, lambda: they_promise(one, 3))
    assert one.run(begin(one.place, one.first), hook).record == one.first
    assert one.record().promised == Ballot(3, THEIRS)


@pytest.mark.parametrize(("loss", "begins"), [("refuse", False), ("lose", False), ("lose reply", True)])
def test_a_beginning_that_got_no_answer_counts_if_it_is_there(loss, begins):
    one = OneAcceptor()
    one.store.plan = [loss]
    reply = one.run(begin(one.place, one.first))
    assert isinstance(reply, SiteView) if begins else reply.kind == "unknown"
    assert (one.store.read_tagged(STATE) is not None) is begins
    assert one.store.land_late_swaps() in ([], [one.store.read_tagged(STATE) and one.store.read_tagged(STATE).tag])


def test_a_register_does_not_begin_in_a_configuration_that_has_ended():
    one = OneAcceptor()
    one.store.put_if_absent(SEAL, b"sealed")
    assert one.run(begin(one.place, one.first)).kind == "sealed"
