"""The two rules, quorums and the choice of value, and whole rounds as transcripts that serve as documentation."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drtool.paxos import (
    NO_BALLOT,
    Ballot,
    Chain,
    Preempted,
    Record,
    accept,
    agreed,
    found,
    highest_accepted,
    majority,
    next_ballot,
    promise,
    to_adopt,
)

CHAIN = Chain("paris", bytes(16), bytes(16), 1, 1)
TOKEN = bytes(16)


def ballot(text: str) -> Ballot:
    """Return `8.paris` as a ballot with a readable name as its proposer."""
    number, _, name = text.partition(".")
    return Ballot(int(number), name.encode().ljust(16, b"\0"))


def name_of(value: Ballot) -> str:
    return f"{value.round}.{value.proposer.rstrip(bytes(1)).decode()}"


steps = st.lists(st.tuples(st.sampled_from("pa"), st.integers(1, 9), st.sampled_from("xyz"), st.binary(max_size=3)))


@given(steps)
def test_promises_and_acceptances_never_decrease(moves):
    record = found(CHAIN, ballot("1.f"), b"begin", TOKEN)
    for kind, number, proposer, value in moves:
        wanted = ballot(f"{number}.{proposer}")
        after = (
            promise(record, bytes(32), wanted, TOKEN)
            if kind == "p"
            else accept(record, bytes(32), wanted, value, TOKEN)
        )
        if isinstance(after, Preempted):
            assert after.by == record.promised >= wanted
            continue
        assert after.promised >= record.promised
        assert record.accepted <= after.accepted <= after.promised
        assert after.version == record.version + 1
        record = after


@given(st.integers(1, 9), st.integers(0, 2))
def test_two_quorums_share_more_acceptors_than_can_lie(voters, liars):
    size = majority(voters, liars)
    if size > voters:
        return
    groups = list(combinations(range(voters), size))
    assert all(len(set(one) & set(other)) > liars for one in groups for other in groups)
    assert size == 1 or 2 * (size - 1) - voters <= liars


@pytest.mark.parametrize(
    ("voters", "liars", "size"), [(1, 0, 1), (3, 0, 2), (5, 0, 3), (4, 0, 3), (4, 1, 3), (5, 1, 4)]
)
def test_quorums_have_the_sizes_that_the_formula_says(voters, liars, size):
    assert majority(voters, liars) == size


def test_no_voters_have_no_quorum():
    with pytest.raises(ValueError):
        majority(0)


@given(st.lists(st.builds(Ballot, st.integers(0, 99), st.binary(min_size=16, max_size=16)), min_size=1))
def test_the_next_ballot_is_above_every_one_seen(seen):
    assert all(next_ballot(seen, bytes(16)) > each for each in seen)
    assert next_ballot([], bytes(16)) > NO_BALLOT


def test_agreement_needs_one_ballot_at_a_quorum():
    def record(text: str) -> Record:
        return found(CHAIN, ballot(text), text.encode(), TOKEN)

    assert agreed([record("1.a"), record("2.b"), record("3.c")], 2) is None
    assert agreed([record("1.a"), record("2.b"), record("2.b")], 2).value == b"2.b"
    assert highest_accepted([record("3.a"), record("3.b"), record("2.c")]).value == b"3.b"


def test_one_ballot_carries_one_value_at_an_acceptor():
    record = promise(found(CHAIN, ballot("1.f"), b"begin", TOKEN), bytes(32), ballot("2.a"), TOKEN)
    first = accept(record, bytes(32), ballot("2.a"), b"one life", TOKEN)
    again = accept(first, bytes(32), ballot("2.a"), b"one life", TOKEN)
    assert again.value == b"one life"
    assert isinstance(accept(again, bytes(32), ballot("2.a"), b"the other", TOKEN), Preempted)


@pytest.mark.parametrize(
    ("values", "voters", "quorum", "adopted"),
    [
        ("vv", 3, 2, "v"),
        ("vw", 3, 2, None),
        ("vwv", 3, 2, "v"),
        ("vwx", 3, 2, "any"),
        ("vvw", 5, 3, None),
        ("vvww", 5, 3, None),
        ("vvwx", 5, 3, "v"),
        ("vvwww", 5, 3, "w"),
        ("vvww", 4, 3, "any"),
    ],
)
def test_a_ballot_with_two_values_is_decided_by_a_possible_quorum(values, voters, quorum, adopted):
    promises = [found(CHAIN, ballot("2.a"), value.encode(), TOKEN) for value in values]
    base = to_adopt(promises, voters, quorum)
    assert (base.value.decode() if base else None) in ([adopted] if adopted != "any" else list(values))
    assert agreed(promises, quorum) is None or agreed(promises, quorum).value == base.value


class Sites:
    """Three acceptors in memory that record their actions."""

    def __init__(self) -> None:
        first = found(CHAIN, ballot("1.f"), b"head=1", TOKEN)
        self.records = dict.fromkeys(("paris", "oslo", "rome"), first)
        self.lines: list[str] = []

    def prepare(self, name: str, *sites: str) -> bytes:
        for site in sites:
            after = promise(self.records[site], bytes(32), ballot(name), TOKEN)
            self._note(site, "prepare", name, after)
        return highest_accepted([self.records[site] for site in sites]).value

    def accept(self, name: str, value: bytes, *sites: str) -> None:
        for site in sites:
            after = accept(self.records[site], bytes(32), ballot(name), value, TOKEN)
            self._note(site, f"accept {value.decode()}", name, after)

    def _note(self, site: str, what: str, name: str, after: Record | Preempted) -> None:
        if isinstance(after, Preempted):
            self.lines.append(f"{name} {what} at {site}: promised {name_of(after.by)}")
            return
        self.records[site] = after
        self.lines.append(f"{name} {what} at {site}: accepted {name_of(after.accepted)} {after.value.decode()}")


def test_a_round_in_peace():
    sites = Sites()
    base = sites.prepare("2.a", "paris", "oslo", "rome")
    sites.accept("2.a", base + b"+a", "paris", "oslo", "rome")
    assert sites.lines == [
        "2.a prepare at paris: accepted 1.f head=1",
        "2.a prepare at oslo: accepted 1.f head=1",
        "2.a prepare at rome: accepted 1.f head=1",
        "2.a accept head=1+a at paris: accepted 2.a head=1+a",
        "2.a accept head=1+a at oslo: accepted 2.a head=1+a",
        "2.a accept head=1+a at rome: accepted 2.a head=1+a",
    ]


def test_a_proposer_that_dies_half_way_is_finished_by_the_next():
    sites = Sites()
    base = sites.prepare("2.a", "paris", "oslo")
    sites.accept("2.a", base + b"+a", "oslo")  # and then it dies
    base = sites.prepare("3.b", "oslo", "rome")
    sites.accept("3.b", base + b"+b", "oslo", "rome")
    sites.accept("2.a", b"head=1+a", "rome")  # a late message of the dead one
    assert sites.lines[2:] == [
        "2.a accept head=1+a at oslo: accepted 2.a head=1+a",
        "3.b prepare at oslo: accepted 2.a head=1+a",
        "3.b prepare at rome: accepted 1.f head=1",
        "3.b accept head=1+a+b at oslo: accepted 3.b head=1+a+b",
        "3.b accept head=1+a+b at rome: accepted 3.b head=1+a+b",
        "2.a accept head=1+a at rome: promised 3.b",
    ]


def test_two_proposers_in_one_round_are_distinguished_by_their_ids():
    sites = Sites()
    sites.prepare("2.a", "paris", "oslo")
    sites.prepare("2.b", "oslo", "rome")
    sites.prepare("2.a", "rome")
    sites.accept("2.a", b"head=1+a", "paris", "oslo")
    sites.accept("2.b", b"head=1+b", "oslo", "rome")
    assert sites.lines[4:] == [
        "2.a prepare at rome: promised 2.b",
        "2.a accept head=1+a at paris: accepted 2.a head=1+a",
        "2.a accept head=1+a at oslo: promised 2.b",
        "2.b accept head=1+b at oslo: accepted 2.b head=1+b",
        "2.b accept head=1+b at rome: accepted 2.b head=1+b",
    ]
