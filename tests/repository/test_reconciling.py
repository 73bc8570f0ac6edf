"""Desired minus observed: no object ever has fewer good copies than before or than promised, in any situation."""

from hypothesis import given
from hypothesis import strategies as st

from drtool.model import PackId, TargetName
from drtool.repository.expected import Expected
from drtool.repository.placement import distinct_sites
from drtool.repository.reconciling import job_for
from drtool.ring import Placement, Ring, RingTarget

NAMES = [TargetName(f"{site}/{name}") for site in "abcde" for name in ("main", "more")]
states = st.sampled_from(["active", "active", "active", "draining", "lost"])


@st.composite
def cases(draw):
    rows = draw(st.dictionaries(st.sampled_from(NAMES), states, min_size=1))
    ring = Ring(
        epoch=1, copies=draw(st.integers(1, 3)), targets=tuple(RingTarget(name=n, state=s) for n, s in rows.items())
    )
    placement, pack = Placement(ring), PackId(draw(st.binary(min_size=32, max_size=32)))
    metadata = draw(st.booleans())
    desired = placement.metadata(pack) if metadata else placement.desired(pack)
    holding = [name for name, state in rows.items() if state != "lost"]
    listed = draw(st.sets(st.sampled_from(holding))) if holding else set()
    bad = draw(st.sets(st.sampled_from(sorted(listed)))) if listed else set()
    away = draw(st.sets(st.sampled_from(sorted(set(NAMES) - listed)))) if len(listed) < len(NAMES) else set()
    expected = Expected("packs/x", 1, desired, (), metadata)
    return expected, sorted(listed - bad), sorted(bad), list(placement.preference(pack)), ring.copies, away


@given(cases())
def test_nothing_is_taken_that_is_needed_and_all_that_can_be_done_is_done(case):
    expected, good, bad, preference, copies, away = case
    job = job_for(expected, good, bad, preference, copies, lambda name: name not in away)
    assert not set(job.surplus) & set(expected.desired)
    assert distinct_sites(job.after) >= min(distinct_sites(good), copies)
    if job.surplus:
        assert set(expected.desired) <= job.after
        assert distinct_sites(expected.desired) >= copies
    assert set(expected.desired) - away <= job.after
    takers = {name for name in preference if name not in away}
    assert distinct_sites(job.after) >= min(copies, distinct_sites(takers | set(good)))


@given(cases())
def test_completed_work_is_not_repeated(case):
    expected, good, bad, preference, copies, away = case
    job = job_for(expected, good, bad, preference, copies, lambda name: name not in away)
    left = set(bad) - set(job.bad) - set(job.surplus)
    again = job_for(expected, sorted(job.after), sorted(left), preference, copies, lambda name: name not in away)
    assert (again.write, again.bad) == ((), ())


@given(cases(), st.sets(st.sampled_from(NAMES)))
def test_a_copy_that_an_unreachable_site_may_have_is_not_made_again(case, absent):
    expected, good, bad, preference, copies, _ = case
    perhaps = absent - set(good) - set(bad)
    job = job_for(expected, good, bad, preference, copies, lambda name: name not in absent, perhaps)
    extra = {name for name in (*job.write, *job.bad) if name not in expected.desired}
    assert not extra or distinct_sites((*good, *perhaps)) < copies
    assert distinct_sites(job.after) >= min(distinct_sites(good), copies)
    assert not perhaps & job.after


def test_a_damaged_copy_in_a_wrong_place_is_removed_instead_of_repaired():
    a, b, c = (TargetName(f"{site}/main") for site in "abc")
    job = job_for(Expected("packs/x", 1, (a, b), (), False), [a], [c], [a, b, c], 2, lambda _name: True)
    assert (job.write, job.bad, job.surplus) == ((b,), (), (c,))


def test_where_the_ring_has_fewer_sites_than_copies_nothing_is_one_too_many():
    a, b = TargetName("a/main"), TargetName("b/main")
    job = job_for(Expected("packs/x", 1, (a,), (), False), [a, b], [], [a], 2, lambda _name: True)
    assert job.idle
