"""Changing who votes: real directories, hosts that knew, hosts that did not, and a switch that died half-way."""

import os
import shutil

import pytest
from manifest_world import Sites, backup, sources
from thoroughness import STRIDE

from drtool.errors import NoQuorum, Rejected
from drtool.manifest import Member, MemoryState, OpenSession, Policy, SetPolicy
from drtool.manifest.facade import Manifest
from drtool.manifest.ports import PutIfAbsent
from drtool.stores import LocalStore

OLD = "manifest/acc/g0001/c000001"
NEW = "manifest/acc/g0001/c000002"


@pytest.fixture
def sites(tmp_path):
    return Sites(tmp_path / "world", 3, spare=2)


def members(*names, fresh=()):
    return [Member(name, f"{name}/main", fresh=name in fresh) for name in names]


def grown(sites, *names):
    """The same world for hosts that can also reach these sites."""
    sites.names += [name for name in names if name not in sites.names]
    return sites


def records(sites, name, prefix):
    directory = sites.root / name / prefix
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


def test_a_voter_is_added_and_what_was_committed_stays(sites):
    backup(sites.found(), "before")
    host = grown(sites, "site3").host()
    view = host.set_voters(members("site0", "site1", "site2", "site3"))
    assert (view.config.number, view.config.quorum) == (2, 3)
    backup(host, "after")
    assert sources(host.read()) == ["before", "after"]
    assert [problem for problem in host.check() if problem.kind != "unreachable"] == []
    for name in ("site0", "site1", "site2"):
        assert records(sites, name, OLD) == ["z-sealed"]
    assert records(sites, "site3", NEW)


def test_a_host_with_the_old_configuration_follows(sites):
    backup(sites.found(), "before")
    other = sites.host("other")
    assert sources(other.read()) == ["before"]
    grown(sites, "site3", "site4").host().set_voters(members("site0", "site3", "site4"))
    backup(sites.host("other"), "other")
    reader = sites.host("reader")
    assert sources(reader.read()) == ["before", "other"]
    assert reader.status().config == 2


def test_a_host_that_does_not_know_the_new_sites_is_told_where_they_are(sites):
    sites.found()
    old = sites.stores()
    grown(sites, "site3", "site4").host().set_voters(members("site2", "site3", "site4"))
    asked = []

    def reach(targets):
        asked.append(sorted(row.name for row in targets))
        return {name: LocalStore.open(sites.root / name) for name in ("site3", "site4")}

    follower = Manifest(old, sites.keys, MemoryState(), reach=reach)
    assert follower.read().config.number == 2
    assert follower.status().quorum.reachable == 3
    assert asked


def test_a_wiped_voter_gets_a_new_incarnation_and_votes_again(sites):
    backup(sites.found(), "before")
    shutil.rmtree(sites.root / "site1")
    LocalStore.create(sites.root / "site1")
    host = sites.host()
    before = host.read().config
    view = host.set_voters(members("site0", "site1", "site2", fresh=["site1"]))
    kept = [voter.site for voter in view.config.voters if voter in before.voters]
    assert kept == ["site0", "site2"]
    shutil.rmtree(sites.root / "site0")
    assert sources(sites.host("stranger").read()) == ["before"]


def test_a_site_that_is_gone_for_ever_is_replaced(sites):
    backup(sites.found(), "before")
    shutil.rmtree(sites.root / "site2")
    host = grown(sites, "site3").host()
    host.set_voters(members("site0", "site1", "site3"))
    shutil.rmtree(sites.root / "site0")
    assert sources(sites.host("stranger").read()) == ["before"]
    backup(sites.host("stranger"), "after")


def test_nothing_is_changed_when_a_voter_that_begins_cannot_be_reached(sites):
    host = sites.found()
    with pytest.raises(NoQuorum, match=r"site4: .*nothing was changed"):
        host.set_voters(members("site0", "site1", "site4"))
    LocalStore.create(sites.root / "site9")
    wider = grown(sites, "site9").host()
    with pytest.raises(Rejected, match="no target"):
        wider.set_voters(members("site0", "site1", "site9"))
    assert host.read().config.number == 1


def test_two_changes_of_voters_at_once_do_not_overwrite_each_other(sites):
    host = sites.found()
    grown(sites, "site3", "site4")
    one, two = sites.host("one"), sites.host("two")
    config = one.read().state.config
    first = one.set_voters(members("site0", "site1", "site3"))
    assert first.config.number == config.number + 1
    with pytest.raises(Rejected) as caught:
        two._driver.run(two.committing([_set(config)]))
    assert caught.value.reason == "voters-changed"
    assert host.read().config == first.config


def _set(config):
    import msgspec

    from drtool.manifest import SetVoters

    return SetVoters(msgspec.structs.replace(config, number=config.number + 1))


def test_the_same_voters_again_change_nothing(sites):
    host = sites.found()
    before = host.read()
    assert host.set_voters(members("site0", "site1", "site2")).sequence == before.sequence


def test_a_batch_goes_in_with_the_change_of_voters(sites):
    host = sites.found()
    grown(sites, "site3")
    view = sites.host().set_voters(members("site0", "site1", "site3"), [SetPolicy(Policy(copies=1))])
    assert view.state.policy.copies == 1
    assert host.read().state.policy.copies == 1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_voters(sites, count):
    sites.found()
    names = [f"site{i}" for i in range(count)]
    view = grown(sites, "site3", "site4").host().set_voters(members(*names))
    assert [voter.site for voter in view.config.voters] == names
    backup(sites.host(), "after")
    assert sources(sites.host("stranger").read()) == ["after"]


class Died(Exception):
    pass


@pytest.mark.sampled
def test_a_switch_that_dies_at_any_step_is_finished_by_the_next_run(sites, tmp_path):
    """Every numbered step of one change of voters, old configuration and new; then another host, then the first again."""
    backup(sites.found(), "before")
    grown(sites, "site3")
    base = tmp_path / "base"
    shutil.copytree(sites.root, base)
    step, died = 1 - STRIDE, 1 - STRIDE
    while died == step:
        step += STRIDE
        shutil.rmtree(sites.root)
        shutil.copytree(base, sites.root)

        def die(number, _request, step=step):
            if number >= step:
                raise Died

        try:
            sites.host(hook=die).set_voters(members("site0", "site1", "site3"))
        except Died:
            died = step
        backup(sites.host("other"), "other")
        first = sites.host()
        first.settle()
        assert sources(first.read()) == ["before", "other"]
        assert [problem for problem in first.check() if problem.kind != "unreachable"] == [], step
        numbers = {first.read().config.number, sites.host("other").read().config.number}
        assert len(numbers) == 1
    assert step > 25


def test_the_next_configuration_does_not_begin_before_the_stop_is_chosen(sites):
    sites.found()
    begun, chosen = [], []

    def watch(_step, request):
        if isinstance(request, PutIfAbsent) and "/c000002/" in request.name:
            begun.append((request.name, list(chosen)))

    host = grown(sites, "site3").host(hook=watch, trace=lambda note: chosen.append(note.phase))
    host.set_voters(members("site0", "site1", "site3"))
    assert begun
    assert all("decide" in phases for _, phases in begun)


def test_sessions_and_their_changes_go_over_to_the_next_configuration(sites):
    host = sites.found()
    opened = host.commit(OpenSession(kind="backup", host_id="host", host="host", source="home"))
    grown(sites, "site3").host("admin").set_voters(members("site0", "site1", "site3"))
    assert host.read().state.session(opened.session) is not None
    assert os.listdir(sites.root / "state" / "host" / "outstanding") == []


def test_a_seal_that_proves_nothing_is_mended_on_purpose(sites):
    backup(sites.found(), "before")
    (register,) = (sites.root / "site2" / "manifest" / "acc" / "g0001").iterdir()
    (register / "z-sealed").write_bytes(b"anybody could write this")
    assert {row.site for row in sites.host().status().acceptors if row.problem} == {"site2"}
    sites.host().refresh()
    assert [row.problem for row in sites.host().status().acceptors] == [None, None, None]
    assert sources(sites.host("stranger").read()) == ["before"]
