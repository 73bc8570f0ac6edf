"""The judge of the histories: it must accept what can be explained and nothing else, however it cuts them up."""

from dataclasses import replace

import pytest
from chaos_history import Call, Diary, Truth, hash_of, judge_order, read_diaries
from hypothesis import given
from hypothesis import strategies as st
from sim_linear import NEVER, Operation, is_linearizable

MARKS = ("a", "b", "c")
TRUTH = Truth(MARKS, 1, 1, ())


def append(mark, began, ended=NEVER, seen=None):
    shown = (seen, hash_of(MARKS[:seen])) if seen is not None else None
    return Call("w0.1", "append", mark, began, ended, answered=ended < NEVER, seen=shown, epoch=1)


def read(count, began, ended, process="r0.1", epoch=1):
    seen = (count, hash_of(MARKS[:count]))
    return Call(process, "read", None, began, ended, answered=True, seen=seen, epoch=epoch)


def move(to, began, ended=NEVER, *, refused=False, process="w0.1"):
    return Call(process, "epoch", to, began, ended, answered=ended < NEVER, refused=refused)


GOOD = [append("a", 0, 1, 1), append("b", 2, 3, 2), append("c", 4, 5, 3), read(1, 1.5, 1.6), read(3, 6, 7)]


def test_a_history_that_can_be_explained():
    assert judge_order(GOOD, TRUTH) == []


@pytest.mark.parametrize(
    ("calls", "complaint"),
    [
        ([*GOOD, read(1, 3.5, 3.6)], "not linearizable"),
        ([*GOOD, read(2, 0, 1.5)], "not linearizable"),
        ([*GOOD, append("d", 0, 9)], "lost acknowledgement"),
        (GOOD[1:], "nobody made"),
        ([append("a", 4.5, 4.6, 1), *GOOD[1:]], "not linearizable"),
        ([*GOOD, replace(GOOD[3], seen=(1, hash_of(("z",))))], "no beginning"),
        ([*GOOD, move(2, 0, 1), read(0, 8, 9)], "not linearizable"),
        ([*GOOD, move(2, 8, 9)], "do not add up"),
    ],
)
def test_a_history_that_cannot_be(calls, complaint):
    assert complaint in " ".join(judge_order(calls, TRUTH))


def test_duplicates_are_seen():
    twice = Truth(("a", "b", "a"), 1, 1, ())
    assert "duplicates" in " ".join(judge_order([append("a", 0, 1), append("b", 0, 1)], twice))


def test_a_write_without_an_answer_counts_from_when_it_was_seen():
    calls = [append("a", 0), append("b", 2, 3, 2), append("c", 4, 5, 3)]
    assert judge_order([*calls, read(1, 1, 2)], TRUTH) == []
    assert judge_order([*calls, read(0, 1, 2)], TRUTH) == []
    assert judge_order([*calls, read(1, 1, 1.5), read(0, 1.6, 2)], TRUTH) != []


def test_a_move_without_an_answer_was_made_by_whom_the_log_names():
    truth = Truth((), 2, 1, ("w1",))
    calls = [move(2, 0), move(2, 0, process="w1.4"), read(0, 5, 6, epoch=2)]
    assert judge_order(calls, truth) == []
    assert judge_order(calls, replace(truth, movers=("r0",))) != []
    assert judge_order([*calls, read(0, 7, 8)], truth) != []


times = st.integers(0, 12)


@st.composite
def histories(draw):
    """Appends a, b, c, some without an answer, and reads, at random times: explainable or not."""
    calls = []
    for i, mark in enumerate(MARKS):
        began = draw(times)
        answered = draw(st.booleans())
        ended = began + draw(st.integers(1, 6)) if answered else NEVER
        calls.append(append(mark, began, ended, draw(st.integers(i + 1, 3)) if answered else None))
    for number in range(draw(st.integers(0, 4))):
        began = draw(times)
        calls.append(read(draw(st.integers(0, 3)), began, began + draw(st.integers(1, 6)), f"r{number}.1"))
    return calls


def by_the_plain_search(calls):
    """The same history as the simulator would hand it to the search: whole, with whole lists as answers."""
    operations = []
    for call in calls:
        answer = None
        if call.answered and call.kind == "append":
            answer = MARKS[: MARKS.index(call.value) + 1]
        elif call.answered:
            answer = (MARKS[: call.seen[0]], 1)
        operations.append(Operation(call.kind, call.value, call.began, call.ended, answer))
        if call.kind == "append" and call.answered:  # the view that it was shown, at some moment of the call
            operations.append(Operation("read", None, call.began, call.ended, (MARKS[: call.seen[0]], 1)))
    return is_linearizable([*operations, Operation("read", None, 1000, 1001, (MARKS, 1))])


@given(histories())
def test_cutting_a_history_up_does_not_change_the_verdict(calls):
    assert (judge_order(sorted(calls, key=lambda call: call.began), TRUTH) == []) is by_the_plain_search(calls)


def test_a_diary_comes_back_also_from_a_process_that_died(tmp_path):
    diary = Diary(tmp_path / "w0.1.jsonl")
    diary.say(ready=True)
    number = diary.begin(kind="append", value="x", began=1.0)
    diary.end(number, ended=2.0, answered=True, seen=(1, "hash"), epoch=1, sequence=7, digest="ab", problems=[])
    diary.begin(kind="read", value=None, began=3.0)
    diary.say(violation="something")
    diary.close()
    with (tmp_path / "w0.1.jsonl").open("ab") as file:
        file.write(b'{"n": 2, "ended"')  # killed in the middle of a line
    calls, complaints = read_diaries(tmp_path)
    assert [(call.value, call.answered, call.seen) for call in calls] == [("x", True, (1, "hash")), (None, False, None)]
    assert complaints == ["w0.1: something"]
