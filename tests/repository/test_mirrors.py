"""Every site that stores can be read alone: the copies of the catalogue at targets that hold no register."""

import os
import shutil
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace
from three_sites import World

from drtool.errors import NoQuorum, UsageError
from drtool.events import Warned
from drtool.manifest.mirror import mirror_names
from drtool.manifest.names import MIRRORS, OBJECTS
from drtool.model import TargetName
from drtool.operations.catalogue import plan_recovery, recover
from drtool.repository import RepositorySpec, TargetSpec


@dataclass
class LaptopWorld(World):
    """One site votes, and two only store."""

    targets: tuple[str, ...] = ("a/main", "b/main", "c/main")
    voting: tuple[str, ...] = ("a/main",)

    def spec(self, **more: Any) -> RepositorySpec:
        spec = super().spec(**more)
        rows = tuple(row if row.name in self.voting else replace(row, vote="false") for row in spec.targets)
        return replace(spec, targets=rows)

    def mirrors(self, target: str) -> list[int]:
        """The changes that a target has mirrors of."""
        found = (self.directory(target) / MIRRORS).glob("*")
        return [name.sequence for name in mirror_names(MIRRORS + path.name for path in found)]

    def pages(self, target: str) -> set[str]:
        return {path.name for path in (self.directory(target) / OBJECTS).glob("*")}


@pytest.fixture
def world(tmp_path):
    world = LaptopWorld(tmp_path).found(copies=3)
    source = tmp_path / "source"
    source.mkdir()
    (source / "f").write_bytes(b"kept")
    return world


def test_a_commit_leaves_a_copy_of_the_catalogue_at_each_site_that_does_not_vote(world):
    world.backup(world.root / "source")
    now = world.view().sequence
    assert world.mirrors("b/main")[-1] == now
    assert world.mirrors("c/main")[-1] == now
    assert world.mirrors("a/main") == [], "a register needs no mirror"


def test_any_site_that_stores_restores_everything_when_the_only_voter_is_gone(world):
    report = world.backup(world.root / "source")
    shutil.rmtree(world.directory("a/main"))
    for site in ("b", "c"):
        stranger = world.elsewhere(f"new-{site}")
        with stranger.open(targets=(f"{site}/main",), manifest_from=(site,), derive=True) as repository:
            (row,) = repository.view.state.snapshots
            assert (row.id.hex(), repository.view.mirror) == (report.id, f"{site}/main")
            stranger.run_restore(repository, world.root / f"out-{site}", row)
        told = [event.message for event in world.heard if isinstance(event, Warned)]
        assert any(f"the copy of the catalogue at {site}/main, whose newest change was made" in line for line in told)
    assert [path.read_bytes() for path in (world.root / "out-c").rglob("f")] == [b"kept"]


def test_a_copy_is_never_taken_for_certain(world):
    world.backup(world.root / "source")
    shutil.rmtree(world.directory("a/main"))
    for known in (world, world.elsewhere("stranger")):
        with pytest.raises(NoQuorum), known.open():
            pass


def test_a_copy_that_cannot_be_written_fails_no_commit_and_catches_up(world):
    mirrors = world.directory("b/main") / MIRRORS
    shutil.rmtree(mirrors)
    mirrors.write_bytes(b"no directory")
    world.backup(world.root / "source")
    assert world.mirrors("c/main")[-1] == world.view().sequence
    mirrors.unlink()
    world.backup(world.root / "source")
    assert world.mirrors("b/main")[-1] == world.view().sequence


def test_old_copies_and_pages_that_nothing_names_go(world):
    for _ in range(3):
        world.backup(world.root / "source")
    assert len(world.mirrors("b/main")) == 2
    stray = world.directory("b/main") / OBJECTS / os.urandom(32).hex()
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"of a fold that lost its race")
    world.backup(world.root / "source")
    assert not stray.exists()


def test_a_recovery_from_a_copy_begins_at_an_arbiter(world):
    report = world.backup(world.root / "source")
    shutil.rmtree(world.directory("a/main"))
    judge = TargetSpec(name=TargetName("judge/main"), url=str(world.root / "judge"), vote="only")
    with world.open(anyhow=True) as repository:
        with pytest.raises(UsageError, match="no place is left that can vote"):
            plan_recovery(repository, ["b"], dry_run=False)
        plan = plan_recovery(repository, ["b"], [judge], dry_run=False)
        assert (plan.given_up, list(plan.voters), [row.site for row in plan.copies]) == (["a"], ["judge"], ["b"])
        recover(repository, plan, world.heard.append, [judge])
    with world.open() as repository:
        assert [row.id.hex() for row in repository.view.state.snapshots] == [report.id]
        assert (repository.view.tentative, repository.view.config.generation) == (False, 2)
    world.backup(world.root / "source")
    for site in ("b", "c"):
        with world.open(targets=(f"{site}/main",), manifest_from=(site,)) as repository:
            assert (repository.view.config.generation, len(repository.view.state.snapshots)) == (2, 2)


def test_a_survivor_that_could_vote_and_never_did_votes_after_a_recovery(world):
    world.backup(world.root / "source")
    shutil.rmtree(world.directory("a/main"))
    world.voting = ("a/main", "b/main", "c/main")  # the configuration does not forbid it any more
    with world.open(anyhow=True) as repository:
        plan = plan_recovery(repository, ["b", "c"], dry_run=False)
        recover(repository, plan, world.heard.append)
    with world.open() as repository:
        assert [voter.site for voter in repository.view.config.voters] == ["b", "c"]
    world.backup(world.root / "source")
