"""The objectives of sources, and their report by `status`."""

import time

import pytest
from three_sites import fill

from drtool.config.life import Objective
from drtool.events import ignore
from drtool.operations.backup import SourceJob
from drtool.operations.objectives import Proven, missed
from drtool.operations.status import status

DAY_S = 86_400


@pytest.mark.parametrize(
    ("objective", "known", "words"),
    [
        (Objective(rpo=DAY_S), (DAY_S - 1, 2, None), ""),
        (Objective(rpo=DAY_S), (DAY_S * 3.5, 2, None), "3.5 d old, and 24 h are allowed"),
        (Objective(rpo=DAY_S), (None, None, None), "no snapshot"),
        (Objective(copies=2), (1, 2, None), ""),
        (
            Objective(copies=3),
            (1, 2, None),
            "on 2 sites instead of 3; the repository promises no more than 2",
        ),
        (Objective(proven=DAY_S), (1, 2, Proven(5, ever=False)), ""),
        (Objective(proven=DAY_S), (1, 2, Proven(DAY_S * 2, ever=False)), "nothing was proven for 2 d"),
        (
            Objective(proven=DAY_S),
            (1, 2, Proven(DAY_S * 2, ever=True)),
            "newest proven snapshot is 2 d old, and 24 h are allowed",
        ),
        (Objective(proven=DAY_S), (1, 2, Proven(5, ever=True)), ""),
    ],
)
def test_missed_objectives_are_reported(objective, known, words):
    found = "; ".join(missed(objective, *known, promised=2))
    assert words in found if words else not found


def test_status_judges_this_hosts_sources_and_no_others(world):
    source = fill(world.root / "tree", {"file": b"x"})
    old_ns = time.time_ns() - 3 * DAY_S * 10**9
    future_ns = time.time_ns() + DAY_S * 10**9
    objectives = {"home": Objective(rpo=2 * DAY_S, copies=2), "never": Objective(rpo=DAY_S)}
    with world.open() as repository:
        job = SourceJob(name="home", paths=(bytes(source),))
        for taken_ns in (old_ns, future_ns):
            world.run_jobs(repository, job, time_ns=taken_ns)
        world.run_jobs(repository, job, time_ns=old_ns, host="elsewhere")
        found = status(repository, ignore, objectives)
        fine = status(repository, ignore, {"home": Objective(rpo=9 * DAY_S)})
    rows = {(row.host, row.name): row for row in found.sources}
    assert rows[world.host, "home"].met is False
    assert "3 d old" in rows[world.host, "home"].missed[0]
    assert rows[world.host, "home"].snapshots == 2
    assert rows["elsewhere", "home"].met is None
    assert rows[world.host, "never"].newest_snapshot is None
    assert rows[world.host, "never"].met is False
    assert sum("source home of" in problem for problem in found.problems) == 1
    assert fine.healthy
