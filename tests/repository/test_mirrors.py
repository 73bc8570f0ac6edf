"""Every site that stores can be read alone: the copies of the catalogue at targets that hold no register."""

import os
import shutil
from dataclasses import dataclass
from typing import Any

import pytest
from bad_buckets import BUCKET, bad_bucket
from killed_midway import every_step
from msgspec.structs import replace
from three_sites import World

from drtool.errors import NoQuorum, Refused, UsageError
from drtool.events import Warned, ignore
from drtool.manifest import commit
from drtool.manifest.mirror import mirror_names
from drtool.manifest.names import MIRRORS, OBJECTS
from drtool.model import TargetName
from drtool.operations.catalogue import plan_recovery, recover
from drtool.operations.repair import RepairRequest, repair
from drtool.operations.repair.run import exit_code
from drtool.operations.survive import SurviveRequest, survive
from drtool.operations.survive.request import Tally
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

    def elsewhere(self, host: str) -> "LaptopWorld":
        other = super().elsewhere(host)
        return LaptopWorld(other.root, other.targets, host, other.state, keyrings=other.keyrings, heard=other.heard)

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
        with pytest.raises(UsageError, match="no remaining place can vote"):
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


@pytest.mark.thorough
def test_a_recovery_that_was_killed_at_any_step_goes_on_with_the_same_empty_place(world):
    report = world.backup(world.root / "source")
    shutil.rmtree(world.directory("a/main"))
    before, judge = world.root, TargetSpec(name=TargetName("judge/main"), url=str(world.root / "judge"), vote="only")
    kept = set_aside(before)

    def recovering():
        with world.open(anyhow=True) as repository:
            try:
                plan = plan_recovery(repository, ["b"], [judge], dry_run=False)
            except Refused as error:
                assert "nothing needs to be recovered" in error.message  # noqa: PT017 - the killed run had done everything
                return
            recover(repository, plan, world.heard.append, [judge])

    for _ in every_step(recovering):
        recovering()
        with world.open() as repository:
            assert [row.id.hex() for row in repository.view.state.snapshots] == [report.id]
            assert not repository.view.tentative
        assert world.backup(world.root / "source").id
        put_back(kept, before)


def set_aside(root):
    """A copy of a directory beside it."""
    kept = root.with_name(f"{root.name}-before")
    shutil.copytree(root, kept, symlinks=True)
    return kept


def put_back(kept, root):
    """Make a directory what it was."""
    shutil.rmtree(root)
    shutil.copytree(kept, root, symlinks=True)


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


def damages(world, target):
    """Each way in which a copy of the catalogue may rot, and whether verify must see it as damage."""
    newest = max((world.directory(target) / MIRRORS).glob("*"))
    return {"cut": lambda: newest.write_bytes(newest.read_bytes()[:-1]), "gone": newest.unlink}


@pytest.mark.parametrize("how", ["cut", "gone"])
def test_verify_finds_a_rotten_copy_status_names_it_and_repair_replaces_it(world, how):
    world.backup(world.root / "source")
    now = world.view().sequence
    damages(world, "b/main")[how]()
    told = world.status()
    assert any("the copy of the catalogue at b/main" in line for line in (*told.problems, *told.notices))
    assert (told.exit_code == 7) == (how == "cut")
    found = world.verify(level="sample")
    assert [row.target for row in found.damaged] == (["b/main"] if how == "cut" else [])
    with world.open() as repository:
        done = repair(repository, RepairRequest(), world.heard.append)
    if how == "cut":  # where it is gone, the record of the verification brought another one
        assert "b/main: its copy of the catalogue was damaged, and was replaced" in done.manifest
    assert (world.mirrors("b/main")[-1] >= now, exit_code(done)) == (True, 0)
    assert world.verify(level="sample").damaged == []
    told = world.status()
    assert not [line for line in (*told.problems, *told.notices) if "b/main" in line]


def test_a_rotten_page_of_a_copy_is_found_and_replaced(world, monkeypatch):
    monkeypatch.setattr(commit, "RECENT_LIMIT", 2)
    for _ in range(3):
        world.backup(world.root / "source")
    with world.open() as repository:
        page = repository.view.learned.head.checkpoint.name.hex()
    rotten = world.directory("c/main") / OBJECTS / page
    sound = rotten.read_bytes()
    rotten.write_bytes(bytes(len(sound)))
    found = world.verify(level="sample")
    assert [(row.target, row.object) for row in found.damaged] == [("c/main", OBJECTS + page)]
    with world.open() as repository:
        assert exit_code(repair(repository, RepairRequest(), world.heard.append)) == 0
    assert world.verify(level="sample").damaged == []


def test_a_copy_that_lags_says_how_much_and_is_brought_up_to_date_by_repair(world):
    world.backup(world.root / "source")
    away = world.root / "away"
    world.directory("b/main").rename(away)
    world.backup(world.root / "source")
    away.rename(world.directory("b/main"))
    told = world.status()
    (line,) = [line for line in told.notices if "b/main" in line]
    assert "changes behind, its newest change was made" in line
    with world.open() as repository:
        would = repair(repository, RepairRequest(dry_run=True), world.heard.append)
    assert would.manifest == ["b/main: its copy of the catalogue would be brought up to date"]
    with world.open() as repository:
        repair(repository, RepairRequest(), world.heard.append)
    assert world.mirrors("b/main")[-1] >= told.sequence
    assert not [line for line in world.status().notices if "b/main" in line]


def test_the_loss_of_the_only_voter_is_survived_with_a_copy_and_not_without(world):
    world.backup(world.root / "source")
    with world.open() as repository:
        assert survive(repository, SurviveRequest(lose=("a",)), ignore).summary == Tally(1, 1)
    for site in "bc":
        shutil.rmtree(world.directory(f"{site}/main") / MIRRORS)
    with world.open() as repository:
        found = survive(repository, SurviveRequest(lose=("a",)), ignore)
    assert (found.summary, "no copy of the catalogue" in found.reasons[0]) == (Tally(0, 1), True)


def test_a_site_gets_a_copy_when_it_loses_its_vote_and_an_old_repository_with_its_next_commit(world):
    for site in "bc":
        shutil.rmtree(world.directory(f"{site}/main") / "manifest")
    world.backup(world.root / "source")
    assert world.mirrors("b/main")[-1] == world.mirrors("c/main")[-1] == world.view().sequence


def test_a_host_is_warned_if_a_recovery_elsewhere_left_its_voters_behind(world):
    world.backup(world.root / "source")
    laptop = world.root / "stolen"
    world.directory("a/main").rename(laptop)
    other = world.elsewhere("other")
    judge = TargetSpec(name=TargetName("judge/main"), url=str(world.root / "judge"), vote="only")
    with other.open(anyhow=True) as repository:
        recover(repository, plan_recovery(repository, ["b"], [judge], dry_run=False), world.heard.append, [judge])
    shutil.move(world.root / "judge", world.root / "out of reach")
    laptop.rename(world.directory("a/main"))
    assert any("recovered elsewhere" in line for line in world.status().problems)
    world.backup(world.root / "source")
    assert any("the catalogue was recovered elsewhere, to generation 2" in line for line in world.warnings())


def test_a_bucket_without_conditional_puts_restores_everything_by_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with bad_bucket("has no conditions") as bucket:
        far = TargetSpec(name=TargetName("far/main"), url=f"s3://{BUCKET}/drtool?endpoint={bucket.endpoint}")
        world = BucketWorld(tmp_path, ("a/main", "far/main"), far=far).found()
        assert any("site a is the only voter" in line for line in world.warnings())
        source = tmp_path / "source"
        source.mkdir()
        (source / "f").write_bytes(b"kept")
        report = world.backup(source)
        shutil.rmtree(world.directory("a/main"))
        stranger = BucketWorld(tmp_path, ("far/main",), "new", "state-new", far=far)
        with stranger.open(manifest_from=("far",)) as repository:
            (row,) = repository.view.state.snapshots
            stranger.run_restore(repository, tmp_path / "out", row)
        assert (row.id.hex(), repository.view.mirror) == (report.id, "far/main")
        assert [path.read_bytes() for path in (tmp_path / "out").rglob("f")] == [b"kept"]
        judge = TargetSpec(name=TargetName("judge/main"), url=str(tmp_path / "judge"), vote="only")
        with world.open(anyhow=True) as repository:
            recover(repository, plan_recovery(repository, ["far"], [judge], dry_run=False), ignore, [judge])
        with world.open() as repository:
            assert (repository.view.tentative, len(repository.view.state.snapshots)) == (False, 1)


@dataclass
class BucketWorld(World):
    """One site is a bucket."""

    far: TargetSpec | None = None

    def spec(self, **more: Any) -> RepositorySpec:
        spec = super().spec(**more)
        return replace(spec, targets=tuple(self.far if row.name == "far/main" else row for row in spec.targets))
