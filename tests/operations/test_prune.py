"""Prune on real repositories: unreferenced data is removed, and everything else stays."""

import os
import shutil
import time

import pytest
from msgspec.structs import replace
from three_sites import World, fill, noise, portrait

from drtool.errors import Refused
from drtool.manifest.ops import ExpireSession, ForgetSnapshots, SetRing
from drtool.manifest.records import Counts, Forgotten, Snapshot
from drtool.manifest.switching import Member
from drtool.model import SessionId, SnapshotId
from drtool.operations.prune import PruneRequest, prune
from drtool.repository import forgotten
from drtool.repository.forgotten import forget_here
from drtool.repository.session import Overtaken

NO_SNAPSHOT = Snapshot(SnapshotId(b"a"), SessionId(b"s"), "", "here", "", 1, 1, (), (), b"", None, Counts(), "")
FORGOTTEN = Forgotten(NO_SNAPSHOT, 7, 1, "here")


def run(world, **more):
    with world.open() as repository:
        values = {"now_ns": 10**18, **more}
        return prune(repository, PruneRequest(**values), world.heard.append)


def forget(world, *snapshots):
    with world.open() as repository:
        forget_here(repository, ForgetSnapshots(tuple(row.id for row in snapshots)))


def stored(world):
    """Return the bytes of packs, each counted once regardless of its sites, which are random."""
    return sum({path.name: path.stat().st_size for site in "abc" for path in world.objects(site)}.values())


def churn(world, rounds, keep):
    """Back up a changing tree, and return the newest `keep` snapshots with their contents."""
    source = world.root / "source"
    looks = {}
    for number in range(rounds):
        fill(source, {f"{i:02}": noise(300_000, number * 100 + i) for i in range(number % 3, 12, 2)})
        looks[world.backup(source).id] = portrait(source)
    snapshots = world.snapshots()
    forget(world, *snapshots[:-keep])
    return snapshots[-keep:], looks


def check(world, snapshots, looks):
    source = world.root / "source"
    for row in snapshots:
        out = world.root / "out"
        result = world.restore(out, row, path=source)
        assert result.errors == []
        assert portrait(out) == looks[row.id.hex()]
        shutil.rmtree(out)
    verified = world.verify("full")
    assert (verified.missing, verified.damaged, verified.unrepairable) == ([], [], [])


def test_unreferenced_data_is_removed_and_the_rest_restores(world):
    kept, looks = churn(world, 6, 2)
    before = stored(world)
    result = run(world)
    assert result.removed.packs > 0
    assert result.pending.packs == 0
    assert stored(world) < before * 0.75
    check(world, kept, looks)
    again = run(world)
    assert again.removed.packs == 0 or again.removed.bytes < before * 0.1
    live = sum(row.size_bytes for row in {p.pack: p for p in _packs(world)}.values())
    assert stored(world) <= 1.35 * live


def thinned(world):
    """Make a pack that is one third live, and return the content of the only snapshot."""
    source = fill(world.root / "source", {f"{i:02}": noise(300_000, i) for i in range(12)})
    world.backup(source)
    for number in range(8):
        (source / f"{number:02}").unlink()
    world.backup(source)
    forget(world, world.snapshots()[0])
    return portrait(source)


def test_rewritten_packs_free_their_space_in_the_same_run_and_once(world):
    look = thinned(world)
    before = stored(world)
    result = run(world)
    assert result.repacked.packs == 1
    assert result.removed.bytes >= result.repacked.bytes
    assert stored(world) < 0.4 * before
    again = run(world)
    assert again.repacked.packs == 0
    assert again.kept.packs > 0
    (row,) = world.snapshots()
    check(world, [row], {row.id.hex(): look})


def _packs(world):
    with world.open() as repository:
        return list(repository.index.packs())


def test_a_dry_run_changes_nothing_and_reports_what_would_go(world):
    churn(world, 5, 1)
    before, sequence = stored(world), world.view().sequence
    would = run(world, dry_run=True)
    assert would.removed.packs > 0
    assert stored(world) == before
    assert world.view().sequence == sequence
    did = run(world)
    assert (did.removed.packs, did.repacked) == (would.removed.packs + would.repacked.packs, would.repacked)


def test_data_that_a_running_backup_may_need_is_left(world):
    kept, looks = churn(world, 5, 1)
    with world.open() as repository:
        writer = repository.writer()
        session = repository.begin(writer, "slow")
        result = run(world)
        assert result.pending.packs > 0
        assert "in progress" in result.waiting[0].reason
        session.abandon()
        writer.close()
    result = run(world)
    assert result.removed.packs > 0
    assert result.pending.packs == 0
    check(world, kept, looks)


def test_data_referenced_by_an_earlier_session_is_taken_back(world):
    source = fill(world.root / "source", {"a": noise(400_000, 1), "b": noise(400_000, 2)})
    world.backup(source)
    look = portrait(source)
    with world.open() as repository:
        from drtool.operations.backup import run as backup_run

        writer = repository.writer()
        session = repository.begin(writer, "")
        old = repository.view.state.snapshots.newest()
        forget(world, old)
        result = run(world)
        assert result.pending.packs > 0
        import msgspec

        row = msgspec.structs.replace(old, id=os.urandom(16), session=session.id)
        session.commit(row)
        writer.close()
        del backup_run
    result = run(world)
    assert result.pending.packs == 0
    out = world.root / "out"
    assert world.restore(out, row, path=source).errors == []
    assert portrait(out) == look


def test_a_target_that_is_lost_for_ever_is_not_waited_for(world):
    churn(world, 4, 1)
    world.directory("b").rename(world.root / "away")
    assert run(world).pending.packs > 0
    with world.open() as repository:
        state = repository.view.state
        rows = tuple(replace(row, state="lost") if row.name.startswith("b/") else row for row in state.targets)
        repository.manifest.set_voters(
            [Member(v.site, v.target) for v in state.config.voters if v.site != "b"],
            [SetRing(state.ring_epoch + 1, rows)],
        )
    assert run(world).pending.packs == 0
    with world.open() as repository:
        assert repository.view.state.removing == ()


def test_an_offline_target_stays_pending_and_is_cleared_later(world):
    kept, looks = churn(world, 5, 1)
    world.directory("c").rename(world.root / "away")
    result = run(world)
    assert result.pending.packs > 0
    assert "c/main" in result.waiting[0].reason
    (world.root / "away").rename(world.directory("c"))
    assert (result.removed.packs, result.removed.bytes) == (0, 0), "it is counted when it is gone everywhere, once"
    pending = result.pending
    result = run(world)
    assert result.pending.packs == 0
    assert result.removed.bytes >= pending.bytes > 0
    assert result.removed.packs < 2 * pending.packs
    check(world, kept, looks)
    names = {path.name for path in (world.directory("c") / "packs").rglob("*") if path.is_file()}
    assert names <= {row.pack.hex() for row in _packs(world)}


def test_status_promises_no_copies_of_packs_that_wait_for_a_target_to_be_removed(world):
    churn(world, 5, 1)
    world.directory("c").rename(world.root / "away")
    assert run(world).pending.packs > 0
    (world.root / "away").rename(world.directory("c"))
    assert not [words for words in world.status().problems if "fewer than" in words]


def test_orphans_of_runs_that_died_go(world):
    source = fill(world.root / "source", {"a": noise(50_000, 1)})
    world.backup(source)
    name = os.urandom(32).hex()
    orphan = world.directory("a") / "packs" / name[:2] / name
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"left by a run that died")
    result = run(world)
    assert not orphan.exists()
    assert result.removed.packs >= 1


def test_nothing_goes_when_something_that_is_needed_cannot_be_read(world):
    source = fill(world.root / "source", {"d/a": noise(50_000, 1)})
    world.backup(source)
    fill(source, {"d/b": noise(50_000, 2)})
    world.backup(source)
    forget(world, world.snapshots()[0])
    with world.open() as repository:
        trees = [row for row in repository.index.packs() if row.kind == 2]
    for site in "abc":
        for row in trees:
            path = world.directory(site) / "packs" / row.pack.hex()[:2] / row.pack.hex()
            if path.exists():
                path.write_bytes(bytes(path.stat().st_size))
    before = stored(world)
    with pytest.raises(Refused, match="nothing was removed"):
        run(world)
    assert stored(world) == before


def test_snapshots_that_other_hosts_forgot_wait_for_the_grace(world):
    source = fill(world.root / "source", {"a": noise(300_000, 1)})
    first = world.backup(source)
    fill(source, {"a": noise(300_000, 2)})
    world.backup(source)
    forget(world, next(row for row in world.snapshots() if row.id.hex() == first.id))
    now = world.view().state.forgotten[0].time_ns
    another = world.elsewhere("another")
    before = stored(world)
    run(another, now_ns=now + 3600 * 10**9)
    assert stored(world) == before
    assert world.view().state.forgotten
    assert stored(world) == before
    late_ns = now + 8 * 24 * 3600 * 10**9
    would = run(another, now_ns=late_ns, dry_run=True)
    assert "forgot 1 snapshot" in would.objections[0].message
    assert would.removed.packs > 0, "a preview shows it all the same"
    assert run(another, now_ns=late_ns, dry_run=True, yes=True).objections == []
    with pytest.raises(Refused, match="forgot 1 snapshot"):
        run(another, now_ns=now + 8 * 24 * 3600 * 10**9)
    run(another, now_ns=now + 8 * 24 * 3600 * 10**9, yes=True)
    assert stored(world) < before
    assert world.view().state.forgotten == ()


def test_a_snapshot_that_was_forgotten_under_an_old_date_gets_all_of_the_grace(world):
    source = fill(world.root / "source", {"a": noise(300_000, 1)})
    first = world.backup(source)
    fill(source, {"a": noise(300_000, 2)})
    world.backup(source)
    day_ns = 24 * 3600 * 10**9
    forget(world, next(row for row in world.snapshots() if row.id.hex() == first.id))
    before, far_ns = stored(world), world.view().state.forgotten[0].time_ns + 400 * day_ns
    another = world.elsewhere("another")
    run(another, now_ns=far_ns, dry_run=True)  # a preview takes no note
    run(another, now_ns=far_ns, yes=True)
    run(another, now_ns=far_ns + 6 * day_ns, yes=True)
    assert stored(world) == before
    assert world.view().state.forgotten
    run(another, now_ns=far_ns + 7 * day_ns, yes=True)
    assert stored(world) < before
    assert world.view().state.forgotten == ()


def test_a_host_of_the_same_label_waits_for_the_grace_as_well(world):
    """A label is only a host's own claim, so only the state directory that forgot a snapshot removes it at once."""
    source = fill(world.root / "source", {"a": noise(300_000, 1)})
    world.backup(source)
    fill(source, {"a": noise(300_000, 2)})
    world.backup(source)
    forget(world, world.snapshots()[0])
    before, namesake = stored(world), World(world.root, host=world.host, state="another", keyrings=world.keyrings)
    with namesake.open() as repository:
        assert repository.view.state.forgotten[0].host == repository.spec.host
    run(namesake, yes=True)
    assert stored(world) == before
    run(world)
    assert stored(world) < before


def test_a_forgotten_snapshot_without_a_note_of_a_killed_run_waits_for_the_grace(world):
    source = fill(world.root / "source", {"a": noise(300_000, 1)})
    world.backup(source)
    fill(source, {"a": noise(300_000, 2)})
    world.backup(source)
    forget(world, world.snapshots()[0])
    with world.open() as repository:
        (repository.state_dir / forgotten.NOTES).unlink()
    before, now_ns = stored(world), 10**18
    run(world, now_ns=now_ns)
    assert stored(world) == before
    run(world, now_ns=now_ns + 7 * 24 * 3600 * 10**9, yes=True)
    assert stored(world) < before


def test_a_snapshot_that_came_back_and_was_forgotten_by_another_host_is_not_this_hosts():
    mine = frozenset({(b"a", 7)})
    rows = [replace(FORGOTTEN, sequence=number) for number in (7, 9)]
    assert [row.sequence for row in forgotten.others(rows, mine)] == [9]


def test_two_prunes_at_once_the_second_says_so(world):
    churn(world, 3, 1)
    with world.open() as repository:
        writer = repository.writer()
        session = repository.begin(writer, "", "prune")
        result = run(world)
        assert result.waiting[0].reason == "another prune is at work"
        session.abandon()
        writer.close()
    assert run(world).removed.packs > 0


def test_a_writer_that_was_expired_while_prune_removed_things_looks_everything_up_again(world, monkeypatch):
    """Its snapshot would have referred to packs that are gone: it stores them again before it commits."""
    from drtool.repository.session import WriterSession

    source = fill(world.root / "source", {f"{i}": noise(300_000, i) for i in range(4)})
    world.backup(source)
    (old,) = world.snapshots()
    plain = WriterSession.commit
    met = []

    def commit(self, snapshot, *more):
        if not met:
            met.append(snapshot)
            other = world.elsewhere("other")
            with other.open() as repository:
                repository.manifest.commit(ExpireSession(self.id))
                forget_here(repository, ForgetSnapshots((old.id,)))
            result = run(other, now_ns=10**19, yes=True)
            assert result.removed.packs > 0
        return plain(self, snapshot, *more)

    monkeypatch.setattr(WriterSession, "commit", commit)
    report = world.backup(source)
    assert met
    assert any("this session has expired" in getattr(event, "message", "") for event in world.heard)
    (row,) = world.snapshots()
    assert row.id.hex() == report.id
    assert world.view().state.sessions == (), "nor does the session stay that it gave up"
    check(world, [row], {report.id: portrait(source)})


def test_a_prune_shows_that_it_is_alive_while_it_rewrites_and_deletes(world, monkeypatch):
    """Another host that looks now and then must not see it silent, however long one step takes."""
    from drtool.manifest.facade import Manifest
    from drtool.manifest.ops import CheckpointSession
    from drtool.operations.prune import run as pruning
    from drtool.repository import session

    thinned(world)
    plain, renewals = Manifest.commit, []

    def commit(self, ops):
        if isinstance(ops, CheckpointSession) and not ops.segments:
            renewals.append(stage())
        return plain(self, ops)

    def stage():
        return next((event.name for event in reversed(world.heard) if hasattr(event, "name")), "")

    real = pruning._Run._delete_at

    def slow(self, target, objects):
        time.sleep(0.2)
        return real(self, target, objects)

    monkeypatch.setattr(Manifest, "commit", commit)
    monkeypatch.setattr(session, "RENEW_S", 0.0)
    monkeypatch.setattr(pruning, "RENEW_S", 0.05)
    monkeypatch.setattr(pruning._Run, "_delete_at", slow)
    assert run(world).repacked.packs > 0
    assert {"marking", "rewriting", "deleting"} <= set(renewals)


@pytest.mark.parametrize("stage", ["marking", "rewriting", "deleting"])
@pytest.mark.spread(3)
def test_a_prune_that_was_expired_in_its_sleep_stops_and_harms_nothing(world, stage):
    """As a host that slept for a day: meanwhile others took it for dead, and pruned."""
    kept, looks = churn(world, 6, 2)
    slept = []

    def sleep(event):
        if getattr(event, "name", "") != stage or slept:
            return
        slept.append(event)
        other = world.elsewhere("other")
        with other.open() as repository:
            (row,) = repository.view.state.sessions
            repository.manifest.commit(ExpireSession(row.id))
        run(other, now_ns=10**19, yes=True)

    with world.open() as repository, pytest.raises(Overtaken, match="another run ended"):
        prune(repository, PruneRequest(now_ns=10**18), sleep)
    assert slept
    assert world.view().state.sessions == ()
    check(world, kept, looks)
    result = run(world)
    assert result.pending.packs == 0
    assert world.view().state.sessions == ()
    live = {row.pack.hex() for row in _packs(world)}
    assert {path.name for path in world.objects("a")} <= live
    check(world, kept, looks)


def test_condemned_objects_count_again_if_their_list_is_lost(world):
    kept, looks = churn(world, 4, 1)
    with world.open() as repository:
        writer = repository.writer()
        session = repository.begin(writer, "slow")
        assert run(world).pending.packs > 0
        session.abandon()
        writer.close()
    name = world.view().state.condemned.objects.name.hex()
    for path in world.root.rglob(f"*{name}*"):
        path.unlink()
    result = run(world)
    assert any("they count again" in words for words in world.warnings())
    assert result.pending.packs == 0
    assert result.removed.packs > 0
    check(world, kept, looks)


def test_temporary_files_of_killed_writers_go_and_young_ones_stay(world):
    churn(world, 1, 1)
    left = world.objects("a")[0].parent / ".tmp-0123456789abcdef"
    young = left.with_name(".tmp-fedcba9876543210")
    for path in (left, young):
        path.write_bytes(b"half a pack")
    os.utime(left, (1, 1))
    assert run(world, dry_run=True).swept_files == 0
    assert left.exists()
    assert run(world).swept_files == 1
    assert (left.exists(), young.exists()) == (False, True)


def test_a_pack_that_is_needed_and_left_nowhere_is_named_and_stays(world):
    """Neither known beforehand nor listed: it is read, and found bad, because it is mostly waste."""
    thinned(world)
    (pack,) = {path.name for site in "abc" for path in world.objects(site)} - {p.name for p in tree_packs(world)}
    name = f"packs/{pack[:2]}/{pack}"
    copies = [world.directory(site) / name for site in "abc" if (world.directory(site) / name).exists()]
    for path in copies:
        path.chmod(0o600)
        path.write_bytes(bytes(path.stat().st_size))
    assert run(world, dry_run=True).lost == []  # a dry run reads no pack
    assert run(world).lost == [name]
    assert run(world, dry_run=True).lost == [name]
    for path in copies:
        path.unlink()
    assert run(world).lost == [name]
    assert any("drtool verify lists the lost files" in words for words in world.warnings())


def test_a_pack_that_may_be_at_a_target_that_is_away_is_not_called_lost(world):
    thinned(world)
    (pack,) = {path.name for site in "abc" for path in world.objects(site)} - {p.name for p in tree_packs(world)}
    here, away, *_ = [site for site in "abc" for path in world.objects(site) if path.name == pack]
    (world.directory(here) / "packs" / pack[:2] / pack).unlink()
    world.directory(away).rename(world.root / "away")
    assert run(world).lost == []


def tree_packs(world):
    packs = {row.pack.hex() for row in _packs(world) if row.kind == 2}
    return {path for site in "abc" for path in world.objects(site) if path.name in packs}
