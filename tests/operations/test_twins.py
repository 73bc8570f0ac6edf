"""A target's directory that exists twice: no command uses one of two copies, and a person says which one goes on."""

import shutil
import subprocess
from unittest.mock import patch

import pytest
import sshd
from three_sites import World, fill, noise

from drtool.config.urls import Access
from drtool.errors import DrtoolError, NoQuorum, Refused
from drtool.events import ignore
from drtool.manifest import Member, following
from drtool.model import TargetName
from drtool.operations.placing import set_target
from drtool.operations.sites import carry_out, plan_arbiter
from drtool.repository import TargetSpec


class Placed(World):
    """A world with a host that has some targets configured elsewhere."""

    def __init__(self, *words, elsewhere=None, access=None, **more):
        super().__init__(*words, **more)
        self.moved = elsewhere or {}
        self.access = access or {}

    def spec(self, **more):
        spec = super().spec(**more)
        rows = (
            TargetSpec(
                name=row.name,
                url=str(self.moved.get(row.name, row.url)),
                vote=row.vote,
                access=self.access.get(row.name, row.access),
            )
            for row in spec.targets
        )
        return type(spec)(**{name: getattr(spec, name) for name in spec.__struct_fields__} | {"targets": tuple(rows)})

    def host_at(self, host, **moved):
        """Another host, with these targets configured elsewhere."""
        rows = {TargetName(f"{site}/main"): place for site, place in moved.items()}
        return Placed(self.root, self.targets, host, f"state-{host}", keyrings=self.keyrings, elsewhere=rows)


@pytest.fixture
def placed(place):
    world = Placed(place).found()
    world.backup(fill(world.root / "source", {"file": noise(50_000)}))
    return world


def copied(world, site):
    copy = world.root / f"{site}-copy"
    shutil.copytree(world.directory(site), copy, symlinks=True)
    return copy


def declare(world, site, url, *, gone=True, dry_run=False):
    with world.open(declares=True) as repository:
        return set_target(
            repository, TargetName(f"{site}/main"), url=f"file://{url}", gone=gone, dry_run=dry_run, emit=ignore
        )


def changed(world, seed):
    fill(world.root / "source", {"file": noise(50_000, seed)})
    return world.backup(world.root / "source", host=world.host)


def snapshots(world):
    return [row.id.hex() for row in world.snapshots()]


def test_a_host_that_is_led_to_a_copy_is_refused_and_the_others_go_on(placed):
    misled = placed.host_at("here", a=copied(placed, "a"))
    with pytest.raises(Refused, match="a/main: it exists twice") as caught:
        changed(misled, 1)
    assert f"--url file://{placed.root}/a-copy --gone" in caught.value.hint
    changed(placed, 2)
    assert len(snapshots(placed)) == 2
    assert not (placed.root / "a-copy" / "probe").exists()


def test_a_reader_gets_a_warning_and_the_catalogues_copy(placed):
    misled = placed.host_at("here", a=copied(placed, "a"))
    changed(placed, 1)
    with misled.open(anyhow=True) as repository:
        assert isinstance(repository.uncertain, Refused)
        assert repository.targets.specs[TargetName("a/main")].url == f"file://{placed.directory('a')}"
        assert len(list(repository.view.state.snapshots)) == 2
    with misled.open(manifest_from=("a",)) as repository:
        assert len(list(repository.view.state.snapshots)) == 1, "the content of that copy"


@pytest.mark.parametrize("how", ["link", "bind"])
def test_one_directory_under_two_names_is_one_place(placed, how):
    other = placed.root / "other-name"
    if how == "link":
        other.symlink_to(placed.directory("a"))
    else:
        other.mkdir()
        if subprocess.run(["mount", "--bind", placed.directory("a"), other], capture_output=True).returncode:
            pytest.skip("may not mount")
    try:
        assert changed(placed.host_at("here", a=other), 1).owed == []
        assert changed(placed, 2).owed == []
    finally:
        if how == "bind":
            subprocess.run(["umount", "-l", other], check=True)


def test_a_server_that_shows_a_directory_of_this_host_is_one_place_and_its_copy_is_not(placed):
    sshd.demand()
    server = sshd.shared()
    target = TargetName("a/main")
    through = placed.host_at("here")
    through.access = {target: Access(identity_file=str(server.identity), known_hosts=str(server.known_hosts))}
    through.moved = {target: server.url(placed.directory("a")).partition("?")[0]}
    assert changed(through, 1).owed == []
    through.moved = {target: server.url(copied(placed, "a")).partition("?")[0]}
    with pytest.raises(Refused, match="exists twice"):
        changed(through, 2)


def test_a_directory_that_was_moved_is_used_at_once_and_its_copy_never_again(placed):
    kept = copied(placed, "a")
    place = placed.root / "new-disk"
    placed.directory("a").rename(place)
    mover = placed.host_at("here", a=place)
    assert changed(mover, 1).owed == []
    before = placed.view().config if placed.directory("a").exists() else mover.view().config
    assert declare(mover, "a", place, gone=False).changed
    after = mover.view().config
    assert after.number == before.number + 1
    assert after.voter("a").incarnation != before.voter("a").incarnation
    assert after.voter("b").incarnation == before.voter("b").incarnation
    assert changed(mover, 2).owed == []
    kept.rename(placed.directory("a"))
    with pytest.raises(Refused, match="exists twice"):
        changed(placed, 3)
    assert len(snapshots(mover)) == 3


def test_an_address_is_not_changed_while_the_target_answers_at_the_old_one(placed):
    copy = copied(placed, "a")
    before = placed.view()
    for world in (placed, placed.host_at("here", a=copy)):
        with pytest.raises(Refused, match="is still at") as caught:
            declare(world, "a", copy, gone=False)
        assert "--gone" in caught.value.hint
    assert declare(placed, "a", copy, dry_run=True).changed
    assert placed.view().digest == before.digest


@pytest.mark.parametrize("configured", ["at the copy", "at the original"])
def test_the_copy_goes_on_if_a_person_says_so_and_the_original_never_votes_again(placed, configured):
    copy = copied(placed, "a")
    changed(placed, 1)
    on_new = placed.host_at("here", a=copy)
    declare(on_new if configured == "at the copy" else placed, "a", copy)
    on_old = placed.host_at("other")
    with pytest.raises(Refused, match="exists twice"):
        changed(on_old, 2)
    changed(on_new, 3)
    assert len(snapshots(on_new)) == 3
    # the two hosts never find disjoint quorums, regardless of unreachable sites
    for away in "bc":
        placed.directory(away).rename(placed.root / "away")
        changed(on_new, ord(away))
        with pytest.raises(DrtoolError):
            changed(on_old, ord(away) + 100)
        (placed.root / "away").rename(placed.directory(away))
    assert len(snapshots(on_new)) == 5
    shutil.rmtree(placed.directory("a"))
    assert len(snapshots(placed.host_at("stranger", a=copy))) == 5
    assert [problem.kind for problem in check(on_new)] == []


def test_the_copy_of_the_only_voter_goes_on_and_the_original_says_where(place):
    world = Placed(place, ("a/main",)).found(copies=1)
    world.backup(fill(world.root / "source", {"file": noise(50_000)}))
    copy = copied(world, "a")
    on_new = world.host_at("here", a=copy)
    declare(on_new, "a", copy)
    changed(on_new, 1)
    assert len(snapshots(on_new)) == 2
    with pytest.raises((Refused, NoQuorum)):
        changed(world.host_at("other"), 2)
    assert len(snapshots(on_new)) == 2


def test_two_copied_sites_are_declared_one_after_the_other(placed):
    copies = {site: copied(placed, site) for site in "ab"}
    on_new = placed.host_at("here", **copies)
    with pytest.raises(Refused, match=r"a/main \(and b/main\)"):
        changed(on_new, 1)
    declare(on_new, "a", copies["a"])
    with pytest.raises(Refused, match="b/main: it exists twice"):
        changed(on_new, 1)
    declare(on_new, "b", copies["b"])
    assert changed(on_new, 1).owed == []
    with pytest.raises((Refused, NoQuorum)):
        changed(placed, 2)


def test_a_copied_arbiter_is_refused_and_declared_like_any_voter(place):
    world = Placed(place, ("a/main", "b/main")).found()
    judge = TargetSpec(name=TargetName("judge/main"), url=f"file://{world.root}/judge", vote="only")
    if "judge" not in {voter.site for voter in world.view().config.voters}:
        with world.open() as repository:
            carry_out(repository, plan_arbiter(repository, judge, dry_run=False), judge, ignore)
    world.targets = (*world.targets, "judge/main")
    copy = copied(world, "judge")
    on_new = world.host_at("here", judge=copy)
    with pytest.raises(Refused, match="judge/main: it exists twice"):
        changed(on_new, 1)
    declare(on_new, "judge", copy)
    fill(world.root / "source", {"file": noise(10)})
    changed(on_new, 1)
    row = next(row for row in on_new.view().state.targets if row.name == "judge/main")
    assert (row.url, row.votes_only) == (f"file://{copy}", True)


def check(world):
    with world.open() as repository:
        return repository.manifest.check()


def test_a_copy_takes_no_part_in_finishing_changes_of_others(placed):
    """A reader finishes rounds and changes of voters, and neither may use the register of a copy."""
    copy = copied(placed, "a")
    before = sorted(path.name for path in (copy / "manifest").rglob("*"))
    with placed.open() as repository:  # a change of voters that dies when it is chosen
        members = [Member(row.site, row.target, row.mode, fresh=True) for row in repository.view.config.voters]
        with patch.object(following, "finish_switch", died), pytest.raises(Died):
            repository.manifest.set_voters(members)
    with pytest.raises(Refused, match="exists twice"):
        placed.host_at("here", a=copy).view()
    assert sorted(path.name for path in (copy / "manifest").rglob("*")) == before
    assert placed.view().config.number == 2


class Died(Exception):
    pass


def died(*_words):
    raise Died
    yield
