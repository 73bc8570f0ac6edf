"""Faults as the commands see them: three real sites, no stored byte changes, and all is well when the fault is over."""

import stat
import time

import pytest
from drill_faults import holder
from three_sites import World, everything, fill, noise

from drtool.errors import NoQuorum
from drtool.events import ignore
from drtool.operations.status import status
from drtool.operations.verify import VerifyRequest, verify
from drtool.plans.faults.injecting import Injection, Sufferer, inject
from drtool.plans.faults.victims import choose_victims
from drtool.repository.overlays import Overlays
from drtool.repository.overlays.watch import LOOK_S

SIZE = 6_000_000


@pytest.fixture
def source(world):
    directory = fill(world.root / "source", {f"{i}": noise(SIZE // 6, i) for i in range(6)})
    for number in range(3):  # one pack each, and one for its tree
        (directory / f"more{number}").write_bytes(noise(SIZE // 6, 10 + number))
        world.backup(directory)
    return directory


def stored(world):
    """Return every file at the sites with its times. Directories are left out, because checks for writability touch them."""
    held = {site: everything(world.directory(site)) for site in "abc"}
    return {site: {name: row for name, row in rows.items() if not is_directory(row)} for site, rows in held.items()}


def is_directory(row):
    return stat.S_ISDIR(int(row[0], 8))


def sufferer(world, target, *objects):
    (spec,) = (spec for spec in world.spec().targets if spec.name == target)
    return Sufferer(spec=spec, objects=objects)


def injection(world, kind, *sufferers, **more):
    values = {"run": "drill", "step": "rot", "duration_s": 300.0, "seed": "7"}
    return Injection(kind=kind, sufferers=sufferers, **{**values, **more})


def damaged(result):
    return sorted((finding.target, finding.object) for finding in result.damaged)


def test_verify_finds_exactly_the_victims_and_nothing_after(world, source):
    with world.open() as repository:
        inventory = list(repository.targets.store("b/main").list("packs/"))
    victims = [info.name for info in choose_victims("random:3", inventory, "drill")]
    before = stored(world)
    overlays = Overlays(world.root / world.state)
    with inject(overlays, injection(world, "corrupt", sufferer(world, "b/main", *victims))) as fault:
        assert fault.objects == tuple(victims)
        with world.open() as repository:
            found = verify(repository, VerifyRequest(level="full", workers=2), ignore)
            told = status(repository, ignore).problems
        assert damaged(found) == [("b/main", name) for name in victims]
        assert (found.missing, found.unrepairable) == ([], [])
        assert any("target b/main is returning 3 corrupted objects by a drill's fault until" in line for line in told)
        assert objects(world) == but_the_manifest(before)
    assert fault.removed
    assert damaged(world.verify()) == []
    assert objects(world) == but_the_manifest(before)


def objects(world):
    return but_the_manifest(stored(world))


def but_the_manifest(rows):
    return {
        site: {name: row for name, row in each.items() if not name.startswith(b"manifest")}
        for site, each in rows.items()
    }


def test_restore_works_while_a_site_is_away_and_status_says_so(world, source):
    overlays = Overlays(world.root / world.state)
    before = stored(world)
    with inject(overlays, injection(world, "offline", sufferer(world, "a/main"))):
        assert world.restore(world.root / "out").errors == []
        told = world.status()
        assert [site.name for site in told.sites if not site.reachable] == ["a"]
        assert any("target a/main is offline by a drill's fault until" in line for line in told.problems)
        with world.open() as repository:
            rows = {row.site: row for row in repository.manifest.status().acceptors}
        assert (rows["a"].reachable, rows["b"].reachable) == (False, True)
    assert world.status().problems == []
    assert stored(world)["a"] == before["a"]


def test_a_backup_under_a_full_or_read_only_target_owes_it(world, source):
    overlays = Overlays(world.root / world.state)
    for number, kind in enumerate(("full", "read-only")):
        before = stored(world)["a"]
        with inject(overlays, injection(world, kind, sufferer(world, "a/main"))):
            (source / f"under-{kind}").write_bytes(noise(SIZE // 6, 50 + number))
            report = world.backup(source)
            assert {owed.target for owed in report.owed} == {"a/main"}
        assert stored(world)["a"] == before
    assert world.restore(world.root / "out").errors == []


def test_two_sites_away_are_no_quorum(world, source):
    overlays = Overlays(world.root / world.state)
    both = (sufferer(world, "a/main"), sufferer(world, "b/main"))
    with (
        inject(overlays, injection(world, "offline", *both)),
        pytest.raises(NoQuorum, match="a drill keeps it offline"),
    ):
        world.status()
    assert world.status().problems == []


def test_a_repository_that_was_open_before_sees_beginning_and_end(world, source):
    overlays = Overlays(world.root / world.state)
    with world.open() as repository:
        store = repository.targets.store("a/main")
        name = next(iter(store.list("packs/"))).name
        whole = store.get(name)
        with inject(overlays, injection(world, "corrupt", sufferer(world, "a/main", name))):
            time.sleep(LOOK_S * 1.25)
            assert store.get(name) != whole
        time.sleep(LOOK_S * 1.25)
        assert store.get(name) == whole


def test_repair_ends_the_corruption_that_it_heals(world, source):
    from drtool.operations.repair import RepairRequest, repair

    victim = world.names("a")[0]
    overlays = Overlays(world.root / world.state)
    with inject(overlays, injection(world, "corrupt", sufferer(world, "a/main", victim))) as fault:
        assert damaged(world.verify()) == [("a/main", victim)]
        with world.open() as repository:
            repair(repository, RepairRequest(), ignore)
        assert damaged(world.verify()) == []
        assert fault.over() is None
    assert damaged(world.verify()) == []


def test_the_next_command_drops_the_fault_of_a_drill_that_was_killed(world, source):
    state = world.root / world.state
    with holder(state, "a/main", world.directory("a"), "offline") as process:
        assert not world.status().sites[0].reachable
        process.kill()
        process.wait()
        world.heard.clear()
        assert world.status().problems == []
    assert world.warnings() == [
        "ended faults of a drill were removed: offline at a/main (run killed: its process is gone)"
    ]
    assert not (state / "faults").exists()


def test_another_host_sees_nothing(world: World, source):
    overlays = Overlays(world.root / world.state)
    with inject(overlays, injection(world, "offline", sufferer(world, "a/main"))):
        assert world.elsewhere("there").status().problems == []
