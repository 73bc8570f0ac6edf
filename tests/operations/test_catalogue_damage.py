"""Damage to the catalogue itself is found by `verify`, counted by `survive` and `status`, and healed by `repair`."""

import shutil
from pathlib import Path
from unittest.mock import patch

import pytest
from msgspec.structs import replace
from three_sites import World, _in_memory, fill, noise, set_apart

from drtool.errors import DrtoolError
from drtool.events import ignore
from drtool.manifest.finding import successor_in
from drtool.manifest.names import life_of
from drtool.model import SiteName
from drtool.operations.catalogue import plan_recovery, recover
from drtool.operations.repair import RepairRequest, RepairResult, repair
from drtool.operations.repair.run import exit_code
from drtool.operations.sites import carry_out, plan_addition, plan_removal
from drtool.operations.status import status
from drtool.operations.survive import SurviveRequest, survive
from drtool.repository.catalogue import audit_catalogue, remember_faults

SITES = ("a", "b", "c")


@pytest.fixture(scope="module")
def folded():
    """Three snapshots on three sites, the older ones in pages."""
    with _in_memory() as made:
        world = World(made / "folded").found(copies=2)
        with patch("drtool.manifest.commit.RECENT_LIMIT", 4):
            for number in range(3):
                world.backup(fill(world.root / "source", {"file": noise(5_000, number)}))
        yield set_apart(world)


@pytest.fixture
def stocked(folded, place):
    shutil.copytree(folded.root, place, dirs_exist_ok=True)
    return World(place, keyrings=list(folded.keyrings))


def pages(world: World, site: str) -> list[Path]:
    return world.objects(site, "manifest/obj")


def records(world: World, site: str) -> list[Path]:
    return [path for path in world.objects(site, "manifest/acc") if path.name != "z-sealed"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def found(world: World, level: str = "full") -> set[tuple[str, str]]:
    result = world.verify(level)
    return {(str(row.target), row.object) for row in (*result.missing, *result.damaged)}


def copies(world: World, site: str, paths: list[Path]) -> set[tuple[str, str]]:
    return {(f"{site}/main", str(path.relative_to(world.directory(site)))) for path in paths}


def known(world: World) -> set[tuple[str, str]]:
    with world.open() as repository:
        return {(str(target), name) for target, name in repository.findings.all()}


def repaired(world: World, **request: object) -> RepairResult:
    with world.open() as repository:
        return repair(repository, RepairRequest(**request), ignore)


def outlook(world: World, *lose: str):
    with world.open() as repository:
        return survive(repository, SurviveRequest(lose=lose), ignore)


def test_a_sound_catalogue_is_counted_and_no_fault_is_found(stocked):
    held = sum(len(pages(stocked, site)) + len(records(stocked, site)) + 2 for site in SITES)
    result = stocked.verify()
    assert (result.missing, result.damaged) == ([], [])
    assert result.checked.catalogue == held, "pages, records, one key slot and one marker at each site"


@pytest.mark.parametrize("damage", [flip, cut, empty, Path.unlink])
@pytest.mark.spread(4)
def test_every_damaged_page_is_found_at_its_target_and_replaced(stocked, damage):
    held = {path: path.read_bytes() for path in pages(stocked, "b")}
    assert len(held) >= 3, "a checkpoint, a page of snapshots, a page of the log"
    for path in held:
        damage(path)
    by_name = set() if damage is flip else copies(stocked, "b", list(held))
    assert found(stocked, "structure") == by_name
    assert found(stocked) == copies(stocked, "b", list(held))
    assert bool(stocked.status().problems)
    result = repaired(stocked)
    assert (exit_code(result), result.rebuilt.objects) == (0, len(held))
    assert {path: path.read_bytes() for path in pages(stocked, "b")} == held
    assert (found(stocked), stocked.status().problems) == (set(), [])


def test_pages_that_rot_at_a_quorum_are_counted_and_healed_from_the_last_good_site(stocked):
    for site in "ab":
        for path in pages(stocked, site):
            flip(path)
    told = outlook(stocked)
    alone = {tuple(row.lost): row.summary.restorable for row in told.scenarios}
    assert (alone["a",], alone["b",], alone["c",]) == (3, 3, 0)
    assert exit_code(repaired(stocked)) == 0
    assert {tuple(row.lost): row.summary.restorable for row in outlook(stocked).scenarios}["c",] == 3
    shutil.rmtree(stocked.directory("c"))
    other = World(stocked.root, host="other", state="state-other", keyrings=stocked.keyrings)
    shutil.rmtree(stocked.root / "cache")
    assert len(other.snapshots()) == 3


def test_a_page_that_no_site_has_is_put_back_from_the_cache_of_this_host(stocked):
    stocked.verify("structure")
    for site in SITES:
        for path in pages(stocked, site):
            flip(path)
    kept = {path.name for path in (stocked.root / "cache").rglob("manifest/*")}
    result = repaired(stocked)
    lost = {row.object.rpartition("/")[2] for row in result.unrepairable}
    assert lost == {path.name for path in pages(stocked, "a")} - kept
    assert exit_code(result) == (4 if lost else 0)
    assert {name.rpartition("/")[2] for _, name in found(stocked)} == lost


class WithArbiter(World):
    """Site c only votes."""

    def spec(self, **more):
        spec = super().spec(**more)
        return replace(
            spec, targets=tuple(replace(row, vote="only") if row.site == "c" else row for row in spec.targets)
        )


def test_an_arbiter_gives_back_the_pages_that_rotted_everywhere_else(place):
    world = WithArbiter(place).found(copies=2)
    with patch("drtool.manifest.commit.RECENT_LIMIT", 4):
        for number in range(3):
            world.backup(fill(place / "source", {"file": noise(5_000, number)}))
    shutil.rmtree(place / "cache")
    rotten = [path for site in "ab" for path in pages(world, site)]
    for path in rotten:
        flip(path)
    assert {name for _, name in found(world)} == {
        str(path.relative_to(world.directory("b"))) for path in pages(world, "b")
    }
    assert (exit_code(repaired(world)), found(world)) == (0, set())
    for path in pages(world, "c"):
        empty(path)
    assert {target for target, _ in found(world)} == {"c/main"}, "an arbiter's pages are looked at as well"


def test_rot_in_the_cache_of_this_host_is_no_fault_of_a_site(stocked):
    for path in (stocked.root / "cache").rglob("manifest/*"):
        flip(path)
    assert found(stocked) == set()
    assert exit_code(repaired(stocked)) == 0


def test_a_page_of_another_name_in_place_of_a_page_is_damage(stocked):
    first, second, *_ = pages(stocked, "b")
    first.write_bytes(second.read_bytes())
    assert found(stocked) == copies(stocked, "b", [first])
    repaired(stocked)
    assert found(stocked) == set()


def test_names_that_are_no_objects_of_the_catalogue_are_passed_over(stocked):
    for name in ("obj/readme", f"obj/{'z' * 64}", "acc/notes", "other/thing"):
        fill(stocked.directory("b") / "manifest", {name: b"stray"})
    assert found(stocked) == set()
    assert exit_code(repaired(stocked)) == 0
    with stocked.open() as repository:
        assert repository.manifest.check() == []


def test_a_damaged_page_that_no_head_names_is_found_and_taken_away(stocked):
    for site in SITES:
        fill(stocked.directory(site), {f"manifest/obj/{'0' * 64}": b"left by a fold that lost its race"})
    assert found(stocked) == {(f"{site}/main", f"manifest/obj/{'0' * 64}") for site in SITES}
    assert exit_code(repaired(stocked)) == 0
    assert found(stocked) == set()


def test_a_damaged_page_that_is_retired_is_taken_away_if_no_site_has_it_whole(stocked):
    with stocked.open() as repository, patch("drtool.manifest.commit.RECENT_LIMIT", 4):
        before = {path.name for path in pages(stocked, "a")}
        stocked.run_backup(repository, stocked.root / "source")
    with stocked.open() as repository:
        retired = {row.name.hex() for row in repository.view.learned.checkpoint.retired} & before
    assert retired
    shutil.rmtree(stocked.root / "cache")
    rotten = [path for site in SITES for path in pages(stocked, site) if path.name in retired]
    for path in rotten:
        flip(path)
    assert len(found(stocked)) == len(rotten)
    assert exit_code(repaired(stocked)) == 0
    assert found(stocked) == set()


def test_findings_of_a_full_verification_stand_until_a_whole_read(stocked):
    path = pages(stocked, "b")[0]
    held = path.read_bytes()
    flip(path)
    found(stocked)
    found(stocked, "structure")
    assert any("damaged copies were found at b/main" in problem for problem in stocked.status().problems)
    path.write_bytes(held)
    found(stocked)
    assert stocked.status().problems == []


@pytest.mark.parametrize("rot", [pages, records, lambda world, site: world.objects(site, "keys")])
def test_damage_of_the_catalogue_that_one_host_found_is_known_to_all_until_any_host_repairs_it(stocked, rot):
    other = stocked.elsewhere("there")
    flip(rot(stocked, "b")[-1])
    found(stocked)
    assert known(other) == known(stocked) == copies(stocked, "b", [rot(stocked, "b")[-1]])
    assert any("damaged copies were found at b/main" in problem for problem in other.status().problems)
    assert exit_code(repaired(other)) == 0
    assert known(other) == known(stocked) == set()
    assert stocked.status().problems == other.status().problems == []


def test_a_repair_does_not_clear_findings_made_after_it_read_the_catalogue(stocked):
    (newest, *_) = pages(stocked, "b")
    with stocked.open() as repository:
        audit = audit_catalogue(repository, contents=True)
        before = repository.view.sequence
        flip(newest)
        found(stocked.elsewhere("there"))
        repository.adopt(repository.manifest.read())
        assert remember_faults(repository, audit, contents=True, judged=before) == ""
    assert known(stocked) == copies(stocked, "b", [newest])


def test_status_does_not_ask_to_repair_objects_of_a_given_up_target(stocked):
    flip(pages(stocked, "b")[0])
    found(stocked)
    with stocked.open() as repository:
        rows = [replace(row, state="lost") if row.name == "b/main" else row for row in repository.view.state.targets]
        repository.targets.learn(rows)
        assert not [line for line in status(repository, ignore).problems if "damaged copies" in line]


def test_a_site_that_missed_a_fold_is_owed_its_pages_and_repair_brings_them(stocked):
    away = stocked.root / "away"
    stocked.directory("c").rename(away)
    with patch("drtool.manifest.commit.RECENT_LIMIT", 4):
        stocked.backup(fill(stocked.root / "source", {"file": noise(5_000, 9)}))
    away.rename(stocked.directory("c"))
    result = stocked.verify()
    assert [row for row in (*result.missing, *result.damaged) if row.object.startswith("manifest/")] == []
    assert result.owed > 0
    repaired(stocked)
    assert len(pages(stocked, "c")) >= 3
    assert stocked.verify().owed == 0


@pytest.mark.parametrize("which", [-1, -2, 0], ids=["newest", "the one before", "oldest"])
def test_a_damaged_record_of_a_register_is_found_and_its_voter_begins_again(stocked, which):
    path = records(stocked, "b")[which]
    flip(path)
    (row,) = stocked.verify("structure").damaged
    assert (row.target, row.object[:13]) == ("b/main", "manifest/acc/")
    assert exit_code(repaired(stocked)) == 0
    assert (found(stocked), stocked.status().problems) == (set(), [])


def test_a_record_is_never_put_back_in_place_of_a_damaged_one(stocked):
    newest = records(stocked, "b")[-1]
    flip(newest)
    with stocked.open() as repository:
        before = {voter.site: voter.incarnation for voter in repository.view.config.voters}
    repaired(stocked)
    with stocked.open() as repository:
        after = {voter.site: voter.incarnation for voter in repository.view.config.voters}
    assert {site for site in before if before[site] != after[site]} == {"b"}


def test_a_register_that_went_back_in_time_is_damage(stocked):
    register = stocked.directory("b") / "manifest" / "acc"
    shutil.copytree(register, stocked.root / "older")
    stocked.backup(fill(stocked.root / "source", {"file": noise(5_000, 8)}))
    shutil.rmtree(register)
    shutil.copytree(stocked.root / "older", register)
    assert any("went back in time" in row.reason for row in stocked.verify("structure").damaged)
    repaired(stocked)
    assert found(stocked) == set()


@pytest.mark.parametrize("damage", [flip, cut, empty, Path.unlink])
def test_a_damaged_key_slot_is_found_and_replaced(stocked, damage):
    (slot,) = stocked.objects("b", "keys")
    held = slot.read_bytes()
    damage(slot)
    assert found(stocked, "structure") == copies(stocked, "b", [slot])
    assert exit_code(repaired(stocked)) == 0
    assert slot.read_bytes() == held


@pytest.mark.parametrize("damage", [flip, cut, empty, Path.unlink])
def test_backup_puts_a_damaged_key_slot_back(stocked, damage):
    (slot,) = stocked.objects("b", "keys")
    held = slot.read_bytes()
    damage(slot)
    stocked.backup(stocked.root / "source")
    assert slot.read_bytes() == held


@pytest.mark.parametrize("spoiled", ["keys", "drtool.json"])
def test_catalogue_objects_repaired_by_a_backup_are_whole_for_every_host(stocked, spoiled):
    path = stocked.directory("b") / spoiled
    flip(next(path.iterdir()) if path.is_dir() else path)
    found(stocked)
    other = stocked.elsewhere("there")
    assert len(known(other)) == 1
    other.backup(stocked.root / "source")
    assert known(stocked) == known(other) == set()
    assert stocked.status().problems == []


def test_a_backup_says_that_the_catalogue_is_known_to_be_damaged(stocked):
    flip(pages(stocked, "b")[0])
    found(stocked)
    other = stocked.elsewhere("there")
    assert not other.backup(stocked.root / "source").degraded
    assert any("the catalogue is known to be damaged at b/main: drtool repair" in words for words in other.warnings())


def test_one_object_of_the_catalogue_can_be_verified_and_repaired_by_its_name(stocked):
    first, second, *_ = pages(stocked, "b")
    for path in (first, second):
        flip(path)
    name = str(first.relative_to(stocked.directory("b")))
    result = stocked.verify(objects=frozenset({name}))
    assert ([row.object for row in result.damaged], result.checked.catalogue) == ([name], 3)
    repaired(stocked, objects=frozenset({name}))
    assert found(stocked) == copies(stocked, "b", [second])
    with pytest.raises(DrtoolError, match="is not an object of this repository"):
        stocked.verify(objects=frozenset({"manifest/obj/typo"}))


def test_one_site_alone_can_be_verified_and_repaired(stocked):
    for site in "bc":
        flip(pages(stocked, site)[0])
    assert {row.target for row in stocked.verify(site="b").damaged} == {"b/main"}
    repaired(stocked, site="c")
    assert {target for target, _ in found(stocked)} == {"b/main"}


def test_a_dry_run_of_repair_counts_the_pages_and_writes_nothing(stocked):
    path = pages(stocked, "b")[0]
    flip(path)
    rotten = path.read_bytes()
    assert repaired(stocked, dry_run=True).rebuilt.objects == 1
    assert path.read_bytes() == rotten


@pytest.fixture
def reconfigured(stocked):
    """Site c voted for a while no more: its register, and those of a and b before that, are sealed."""
    for plan in (plan_removal, plan_addition):
        with stocked.open() as repository:
            carry_out(repository, plan(repository, SiteName("c"), dry_run=False), None, ignore)
    return stocked


def seals(world: World, site: str) -> list[Path]:
    return [path for path in world.objects(site, "manifest/acc") if path.name == "z-sealed"]


@pytest.mark.parametrize("damage", [flip, cut, empty])
@pytest.mark.parametrize("sites", ["a", "abc"])
@pytest.mark.spread(4)
def test_a_damaged_seal_of_an_ended_configuration_is_found_and_written_again(reconfigured, damage, sites):
    world = reconfigured
    damaged = {site: seals(world, site) for site in sites}
    assert all(damaged.values())
    for path in (path for paths in damaged.values() for path in paths):
        damage(path)
    assert found(world) == {copy for site in sites for copy in copies(world, site, damaged[site])}
    assert exit_code(repaired(world)) == 0
    assert (found(world), world.status().problems) == (set(), [])


def test_a_seal_that_was_written_again_leads_to_the_present_voters(reconfigured):
    for path in seals(reconfigured, "a"):
        flip(path)
    repaired(reconfigured)
    with reconfigured.open() as repository:
        for path in seals(reconfigured, "a"):
            life = life_of(str(path.relative_to(reconfigured.directory("a"))))
            assert successor_in(repository.keyring, life, path.read_bytes()).config == repository.view.config


def test_names_of_seals_that_no_configuration_ever_had_are_passed_over(stocked):
    for life in ("g0007/c000001", f"g0001-{'ab' * 16}/c000001", "g0001/c000099"):
        path = stocked.directory("b") / "manifest" / "acc" / life / "z-sealed"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"invented")
    assert found(stocked) == set()


def test_a_forced_recovery_stores_pages_again_that_rotted_at_the_survivor(stocked):
    """This host has them in its cache from an earlier read, and the survivor lists them, damaged."""
    stocked.status()
    for path in pages(stocked, "a"):
        flip(path)
    for site in "bc":
        stocked.directory(site).rename(stocked.root / f"gone-{site}")
    with stocked.open(anyhow=True) as repository:
        recover(repository, plan_recovery(repository, ["a"], dry_run=False), ignore)
    shutil.rmtree(stocked.root / "cache")
    assert len(stocked.elsewhere("there").view().state.snapshots) == 3
