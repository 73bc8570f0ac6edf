"""How much of something long is tried: all of it by `make test-all`, a sample by `make test`.

A test that takes a share by `STRIDE` or `sample` carries the marker `sampled`. So does every property: Hypothesis marks those
itself. A test that waits for servers, or repeats at length what a shorter test already shows, carries the marker `thorough` and
is left out of `make test`. So do most parameters of a test that takes `spread` or carries the marker `spread(every)`.
`make test-all`, which CI runs, goes on with all of them in full after `make test`.
"""

import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

THOROUGH = bool(os.environ.get("THOROUGH"))
STRIDE = 1 if THOROUGH else 7
"""Steps from one trial to the next. The first and the last step are always among them."""


def sample(everything: int, share: float = 0.25) -> int:
    """Return how many of `everything` (seeds, examples) to try: all of them, or a share of at least one."""
    return everything if THOROUGH else max(1, round(everything * share))


def spread(cases: Iterable[Any], every: int = 7) -> list[Any]:
    """Return parameters of a test: the first case and each `every`th after it as they are, the others marked `thorough`."""
    return [case if number % every == 0 else _thorough(case) for number, case in enumerate(cases)]


def mark_spread(items: Iterable[pytest.Item]) -> None:
    """Mark all but each `every`th parameter of a test that is marked `spread(every)` as `thorough`."""
    met: Counter[str] = Counter()
    for item in items:
        marker = item.get_closest_marker("spread")
        if marker is None:
            continue
        test = item.nodeid.partition("[")[0]
        if met[test] % marker.args[0]:
            item.add_marker(pytest.mark.thorough)
        met[test] += 1


def _thorough(case: Any) -> Any:
    if hasattr(case, "marks"):  # it is a `pytest.param`
        return pytest.param(*case.values, id=case.id, marks=(*case.marks, pytest.mark.thorough))
    values = case if type(case) is tuple else (case,)  # a named tuple is one value
    return pytest.param(*values, marks=pytest.mark.thorough)
