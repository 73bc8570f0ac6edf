"""Registers that are swapped, when voters change and when a majority is lost."""

import pytest
from cas_world import PREFIX, SEAL, STATE, MixedSites
from manifest_world import backup, sources

from drtool.manifest import Member

LAST = "site2"
NEXT = "manifest/acc/g0001/c000002/state"


@pytest.fixture
def sites(tmp_path):
    return MixedSites(tmp_path, 3, 1)


def members(modes, fresh=()):
    return [Member(name, f"{name}/main", modes.get(name, "chain"), name in fresh) for name in ("site0", "site1", LAST)]


def test_a_voter_goes_over_from_a_chain_to_swaps_and_back(sites):
    modes, sites.modes = sites.modes, {}
    backup(sites.found(), "as a chain")
    store, late = sites.swapping[LAST], sites.host("late")
    late.read()
    view = sites.host().set_voters(members(modes))
    assert view.config.voter(LAST).mode == "cas"
    assert [row.name for row in store.list("manifest/acc/")] == [SEAL, NEXT]
    backup(late, "by a host that followed")
    backup(sites.host("stranger"), "swapped")
    sites.host().set_voters(members({}))
    assert sources(late.read()) == ["as a chain", "by a host that followed", "swapped"]
    assert NEXT not in [row.name for row in store.list("manifest/acc/")], "an ended proposal is cleared"
    assert not sites.host().check()


def test_a_register_that_is_swapped_begins_a_new_life(sites):
    backup(sites.found(), "before")
    old = sites.host().read().config.voter(LAST).incarnation
    store = sites.swapping[LAST]
    record = store.get(STATE)
    view = sites.host().set_voters(members(sites.modes, fresh=(LAST,)))
    assert view.config.voter(LAST).incarnation != old
    backup(sites.host(), "after")
    assert store.read_tagged(STATE) is None
    assert store.compare_and_swap(STATE, record, None) is not None, "the beginning of the old life, hours late"
    assert sources(sites.host("stranger").read()) == ["before", "after"]
    assert not sites.host("stranger").check()


def test_one_survivor_that_swaps_is_enough_to_go_on(sites):
    backup(sites.found(), "before")
    for name in ("site0", "site1"):
        (sites.root / name).rename(sites.root / f"lost-{name}")
    view = sites.host().recover([LAST])
    assert (view.config.generation, view.config.voter(LAST).mode) == (2, "cas")
    backup(sites.host(), "after")
    for name in ("site0", "site1"):
        (sites.root / f"lost-{name}").rename(sites.root / name)
    assert sources(sites.host().read()) == ["before", "after"]
    names = [row.name for row in sites.swapping[LAST].list("manifest/acc/")]
    assert [name for name in names if name.endswith("/state") and not name.startswith(PREFIX)] == names[-1:]
    assert SEAL in names
