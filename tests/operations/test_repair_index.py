"""Index segments that no site has any more come back: out of this host's cache, or out of the packs."""

import os
import shutil
import signal
import threading

import pytest
from test_prune import forget
from test_prune import run as run_prune
from three_sites import World, fill, in_a_child, noise, portrait

from drtool.crypto import object_name
from drtool.errors import DrtoolError, FormatError, Refused
from drtool.manifest.facade import Manifest
from drtool.manifest.ops import ExpireSession, ReplaceIndex
from drtool.operations.repair import RepairRequest, repair
from drtool.operations.repair.run import exit_code
from drtool.repository import index, reindexing
from drtool.repository.session import Overtaken
from drtool.stores import LocalStore


def run(world, **more):
    with world.open() as repository:
        return repair(repository, RepairRequest(**more), world.heard.append)


@pytest.fixture
def stocked(world):
    """Three snapshots, three segments."""
    source = world.root / "source"
    looks = {}
    for number in range(3):
        fill(source, {f"d{number}/{i}": noise(200_000 + i, 10 * number + i) for i in range(6)})
        looks[world.backup(source).id] = portrait(source)
    with world.open() as repository:
        assert len(repository.index.mapped()) == 3, "all are in this host's cache"
    return looks


def lose_segments(world, *, but=0, cache=False):
    """All of them at all sites, or all `but` the first few."""
    kept = {ref.id.hex() for ref in world.view().state.segments[:but]}
    for site in "abc":
        for path in world.objects(site, "index"):
            if path.name not in kept:
                path.unlink()
    if not cache:
        shutil.rmtree(world.root / "cache", ignore_errors=True)


def newest_packs(repository):
    return repository.index.reader(repository.view.state.segments[-1].id).packs


def check(world, looks):
    """Everything restores byte for byte on a host that has no cache, and nothing is wrong."""
    shutil.rmtree(world.root / "cache", ignore_errors=True)
    for row in world.snapshots():
        out = world.root / "out"
        assert world.restore(out, row, path=world.root / "source").errors == []
        assert portrait(out) == looks[row.id.hex()]
        shutil.rmtree(out)
    found = world.verify("full")
    assert (found.missing, found.damaged, found.unrepairable, found.degraded) == ([], [], [], False)
    assert world.view().state.sessions == ()


def broken(world):
    """Whether some snapshot cannot be restored."""
    try:
        return any(world.restore(world.root / "out" / row.id.hex(), row).errors for row in world.snapshots())
    except DrtoolError as error:
        return "drtool repair" in (error.hint or "")
    finally:
        shutil.rmtree(world.root / "out", ignore_errors=True)


@pytest.mark.parametrize("kept", [0, 2])
def test_lost_segments_are_rebuilt_from_the_packs(world, stocked, kept):
    lose_segments(world, but=kept)
    before = {site: world.names(site) for site in "abc"}
    assert broken(world)
    would = run(world, dry_run=True)
    assert world.view().state.segments[kept:] != ()
    did = run(world)
    assert (would.rebuilt.objects, would.unrepairable, exit_code(would)) == (3 - kept, [], 0)
    assert (did.rebuilt.objects, did.unrepairable, exit_code(did)) == (1, [], 0)
    assert {site: world.names(site) for site in "abc"} == before
    check(world, stocked)
    assert run(world).rebuilt.objects == 0


def test_lost_segments_are_stored_again_from_the_cache_and_no_pack_is_read(world, stocked, monkeypatch):
    lose_segments(world, cache=True)
    monkeypatch.setattr(reindexing, "read_packs", lambda *_: pytest.fail("a pack was read"))
    assert run(world, dry_run=True).rebuilt.objects == 3
    assert run(world).rebuilt.objects == 3
    check(world, stocked)


def test_damaged_segments_count_as_lost(world, stocked):
    for site in "abc":
        for path in world.objects(site, "index"):
            path.write_bytes(bytes(path.stat().st_size))
    shutil.rmtree(world.root / "cache")
    with world.open() as repository:
        assert repair(repository, RepairRequest(), world.heard.append).unrepairable == []
        assert repository.load_index() == {}, "the next user finds all of it"
    check(world, stocked)
    run_prune(world)
    live = {ref.id.hex() for ref in world.view().state.segments}
    assert {path.name for path in world.objects("a", "index")} == live, "and prune removes their leftovers"


def test_damage_that_only_reading_all_finds_is_healed_from_the_cache(world, stocked):
    for site in "abc":
        for path in world.objects(site, "index"):
            path.write_bytes(bytes(path.stat().st_size))
    assert run(world).rebuilt.objects == 0
    assert run(world, read_all=True).rebuilt.objects == 3
    check(world, stocked)


def test_a_segment_that_only_this_version_cannot_make_sense_of_is_left_alone(world, stocked, monkeypatch):
    shutil.rmtree(world.root / "cache")

    def unseal(*_):
        raise FormatError("from the future")

    before = world.view().state.segments
    with monkeypatch.context() as patch:
        patch.setattr(index, "unseal_segment", unseal)
        assert run(world).rebuilt.objects == 0
    assert world.view().state.segments == before
    check(world, stocked)


def test_prune_and_other_runs_say_that_repair_helps(world, stocked):
    lose_segments(world)
    with pytest.raises(Refused, match="index segment") as caught:
        run_prune(world)
    assert "drtool repair" in caught.value.hint


def test_a_pack_of_which_no_copy_is_whole_is_named_and_the_rest_comes_back(world, stocked):
    with world.open() as repository:
        newest = next(row for row in newest_packs(repository) if row.kind == 1)
    lose_segments(world)
    for site in "abc":
        for path in world.objects(site):
            if path.name == newest.pack.hex():
                data = bytearray(path.read_bytes())
                data[len(data) // 2] ^= 1
                path.write_bytes(data)
    result = run(world)
    lost = {row.object.rpartition("/")[2] for row in result.unrepairable}
    assert newest.pack.hex() in lost
    assert exit_code(result) == 4
    whole = [row for row in world.snapshots() if not world.restore(world.root / row.id.hex(), row).errors]
    assert 1 <= len(whole) < 3, "those that need nothing of it"
    assert exit_code(run(world)) == 4, "it is not forgotten that something is missing"
    with pytest.raises(Refused):
        run_prune(world)
    forget(world, *(row for row in world.snapshots() if row not in whole))
    assert exit_code(run(world)) == 0, "nothing needs it now"
    check(world, stocked)
    assert run_prune(world).removed.packs > 0
    check(world, stocked)


def test_garbage_that_nothing_needs_is_no_matter(world, stocked):
    name = os.urandom(32).hex()
    orphan = world.directory("a") / "packs" / name[:2] / name
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"left by a run that died")
    lose_segments(world)
    result = run(world)
    assert (result.unrepairable, exit_code(result)) == ([], 0)
    check(world, stocked)


def test_a_site_that_swaps_packs_or_forges_some_is_not_believed(world, stocked):
    """Swapped: one pack under another's name. Forged: falsified, under the name that its bytes have then."""
    with world.open() as repository:
        headers = {row.pack: row.header for row in repository.index.packs()}
    lose_segments(world)
    packs = world.objects("a")
    for path in packs:
        data = bytearray(path.read_bytes())
        data[60] ^= 1  # in its first block, while the table of contents opens
        forged = object_name(data).hex()
        (world.directory("a") / "packs" / forged[:2]).mkdir(exist_ok=True)
        (world.directory("a") / "packs" / forged[:2] / forged).write_bytes(data)
    texts = [path.read_bytes() for path in packs]
    for path, text in zip(packs, texts[1:] + texts[:1], strict=True):
        path.write_bytes(text)
    run(world, read_all=True)
    with world.open() as repository:
        assert {row.pack: row.header for row in repository.index.packs()} == headers
    assert run(world, read_all=True).unrepairable == []
    check(world, stocked)


def test_objects_of_an_unreachable_site_are_not_given_up(world, stocked):
    """Only lost segments name its packs, so these stay on the list until it is back."""
    lose_segments(world)
    world.directory("c").rename(world.root / "away")
    for site in "ab":
        for path in world.objects(site):
            if (world.root / "away" / path.relative_to(world.directory(site))).exists():
                path.unlink()
    first = run(world)
    assert first.unrepairable
    assert all("c/main" in row.perhaps for row in first.unrepairable if row.object.startswith("index/"))
    with pytest.raises(Refused):
        run_prune(world)
    (world.root / "away").rename(world.directory("c"))
    last = run(world)
    assert (last.unrepairable, exit_code(last)) == ([], 0)
    check(world, stocked)


def test_objects_of_an_unreachable_site_that_a_running_backup_may_need_are_not_given_up(world, stocked):
    """No listed snapshot needs it, but the one in progress may."""
    _, _, newest = world.snapshots()
    with world.open() as repository:
        alone = [row.pack.hex() for row in newest_packs(repository)]
        needs = {ref.id for ref in repository.view.state.segments}
    forget(world, newest)
    lose_segments(world)
    for site in "ab":
        for path in world.objects(site):
            if path.name in alone:
                path.unlink()
    world.directory("c").rename(world.root / "away")
    assert exit_code(run(world)) == 5
    assert needs <= {ref.id for ref in world.view().state.segments}
    (world.root / "away").rename(world.directory("c"))
    assert exit_code(run(world)) == 0
    assert needs.isdisjoint(ref.id for ref in world.view().state.segments)
    check(world, stocked)


@pytest.mark.parametrize("step", ["stored", "first", "second"])
@pytest.mark.spread(3)
def test_killed_in_the_middle_it_goes_on_when_run_again(world, stocked, monkeypatch, step):
    lose_segments(world)
    plain_store, plain_commit = reindexing.store_segment, Manifest.commit
    seen = []

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def store(*args):
        ref = plain_store(*args)
        if step == "stored":
            die()
        return ref

    def commit(self, ops):
        committed = plain_commit(self, ops)
        if isinstance(ops, ReplaceIndex):
            seen.append(ops)
            if len(seen) == ["first", "second", "stored"].index(step) + 1:
                die()
        return committed

    with monkeypatch.context() as patch:
        patch.setattr(reindexing, "store_segment", store)
        patch.setattr(Manifest, "commit", commit)
        assert in_a_child(lambda: run(world)) == -signal.SIGKILL
    assert [row.kind for row in world.view().state.sessions] == ["prune"]
    assert exit_code(run(world)) == 0
    check(world, stocked)


def test_a_backup_that_runs_meanwhile_is_whole_and_so_is_the_rest(world, stocked, monkeypatch):
    lose_segments(world)
    plain, reports = reindexing.read_packs, []
    source = world.root / "source"

    def slow(*args):
        other = World(world.root, world.targets, "other", "state-other", keyrings=world.keyrings)
        fill(source, {"d9/new": noise(300_000, 99)})
        reports.append(other.backup(source))
        yield from plain(*args)

    monkeypatch.setattr(reindexing, "read_packs", slow)
    assert exit_code(run(world)) == 0
    (report,) = reports
    stocked[report.id] = portrait(source)
    check(world, stocked)


def test_segments_merged_meanwhile_are_no_obstacle(world, stocked, monkeypatch):
    """As a backup does, on a host that has them in its cache."""
    lose_segments(world, cache=True)
    plain, done = reindexing.store_segment, []

    def store(repository, *args):
        ref = plain(repository, *args)
        if not done:
            done.append(ref)
            with world.open() as other:
                old = other.view.state.segments[0]
                again = plain(
                    other, other.writer(), other.index.reader(old.id).packs, other.index.reader(old.id).rows()
                )
                other.manifest.commit(ReplaceIndex((again,), (old.id,)))
        return ref

    monkeypatch.setattr(reindexing, "store_segment", store)
    assert exit_code(run(world)) == 0
    check(world, stocked)


def test_condemned_objects_count_again(world, stocked):
    """Perhaps only a lost segment names it, and an earlier session may still reference it."""
    forget(world, world.snapshots()[-1])
    with world.open() as repository:
        writer = repository.writer()
        session = repository.begin(writer, "slow")
        assert run_prune(world).pending.packs > 0
        lose_segments(world)
        assert exit_code(run(world)) == 0
        assert world.view().state.condemned is None
        session.abandon()
        writer.close()
    check(world, stocked)
    assert run_prune(world).pending.packs == 0
    check(world, stocked)


def test_it_waits_for_a_prune_and_stops_when_taken_for_dead(world, stocked, monkeypatch):
    lose_segments(world)
    with world.open() as repository:
        writer = repository.writer()
        session = repository.begin(writer, "", "prune")
        assert run(world).rebuilt.objects == 0
        assert reindexing.AT_WORK in world.warnings()
        session.abandon()
        writer.close()
    plain = reindexing.read_packs

    def sleepy(*args):
        with world.open() as repository:
            (row,) = repository.view.state.sessions
            repository.manifest.commit(ExpireSession(row.id))
        yield from plain(*args)

    with monkeypatch.context() as patch:
        patch.setattr(reindexing, "read_packs", sleepy)
        with pytest.raises(Overtaken, match="session of this run expired"):
            run(world)
    assert exit_code(run(world)) == 0
    check(world, stocked)


@pytest.mark.parametrize("needed", [True, False])
def test_a_copy_that_does_not_answer_is_no_proof_that_there_is_none(world, stocked, monkeypatch, needed):
    lose_segments(world)
    plain, lock, refused = LocalStore.get, threading.Lock(), set()

    def get(self, name, start=0, length=None):
        with lock:
            if name.startswith("packs/") and not refused:
                refused.add(name)
        if name in refused:
            raise DrtoolError("it did not answer")
        return plain(self, name, start, length)

    if not needed:
        forget(world, *world.snapshots())
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "get", get)
        assert exit_code(run(world)) == 4
        assert len(world.view().state.segments) == 4, "all that is lost is still named"
    assert exit_code(run(world)) == 0
    check(world, stocked)


def test_many_packs_become_several_segments(world, stocked, monkeypatch):
    monkeypatch.setattr(reindexing, "ROWS_AT_ONCE", 10)
    lose_segments(world)
    assert run(world).rebuilt.objects > 1
    check(world, stocked)
