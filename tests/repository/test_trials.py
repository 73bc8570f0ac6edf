"""Slow questions to targets show which of them are waited for."""

import threading

import pytest

from drtool.errors import StoreError
from drtool.model import TargetName
from drtool.repository import trials

DESK, NAS = TargetName("desk/main"), TargetName("nas/main")


def test_those_that_have_not_answered_are_named(monkeypatch):
    monkeypatch.setattr(trials, "SIGN_OF_LIFE_S", 0.01)
    shown, answered = threading.Event(), []

    def show(event):
        answered.append((event.counted, event.files, event.total_files, sorted(event.waiting_s)))
        if event.files == 1:
            shown.set()

    results = trials.try_all({DESK: lambda: "quick", NAS: lambda: shown.wait(30)}, show)
    assert results == {DESK: "quick", NAS: True}
    assert answered[-1] == ("target", 1, 2, [NAS])


def test_a_failure_is_raised():
    def fail():
        raise StoreError("it is full")

    with pytest.raises(StoreError, match="it is full"):
        trials.try_all({DESK: fail, NAS: lambda: 1}, print)
