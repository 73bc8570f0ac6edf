"""Which of several targets to ask."""

from hypothesis import given
from hypothesis import strategies as st

from drtool.model import TargetName
from drtool.repository.pace import Pace

A, B, C = map(TargetName, ("a/x", "b/x", "c/x"))
MIB = 1 << 20


def test_unknown_ones_are_asked_first_and_then_the_fast_ones():
    pace = Pace()
    assert pace.order([A, B], MIB) == [A, B]
    pace.note(A, MIB, 1.0)
    assert pace.order([A, B], MIB) == [B, A]
    pace.note(B, MIB, 0.1)
    assert pace.order([A, B], MIB) == [B, A]
    assert pace.expected_s(C, MIB) is None


def test_requests_under_way_count():
    pace = Pace()
    for target, seconds in ((A, 0.10), (B, 0.15)):
        pace.note(target, MIB, seconds)
    chosen = []
    for _ in range(10):
        chosen.append(pace.order([A, B], MIB)[0])
        pace.begin(chosen[-1])
    assert 5 <= chosen.count(A) <= 7  # as they are able: three to two


def test_one_that_was_slow_is_tried_again_in_the_end():
    pace = Pace()
    pace.note(A, MIB, 5.0)
    pace.note(B, MIB, 0.1)
    asked = [pace.order([A, B], MIB)[0] for _ in range(300)]
    assert asked[:50] == [B] * 50
    assert A in asked


@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 32 * MIB), st.floats(0, 100)), max_size=40))
def test_an_order_is_the_same_targets_and_estimates_stay_sensible(notes):
    pace = Pace()
    for target, size_bytes, seconds in notes:
        pace.note(target, size_bytes, seconds)
        assert sorted(pace.order([A, B, C], MIB)) == [A, B, C]
    slowest = max((seconds / size for _, size, seconds in ((t, s + 1, x) for t, s, x in notes)), default=0.0)
    for target in (A, B, C):
        expected = pace.expected_s(target, MIB)
        assert expected is None or 0 <= expected <= slowest * 2 * MIB + 1e-9


def test_one_that_fails_comes_last_for_twice_as_long_each_time_until_it_answers():
    pace = Pace()
    pace.note(A, MIB, 0.001)
    pace.note(B, MIB, 1.0)
    waits = []
    for _ in range(3):
        pace.fail(A)
        waits.append(next(n for n in range(1000) if pace.order([A, B], MIB)[0] == A))
    assert waits[0] >= 8
    assert waits[1] >= 2 * waits[0] - 1
    assert waits[2] >= 2 * waits[1] - 1
    pace.note(A, MIB, 0.001)
    assert pace.order([A, B], MIB)[0] == A
    pace.fail(A)
    assert next(n for n in range(1000) if pace.order([A, B], MIB)[0] == A) == waits[0]


def test_where_all_fail_all_are_named():
    pace = Pace()
    for target in (A, B, C):
        pace.fail(target)
    assert sorted(pace.order([A, B, C], MIB)) == [A, B, C]
