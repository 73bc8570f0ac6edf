"""Who may be blamed for what: a site for its own trouble, nobody else, and silence only of whoever heard nothing."""

from types import SimpleNamespace

import pytest
from chaos_history import Call
from chaos_scenario import Phase, Trouble
from chaos_verdict import NO_ANSWER, _alarms

SCENARIO = SimpleNamespace(
    troubles=[Trouble("oslo", "full", 10.0, 20.0), Trouble("rome", "wiped", 15.0)],
    phases=[Phase("calm", (), 0.0), Phase("voters", ("voters",), 100.0)],
)


def check(began, ended, *problems):
    return Call("r0.1", "check", None, began, ended, answered=True, problems=[list(problem) for problem in problems])


def gave_up(began, ended_at, words):
    return Call("w0.1", "append", "m", began, unknown=words, ended_at=ended_at)


@pytest.mark.parametrize(
    "call",
    [
        check(9, 11, ("oslo", "unreachable", "read-only")),
        check(21, 22, ("oslo", "broken", "half of it")),
        check(500, 501, ("rome", "absent", "wiped long ago and never mended")),
        check(500, 501, ("", "missing-object", "on one site only, since rome lost it")),
        check(1, 2, ("bern", "unreachable", NO_ANSWER), ("", "no-quorum", "0 of 3")),
        check(101, 102, ("bern", "absent", "it is about to begin")),
        gave_up(1, 9, "reached 0 (none): bern: unreachable, timeout"),
        gave_up(12, 19, "reached 2: oslo: broken, half of it"),
    ],
)
def test_what_may_be_said(call):
    assert list(_alarms(SCENARIO, [call])) == []


@pytest.mark.parametrize(
    "call",
    [
        check(1, 2, ("oslo", "unreachable", "read-only")),
        check(23, 24, ("oslo", "broken", "half of it")),
        check(16, 17, ("bern", "broken", "half of it")),
        check(1, 2, ("bern", "absent", "it is gone")),
        check(101, 102, ("bern", "rolled-back", "older")),
        check(1, 2, ("", "no-quorum", "1 of 3")),
        check(1, 2, ("", "missing-object", "on no site")),
        check(1, 2, ("", "fork", "two heads"), ("bern", "unreachable", NO_ANSWER)),
        gave_up(1, 9, "reached 2: bern: it went back in time"),
    ],
)
def test_what_is_a_false_alarm(call):
    assert len(list(_alarms(SCENARIO, [call]))) == 1
