"""Too few voters: writing is refused at once with a reason. Reading from single sites works, with its limits reported."""

import shutil
import time

import pytest
from three_sites import World, fill, noise, portrait

from drtool.errors import NoQuorum, TargetReadOnly, UsageError
from drtool.stores import LocalStore


@pytest.fixture
def source(world):
    return fill(world.root / "source", {"file": noise(60_000)})


def lose(world, *sites):
    for site in sites:
        world.directory(site).rename(world.root / f"lost-{site}")


def test_two_voters_that_can_only_be_read_stop_writing_at_once(world, source, monkeypatch):
    world.backup(source)
    write = LocalStore._write

    def refuse(store, name, data, *, replace):
        if store.root.name in "bc":
            raise TargetReadOnly(f"{store.root} is read-only")
        return write(store, name, data, replace=replace)

    monkeypatch.setattr(LocalStore, "_write", refuse)
    started_s = time.monotonic()
    with pytest.raises(NoQuorum) as caught:
        world.backup(source)
    assert time.monotonic() - started_s < 20
    message = caught.value.message
    assert "needs 2 of 3 sites and can write at 1 (a)" in message
    assert f"b: {world.root}/b is read-only" in message
    assert len(world.snapshots()) == 1, "reading still works"


def test_why_a_site_is_not_reached_is_said_once_and_plainly(world):
    lose(world, "b", "c")
    with pytest.raises(NoQuorum) as caught, world.open():
        pass
    assert f"b: there is no directory {world.root}/b" in caught.value.message
    assert "unreachable" not in caught.value.message
    with pytest.raises(NoQuorum) as caught, world.elsewhere("there").open(targets=("a/main",)):
        pass
    assert "this host's configuration has no way to reach it" in caught.value.message


def test_the_newest_of_several_survivors_wins_and_each_is_reported(place):
    world = World(place).found(copies=3)  # each site has everything
    source = fill(world.root / "source", {"file": noise(60_000)})
    stale = world.root / "stale"
    shutil.copytree(world.directory("a"), stale)
    world.backup(source)
    lose(world, "a", "c")
    stale.rename(world.directory("a"))
    (world.root / "state").rename(world.root / "lost-state")
    other = world.elsewhere("there")
    for asked in (("any",), ("a", "b")):
        with other.open(manifest_from=asked) as repository:
            assert repository.view.tentative
            assert len(repository.view.state.snapshots) == 1
            assert repository.view.found == {"a": 1, "b": repository.view.sequence}
            other.run_restore(repository, world.root / f"out-{asked[0]}")
    told = [message for message in world.warnings() if "tentative" in message]
    assert "a has change 1, b has change" in told[0]
    assert "this host never saw any of it confirmed" in told[0]
    assert portrait(world.root / "out-a" / str(source)[1:]) == portrait(source)
    with other.open(manifest_from=("a",)) as repository:
        assert len(repository.view.state.snapshots) == 0


def test_how_much_was_confirmed_is_said(world, source):
    world.backup(source)
    confirmed = world.view().sequence
    lose(world, "a", "b")
    with world.open(manifest_from=("c",)) as repository:
        assert (repository.view.sequence, repository.view.confirmed_sequence) == (confirmed, confirmed)
    assert f"this host saw change {confirmed} confirmed" in world.warnings()[-1]


def test_a_rolled_back_survivor_is_noticed_by_a_host_that_saw_more(world, source):
    stale = world.root / "stale"
    shutil.copytree(world.directory("c"), stale)
    world.backup(source)
    lose(world, "a", "b", "c")
    stale.rename(world.directory("c"))
    with world.open(manifest_from=("c",)) as repository:
        assert any("went back in time" in problem for problem in repository.view.problems)


def test_a_site_that_is_none_is_named_with_those_that_are(world):
    with pytest.raises(UsageError) as caught, world.open(manifest_from=("attic",)):
        pass
    assert "attic" in caught.value.message
    assert "a, b, c" in caught.value.hint


def test_one_that_is_offline_says_why(world):
    lose(world, "b")
    with pytest.raises(NoQuorum) as caught, world.open(manifest_from=("b",)):
        pass
    assert f"there is no directory {world.root}/b" in caught.value.message
    assert "any" in caught.value.hint
    with world.open(manifest_from=("a", "b")) as repository:
        assert repository.view.found.keys() == {"a"}
    assert any("site b has no manifest" in message for message in world.warnings())
