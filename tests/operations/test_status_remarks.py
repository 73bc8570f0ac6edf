"""Which lines of `status` are problems, and which are notices."""

import shutil

import pytest
from msgspec.structs import replace
from three_sites import World, fill

from drtool.operations.status import Remark, StatusResult, notice, problem
from drtool.operations.status.result import QuorumStatus


class Voting(World):
    """Only the sites in `voters` vote."""

    voters = ("a",)

    def spec(self, **more):
        spec = super().spec(**more)
        rows = tuple(replace(row, vote="auto" if row.site in self.voters else "false") for row in spec.targets)
        return replace(spec, targets=rows)


class Two(Voting):
    voters = ("a", "b")


EMPTY = StatusResult(quorum=QuorumStatus(1, 1), sites=[], sources=[], sequence=1, tentative=False)


@pytest.mark.parametrize(
    ("remarks", "reachable", "code"),
    [
        ((), 1, 0),
        ((notice("n"),), 1, 0),
        ((notice("n"), problem("p")), 1, 7),
        ((problem("no quorum"),), 0, 6),
    ],
)
def test_healthy_and_the_exit_code_follow_from_the_problems_alone(remarks: tuple[Remark, ...], reachable, code):
    found = replace(EMPTY, quorum=QuorumStatus(1, reachable)).judged(remarks)
    assert (found.exit_code, found.healthy) == (code, code == 0)
    assert found.problems == [row.text for row in remarks if row.level == "problem"]
    assert found.notices == [row.text for row in remarks if row.level == "notice"]


def test_one_voter_among_three_sites_is_named_and_a_problem_where_no_other_site_has_the_catalogue(place):
    world = Voting(place).found()
    assert any("site a is the only voter" in message for message in world.warnings())
    told = world.status()
    assert (told.exit_code, told.problems) == (0, [])
    assert any("site a is the only voter" in line and "copies at b and c" in line for line in told.notices)
    for site in "bc":
        shutil.rmtree(world.directory(site) / "manifest")
    told = world.status()
    assert told.exit_code == 7
    assert any("site a is the only voter" in line and "all snapshots are lost" in line for line in told.problems)
    assert any("b/main has no copy of the catalogue yet" in line for line in told.notices)


def test_a_single_site_promises_nothing_about_its_loss(place):
    assert World(place, ("a/main",)).found().status().problems == []


def test_two_voters_are_a_notice(place):
    told = Two(place).found(copies=2).status()
    assert (told.problems, told.exit_code) == ([], 0)
    assert any("the loss of either stops all writing" in line for line in told.notices)


def test_a_voter_that_was_away_lags_and_that_is_a_notice(world):
    world.backup(fill(world.root / "source", {"file": b"x"}))
    shutil.move(world.directory("c"), world.root / "away")
    world.backup(fill(world.root / "source", {"file": b"x"}))
    shutil.move(world.root / "away", world.directory("c"))
    told = world.status()
    assert any("voter c is" in line and "behind" in line for line in told.notices)
