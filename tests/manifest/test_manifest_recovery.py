"""A permanently lost majority: generations, forks, abandoned changes, and returning sites. Uses real directories."""

import os
import shutil

import pytest
from manifest_world import Sites, backup, sources
from thoroughness import STRIDE

from drtool.crypto import Keyring
from drtool.errors import Forked, NoQuorum, Refused
from drtool.manifest import Member, OpenSession, Policy, SetPolicy
from drtool.manifest.ops import CloseSession, Condemn, ForgetSnapshots, Remove
from drtool.manifest.pages import NameList
from drtool.manifest.ports import PutIfAbsent


@pytest.fixture
def sites(tmp_path):
    return Sites(tmp_path / "world", 3, spare=1)


def lose(sites, *names):
    """Remove these sites, and return their new paths, from which a test can bring them back."""
    aside = sites.root.parent / "aside"
    aside.mkdir(exist_ok=True)
    for name in names:
        (sites.root / name).rename(aside / name)
    return aside


def bring_back(sites, *names):
    for name in names:
        (sites.root.parent / "aside" / name).rename(sites.root / name)


def faults(problems):
    return [problem for problem in problems if problem.kind not in ("unreachable", "absent")]


def test_one_survivor_of_three_goes_on(sites):
    backup(sites.found(), "before")
    lose(sites, "site1", "site2")
    admin = sites.host("admin")
    with pytest.raises(NoQuorum):
        admin.commit(SetPolicy(Policy(1)))
    view = admin.recover(["site0"])
    assert (view.config.generation, view.config.number, view.config.quorum) == (2, 1, 1)
    backup(sites.host(), "after")
    assert sources(sites.host("stranger").read()) == ["before", "after"]
    assert faults(sites.host().check()) == []
    (row,) = sites.host().read().state.recoveries
    assert (row.generation, row.sites) == (2, ("site0",))


def test_a_survivor_that_missed_a_rotation_is_read_without_the_newer_key_after_a_recovery(sites):
    """The administrator learned of the rotation from another site, which is not named as a survivor."""
    backup(sites.found(), "before")
    lose(sites, "site1", "site2")
    old = sites.keys
    sites.keys = Keyring(old.repository, {**old.masters, 2: os.urandom(32)})
    assert sites.keys.generation == 2
    sites.host("admin").recover(["site0"])
    sites.keys = Keyring(old.repository, old.masters)
    assert sources(sites.host().read()) == ["before"]
    assert faults(sites.host().check()) == []


def test_the_newest_of_the_survivors_is_taken(sites):
    manifest = sites.found()
    lose(sites, "site0")
    backup(sites.host(), "unseen by site0")
    bring_back(sites, "site0")
    lose(sites, "site2")
    shutil.rmtree(sites.root / "site1" / "manifest" / "obj", ignore_errors=True)
    lose(sites, "site1")
    bring_back(sites, "site1")
    del manifest
    # site0 lags, site1 is up to date; site2 is lost. There is a quorum, so recovery is refused …
    with pytest.raises(Refused, match="nothing needs to be recovered"):
        sites.host("admin").recover(["site0", "site1"])


def test_a_lagging_survivor_beside_a_newer_one(tmp_path):
    sites = Sites(tmp_path / "world", 5)
    sites.found()
    lose(sites, "site0")
    backup(sites.host(), "newer")
    bring_back(sites, "site0")
    lose(sites, "site2", "site3", "site4")
    view = sites.host("admin").recover(["site0", "site1"])
    assert sources(view) == ["newer"]
    lose(sites, "site1")
    bring_back(sites, "site1")
    assert sources(sites.host("stranger").read()) == ["newer"]


def test_a_survivor_that_does_not_answer_or_holds_nothing_is_named(sites):
    sites.found()
    lose(sites, "site1", "site2")
    with pytest.raises(NoQuorum, match="site1 was named as a survivor but does not answer"):
        sites.host("admin").recover(["site0", "site1"])
    (sites.root / "site2").mkdir()
    with pytest.raises(Refused, match="site2 holds no head"):
        sites.host("admin").recover(["site0", "site2"])
    bring_back(sites, "site1")
    assert sites.host().read().config.generation == 1


def test_after_a_recovery_voters_can_be_added_again(sites):
    backup(sites.found(), "before")
    lose(sites, "site1", "site2")
    sites.host("admin").recover(["site0"])
    sites.names.append("site3")
    sites.host("admin").set_voters([Member("site0", "site0/main"), Member("site3", "site3/main")])
    view = sites.host("stranger").read()
    assert (view.config.generation, view.config.number) == (2, 2)
    assert sources(view) == ["before"]


def test_a_site_of_the_lost_majority_that_comes_back_is_fenced(sites):
    """Its register is sealed by the next run, which leads hosts of the old generation to the new one."""
    sites.found()
    late = sites.host("late")
    late.read()
    lose(sites, "site1", "site2")
    sites.host("admin").recover(["site0"])
    bring_back(sites, "site1", "site2")
    backup(sites.host("other"), "after")
    for name in ("site1", "site2"):
        assert (sites.root / name / "manifest/acc/g0001/c000001/z-sealed").exists()
    lose(sites, "site0")
    with pytest.raises(NoQuorum):
        backup(late, "lost")
    bring_back(sites, "site0")
    assert sources(sites.host("late").read()) == ["after"]


def test_losses_of_the_majority_are_reported_and_changes_of_this_host_return(sites):
    manifest = sites.found()
    backup(manifest, "early")
    lose(sites, "site0")
    writer = sites.host("writer")
    done = backup(writer, "acknowledged")
    bring_back(sites, "site0")
    lose(sites, "site1", "site2")
    view = sites.host("admin").recover(["site0"])
    assert sources(view) == ["early"]
    again = sites.host("writer")
    first = again.read()
    assert any("given up" in problem for problem in first.problems)
    assert again.read().problems == ()
    assert again.settle() == 1
    state = sites.host("stranger").read().state
    (row,) = (row for row in state.snapshots if row.source == "acknowledged")
    assert row.id == next(iter(done.view.state.snapshots.added)).id or row.id in done.view.state.snapshots
    assert {segment.id for segment in done.view.state.segments} <= {segment.id for segment in state.segments}
    assert again.settle() == 0
    assert len(list(sites.host().read().state.snapshots)) == 2


def test_objects_removed_by_a_later_prune_do_not_come_back(sites):
    """The lost line's packs and segments were garbage to the prune: a snapshot without them would stop every later prune."""
    manifest = sites.found()
    lose(sites, "site0")
    backup(sites.host("writer"), "acknowledged")
    bring_back(sites, "site0")
    lose(sites, "site1", "site2")
    admin = sites.host("admin")
    admin.recover(["site0"])
    session = admin.commit(OpenSession(kind="prune", host_id="admin", host="admin")).session
    kept = admin.keep_names(NameList(packs=b"p" * 32), 100)
    view = admin.commit(Condemn(kept, admin.read().sequence, session)).view
    admin.commit(Remove(view.state.condemned.sequence, kept, view.sequence, (), session=session))
    notes = []
    writer = sites.host("writer", trace=notes.append)
    writer.read()
    assert writer.settle() == 0
    assert sources(sites.host("stranger").read()) == []
    assert not sites.host("stranger").read().state.segments
    assert writer.settle() == 0
    assert backup(writer, "goes on").view.state.snapshots
    warned = [note.text for note in notes if note.phase == "warning"]
    assert any("of acknowledged on host cannot come back" in words for words in warned), warned
    del manifest


def forget(manifest, *ids):
    return manifest.commit(ForgetSnapshots(tuple(ids)))


def prune(manifest):
    """Change the catalogue as a prune does: drop the forgotten snapshots, and remove one pack."""
    session = manifest.commit(OpenSession(kind="prune", host_id="admin", host="admin")).session
    kept = manifest.keep_names(NameList(packs=os.urandom(32)), 100)
    view = manifest.commit(Condemn(kept, manifest.read().sequence, session)).view
    gone = tuple(row.snapshot.id for row in view.state.forgotten)
    manifest.commit(Remove(view.state.condemned.sequence, kept, view.sequence, (), dropped=gone, session=session))
    manifest.commit(CloseSession(session))


def settled(sites, host):
    """Return the changes that a run of this host adds again, and its messages."""
    notes = []
    manifest = sites.host(host, trace=notes.append)
    manifest.read()
    return manifest.settle(), [note.text for note in notes if note.phase == "warning"]


@pytest.mark.parametrize("others", [0, 40], ids=["in the head", "folded"])
def test_a_snapshot_that_was_pruned_before_the_recovery_does_not_come_back(sites, others):
    writer = sites.found()
    id_ = the_id(backup(writer, "pruned"))
    forget(writer, id_)
    prune(writer)
    for number in range(others):
        backup(sites.host("other"), f"s{number}")
    lose(sites, "site1", "site2")
    sites.host("admin").recover(["site0"])
    assert settled(sites, "host") == (0, [])
    assert "pruned" not in sources(sites.host("stranger").read())


def test_a_snapshot_that_this_host_forgot_after_the_cut_does_not_come_back(sites):
    sites.found()
    lose(sites, "site0")
    writer = sites.host("writer")
    kept = the_id(backup(writer, "kept"))
    forget(writer, the_id(backup(writer, "forgotten")))
    prune(writer)
    bring_back(sites, "site0")
    lose(sites, "site1", "site2")
    sites.host("admin").recover(["site0"])
    count, warned = settled(sites, "writer")
    assert count == 1
    assert sources(sites.host("stranger").read()) == ["kept"]
    assert any(kept[:4].hex() in words and "drtool verify" in words for words in warned), warned


def test_that_a_forgetting_was_given_up_is_said(sites):
    id_ = the_id(backup(sites.found(), "listed again"))
    lose(sites, "site0")
    forget(sites.host("writer"), id_)
    bring_back(sites, "site0")
    lose(sites, "site1", "site2")
    sites.host("admin").recover(["site0"])
    count, warned = settled(sites, "writer")
    assert count == 0
    assert sources(sites.host("stranger").read()) == ["listed again"]
    assert any(id_[:4].hex() in words and "listed again" in words for words in warned), warned


def test_while_the_log_cannot_be_read_nothing_comes_back_and_nothing_is_dropped(sites):
    for number in range(40):
        backup(sites.found() if not number else sites.host(), f"s{number}")
    lose(sites, "site0")
    backup(sites.host("writer"), "acknowledged")
    bring_back(sites, "site0")
    lose(sites, "site1", "site2")
    view = sites.host("admin").recover(["site0"])
    log = view.learned.checkpoint.log_pages[0].reference.name.hex()
    page = sites.root / "site0" / "manifest" / "obj" / log
    held = page.read_bytes()
    page.unlink()
    count, warned = settled(sites, "writer")
    assert count == 0
    assert any("cannot be determined yet" in words for words in warned), warned
    page.write_bytes(held)
    assert settled(sites, "writer")[0] == 1
    assert "acknowledged" in sources(sites.host("stranger").read())


def the_id(committed):
    return max(committed.view.state.snapshots, key=lambda row: row.sequence).id


def test_a_host_that_saw_more_than_the_survivors_is_not_blocked(sites):
    manifest = sites.found()
    lose(sites, "site0")
    host = sites.host()
    backup(host, "given up")
    bring_back(sites, "site0")
    lose(sites, "site1", "site2")
    sites.host("admin").recover(["site0"])
    backup(sites.host(), "goes on")
    assert sources(sites.host("stranger").read()) == ["goes on"]
    del manifest


def test_two_administrators_make_a_fork_that_is_named_and_healed_by_a_person(tmp_path):
    sites = Sites(tmp_path / "world", 4)
    backup(sites.found(), "before")
    lose(sites, "site2", "site3")
    sites.host("one").recover(["site0", "site1"])
    backup(sites.host("one"), "left")
    lose(sites, "site0", "site1")
    bring_back(sites, "site2", "site3")
    sites.host("two").recover(["site2", "site3"])
    backup(sites.host("two"), "right")
    bring_back(sites, "site0", "site1")
    for name in ("one", "two", "stranger"):
        with pytest.raises(Forked, match="recovered twice"):
            sites.host(name).read()
        with pytest.raises(Forked):
            sites.host(name).commit(SetPolicy(Policy(1)))
    with pytest.raises(Forked):
        sites.host("stranger").read_offline()
    assert sources(sites.host("stranger").read_offline("site2")) == ["before", "right"]
    assert "recovered twice" in (sites.host("one").status().problem or "")
    assert any(problem.kind == "fork" for problem in sites.host("one").check())
    view = sites.host("chooser").recover(["site0", "site1"])
    assert view.config.generation == 3
    assert sources(sites.host("stranger").read()) == ["before", "left"]
    two = sites.host("two")
    assert any("given up" in problem for problem in two.read().problems) or sources(two.read()) == ["before", "left"]


def test_a_name_that_one_site_invents_is_no_fork(sites):
    """Otherwise, write access to one site would be enough to stop every command."""
    backup(sites.found(), "before")
    invent(sites, "site2", "g0001")
    assert sources(sites.host("stranger").read()) == ["before"]
    lose(sites, "site1", "site2")
    admin = sites.host("admin")
    admin.recover(["site0"])
    bring_back(sites, "site1", "site2")
    invent(sites, "site1", "g0002")
    (genuine,) = (sites.root / "site0" / "manifest" / "acc").glob("g0002-*")
    shutil.copytree(genuine, genuine.with_name(f"g0002-{'cd' * 16}"))  # authentic records, in the place of others
    for name in ("admin", "stranger"):
        assert sources(sites.host(name).read()) == ["before"]
        assert sites.host(name).status().problem is None
    assert faults(sites.host("stranger").check()) == []


def invent(sites, site, generation):
    """The directory of a recovery that never was."""
    life = sites.root / site / "manifest" / "acc" / f"{generation}-{'ab' * 16}" / "c000001"
    life.mkdir(parents=True)
    (life / "v-000000000001").write_bytes(b"anything")


class Died(Exception):
    pass


@pytest.mark.sampled
def test_a_recovery_that_dies_at_any_step_is_finished_by_running_it_again(tmp_path):
    """After each step, another administrator runs the same recovery. The changes of the first never fork."""
    sites = Sites(tmp_path / "world", 5)
    backup(sites.found(), "before")
    lose(sites, "site2", "site3", "site4")
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
            sites.host("admin", hook=die).recover(["site0", "site1"])
        except Died:
            died = step
        try:
            view = sites.host("other").recover(["site0", "site1"])
        except Refused:  # the first one had got far enough: a quorum answers
            view = sites.host("other").read()
        assert sources(view) == ["before"], step
        assert view.config.generation == 2, step
        backup(sites.host("admin"), "after")
        assert sources(sites.host("stranger").read()) == ["before", "after"]
        assert faults(sites.host("stranger").check()) == [], step
    assert step > 15


def test_nothing_is_read_for_the_new_head_before_all_survivors_are_sealed(tmp_path):
    sites = Sites(tmp_path / "world", 5)
    backup(sites.found(), "before")
    lose(sites, "site2", "site3", "site4")
    order = []

    def watch(_step, request):
        if isinstance(request, PutIfAbsent):
            order.append(request.name.rpartition("/")[2])

    sites.host("admin", hook=watch).recover(["site0", "site1"])
    assert order[:2] == ["z-sealed", "z-sealed"]
    assert all(name.startswith("v-") for name in order[2:])
