"""A site that was away while passwords or keys changed opens on its own after any later write."""

from contextlib import contextmanager

import pytest
from keys_world import PASSWORD, SECOND, cheap, founded_cheaply, keys

from drtool.errors import KeyMissing, TargetReadOnly
from drtool.events import ignore
from drtool.manifest.ops import SetPolicy
from drtool.manifest.records import Policy
from drtool.operations.catalogue import plan_recovery, recover
from drtool.operations.rebalance import RebalanceRequest, rebalance
from drtool.stores import LocalStore

__all__ = ["cheap", "founded_cheaply", "keys"]


def opens_alone(world, site, password=PASSWORD):
    """How many snapshots a stranger with the password finds at the site, when nothing else is left."""
    others = [name for name in "abc" if name != site]
    stranger = world.elsewhere(f"stranger-{site}")
    with world.away(*others), stranger.open(password=password, manifest_from=(site,)) as repository:
        return len(list(repository.view.state.snapshots))


def commit_something(world, **more):
    """A change of the catalogue by a command that stores nothing and looks at no slots."""
    with world.open(**more) as repository:
        repository.manifest.commit(SetPolicy(Policy(2)))


def rotate_twice(world):
    world.rotate()
    world.rotate()


def change_password(world):
    """The only earlier password is removed, and SECOND is left."""
    world.add(SECOND)
    world.remove(world.keys().slots[0].id, in_use=True)


@pytest.mark.parametrize(
    ("change", "password"),
    [(lambda world: world.rotate(), PASSWORD), (rotate_twice, PASSWORD), (change_password, SECOND)],
    ids=["rotated", "rotated twice", "another password"],
)
def test_a_site_opens_by_itself_after_any_commit(keys, change, password):
    keys.store_something()
    with keys.away("c"):
        change(keys)
    commit_something(keys, password=password)
    assert opens_alone(keys, "c", password) == 1


def test_a_site_that_missed_a_fold_opens_by_itself_after_any_commit(keys):
    keys.store_something()
    with keys.away("c"):
        keys.rotate()
        for _ in range(70):
            commit_something(keys)
    commit_something(keys)
    assert opens_alone(keys, "c") == 1


def test_a_damaged_slot_is_replaced_before_the_site_takes_a_head_that_it_would_not_open(keys):
    keys.store_something()
    with keys.away("c"):
        keys.rotate()
    (slot,) = keys.slot_names("a")
    for path in keys.objects("c", "keys"):
        path.unlink()
    (keys.directory("c") / "keys" / slot).write_bytes(b"rot")
    commit_something(keys)
    assert opens_alone(keys, "c") == 1


def test_a_site_that_takes_no_slot_keeps_the_head_that_it_opens(keys):
    keys.store_something()
    with keys.away("c"):
        keys.rotate()
        keys.store_something(2)
    with pytest.MonkeyPatch.context() as patch:
        refuse_slots(patch, keys.directory("c"))
        commit_something(keys)
    assert opens_alone(keys, "c") == 1, "it has the first snapshot, and opens"
    commit_something(keys)
    assert opens_alone(keys, "c") == 2


def test_packs_are_not_stored_on_a_site_that_takes_no_slot(keys, monkeypatch):
    keys.store_something()
    with keys.away("c"):
        keys.rotate()
    before = keys.names("c")
    refuse_slots(monkeypatch, keys.directory("c"))
    report = keys.store_something(2)
    assert keys.names("c") == before
    assert [row.target for row in report.owed] == ["c/main"]


def test_rebalance_brings_slots_before_copies(keys, monkeypatch):
    keys.store_something()
    with keys.away("c"):
        keys.rotate()
        keys.store_something(2)
    for path in keys.objects("c"):
        path.unlink()
    seen = []
    put = LocalStore.put

    def watched(store, name, data):
        if name.startswith(("packs/", "index/")) and str(store.root) == str(keys.directory("c")):
            seen.append(set(keys.slot_names("c")) >= set(keys.slot_names("a")))
        put(store, name, data)

    monkeypatch.setattr(LocalStore, "put", watched)
    with keys.open() as repository:
        rebalance(repository, RebalanceRequest(), lambda _event: None)
    assert seen
    assert all(seen)


def refuse_slots(monkeypatch, directory):
    put = LocalStore.put

    def refusing(store, name, data):
        if name.startswith("keys/") and str(store.root) == str(directory):
            raise TargetReadOnly("it takes no slots")
        put(store, name, data)

    monkeypatch.setattr(LocalStore, "put", refusing)


def test_a_target_that_took_no_new_slot_keeps_the_old_ones(keys):
    keys.store_something()
    old = keys.slot_names("c")
    with pytest.MonkeyPatch.context() as patch:
        refuse_slots(patch, keys.directory("c"))
        done = keys.rotate()
    assert [row.target for row in done.missing] == [row.target for row in done.still_at] == ["c/main"]
    assert keys.slot_names("c") == old
    assert opens_alone(keys, "c") == 1


def test_the_last_slot_of_a_target_that_takes_no_other_stays_there(keys):
    keys.store_something()
    (old,) = keys.slot_names("c")
    with pytest.MonkeyPatch.context() as patch:
        refuse_slots(patch, keys.directory("c"))
        keys.add(SECOND)
        gone = keys.remove(old, in_use=True)
    assert [row.target for row in gone.still_at] == ["c/main"]
    assert keys.slot_names("c") == [old]
    assert opens_alone(keys, "c", PASSWORD) == 1


@contextmanager
def run_of_a_key_that_is_given_up(world):
    """A run that began after a rotation. The site that was away then is the only one left
    for a while, and a recovery continues from it."""
    world.store_something()
    with world.away("c"):
        world.rotate()
    with world.open() as repository:
        assert repository.keyring.generation == 2
        with world.away("a", "b"), world.elsewhere("saviour").open(anyhow=True) as saviour:
            recover(saviour, plan_recovery(saviour, ["c"], dry_run=False), ignore)
        yield repository


def test_a_run_that_outlives_a_recovery_does_not_seal_under_a_key_that_was_given_up(keys):
    """No slot at the survivor holds that key."""
    with run_of_a_key_that_is_given_up(keys) as repository:
        committed = repository.manifest.commit(SetPolicy(Policy(1)))
        assert opens_alone(keys, "c") == 1
        repository.adopt(committed.view)
        assert repository.keyring.generation == 1


def test_a_run_with_a_given_up_key_cannot_commit_after_the_next_rotation(keys):
    """The numbers of keys go up all the same, so a higher one does not mean that the slots hold the lower one."""
    with run_of_a_key_that_is_given_up(keys) as repository:
        keys.elsewhere("saviour").rotate()
        with pytest.raises(KeyMissing, match="generation 1048577"):
            repository.manifest.commit(SetPolicy(Policy(1)))
    assert opens_alone(keys, "c") == 1
