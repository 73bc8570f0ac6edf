"""No alarm without a fault: `check` must not accuse sites that were only offline. Found by the simulator."""

import pytest
from manifest_world import Sites, backup


@pytest.fixture
def sites(tmp_path):
    return Sites(tmp_path / "world", 3)


def test_an_older_head_that_can_still_be_proved_chosen_is_no_step_back(sites):
    """site2 missed the last change; with site0 offline, records of a quorum prove only the older head."""
    backup(sites.found(), "seen by all")
    host = sites.host()
    for away, action in (("site2", lambda: backup(host, "seen by two")), ("site0", lambda: None)):
        (sites.root / away).rename(sites.root / "away")
        action()
        problems = host.check()
        (sites.root / "away").rename(sites.root / away)
        assert [problem.kind for problem in problems] == ["unreachable"]
