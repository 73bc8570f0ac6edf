"""Single losses that take the quorum, and the remains of the catalogue after them."""

import pytest

from drtool.repository.exposure import exposures, own_targets
from drtool.repository.spec import TargetSpec

STORING = ["laptop/main", "b/main", "c/main"]


def losses(voters, *, current=(), own=(), storing=STORING, away=()):
    by_site = {name.partition("/")[0]: name for name in voters}
    found = exposures(by_site, len(voters) // 2 + 1, storing, current, own, away)
    return [(loss.holders, loss.message) for loss in found]


def test_an_only_voter_is_named_with_the_remains_without_it():
    ((holders, words),) = losses(["laptop/main"], current=["laptop/main", "b/main"])
    assert (holders, "only voter" in words) == (("b",), True)
    ((holders, words),) = losses(["laptop/main"], current=["laptop/main"])
    assert (holders, "all snapshots are lost" in words) == ((), True)
    assert losses(["laptop/main"], storing=["laptop/main"]) == []


def test_an_arbiter_on_the_machine_that_is_backed_up_is_no_safety():
    voters, current = ["laptop/main", "judge/main", "b/main"], [*STORING, "judge/main"]
    own = ["laptop/main", "judge/main"]
    ((holders, words),) = losses(voters, current=current, own=own)
    assert (holders, "judge/main and laptop/main" in words) == (("b", "c"), True)
    ((holders, words),) = losses(voters, current=own, own=own)
    assert (holders, "all snapshots are lost" in words) == ((), True)


@pytest.mark.parametrize(("own", "away"), [(["laptop/main"], []), ([], []), (STORING, []), (STORING[:2], STORING[2:])])
def test_no_alarm_where_a_quorum_is_left_or_no_data_is_known_to_be_elsewhere(own, away):
    assert losses(STORING, current=STORING, own=own, away=away) == []


def test_only_directories_on_this_machines_own_disk_are_its_own(tmp_path):
    specs = [
        TargetSpec(name="a/main", url=str(tmp_path)),
        TargetSpec(name="b/main", url="s3://bucket"),
        TargetSpec(name="c/main", url="/proc"),
        TargetSpec(name="d/main", url=str(tmp_path / "absent")),
    ]
    assert own_targets(specs) == {"a/main"}
