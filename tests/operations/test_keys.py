"""Passwords come and go, and every one that is left opens everything."""

import os
import threading
from contextlib import ExitStack
from functools import partial

import pytest
from keys_world import PASSWORD, SECOND, THIRD, KeyWorld, cheap, founded_cheaply, keys
from msgspec.structs import replace
from three_sites import everything

from drtool.crypto import Keyring, seal_slot
from drtool.errors import DrtoolError, Refused, StoreError, TargetFull, TargetReadOnly, UsageError, WrongPassword
from drtool.events import ignore
from drtool.manifest.facade import Manifest
from drtool.manifest.ops import SetRing
from drtool.manifest.records import KeyTable
from drtool.model import RepositoryId
from drtool.operations.keys import add_key, table
from drtool.repository import founding
from drtool.stores import LocalStore

__all__ = ["cheap", "founded_cheaply", "keys"]


def test_the_list_names_each_password_and_the_targets_of_its_slot(keys):
    (slot,) = keys.keys().slots
    assert (slot.recorded, slot.in_use, slot.generation, slot.host) == (True, True, 1, "here")
    assert slot.created_ns
    assert (slot.targets, slot.missing, slot.damaged) == (["a/main", "b/main", "c/main"], [], [])
    assert keys.problems() == []


def test_an_added_password_opens_everything(keys):
    report = keys.store_something()
    added = keys.add(SECOND, "safe deposit box")
    assert (added.targets, added.missing) == (["a/main", "b/main", "c/main"], [])
    with keys.open(password=SECOND) as repository:
        assert keys.run_restore(repository, keys.root / "out").errors == []
        assert repository.keyring.slot == added.id
    listed = {slot.id: slot for slot in keys.keys(password=SECOND).slots}
    assert listed[added.id].label == "safe deposit box"
    assert [slot.in_use for slot in listed.values()] == [id_ == added.id for id_ in listed]
    assert report.id


@pytest.mark.parametrize("label", ["", "two\nlines", "x" * 201])
def test_a_label_is_one_line(keys, label):
    with pytest.raises(UsageError):
        keys.add(SECOND, label)
    assert len(keys.slot_names("a")) == 1


def test_the_password_in_use_is_not_added_again(keys):
    with pytest.raises(UsageError):
        keys.add(PASSWORD)


def test_a_slot_goes_to_the_targets_that_can_be_reached_and_the_list_says_which_miss_it(keys):
    with keys.away("c"):
        added = keys.add(SECOND)
        assert added.targets == ["a/main", "b/main"]
        assert [row.target for row in added.missing] == ["c/main"]
        (problem,) = keys.problems()
        assert "c/main cannot be read" in problem
    assert keys.problems() == [f"key slot {added.id} (second) is missing at c/main: drtool repair writes it again"]
    assert keys.status().problems == keys.problems()
    assert not keys.status().healthy


def test_the_next_backup_brings_a_missing_slot_back_before_it_stores_anything(keys):
    with keys.away("c"):
        added = keys.add(SECOND)
    keys.store_something()
    assert keys.problems() == []
    assert added.id in keys.slot_names("c")
    assert any(f"key slot {added.id} was missing or damaged at c/main" in message for message in keys.warnings())


def test_a_dry_run_of_a_backup_puts_nothing_back(keys):
    with keys.away("c"):
        keys.add(SECOND)
    before = everything(keys.directory("c"))
    with keys.open() as repository:
        keys.run_backup(repository, keys.directory("a"), dry_run=True)
    assert everything(keys.directory("c")) == before


def test_a_lost_or_damaged_slot_does_not_go_unnoticed(keys):
    (path,) = keys.objects("a", "keys")
    whole = path.read_bytes()
    path.unlink()
    (other,) = keys.objects("b", "keys")
    other.write_bytes(whole.replace(b"init", b"iNit"))
    name = f"key slot {path.name} (password set at init on here)"
    again = "drtool repair writes it again"
    assert keys.problems() == [f"{name} is missing at a/main: {again}", f"{name} is damaged at b/main: {again}"]
    assert keys.status().problems == keys.problems()
    keys.verify("structure")
    assert set(keys.problems()) <= set(keys.warnings())
    keys.add(SECOND)
    assert keys.problems() == []
    assert path.read_bytes() == other.read_bytes() == whole


def test_a_slot_at_no_target_is_reported(keys):
    added = keys.add(SECOND)
    for site in "abc":
        (keys.directory(site) / "keys" / added.id).unlink()
    assert keys.problems() == [f"key slot {added.id} (second) is at no readable target"]


def test_a_target_without_keys_gets_none(keys):
    """`keys: false` of the creating host is recorded, and applies on other hosts regardless of their configuration."""
    with keys.open() as repository:
        rows = repository.view.state.targets
        bare = [replace(row, keys=row.name != "c/main") for row in rows]
        repository.manifest.commit(SetRing(repository.view.state.ring_epoch + 1, tuple(bare)))
    (slot,) = keys.slot_names("c")
    (problem,) = keys.problems()
    assert problem.startswith(f"key slot {slot} ")
    assert problem.endswith("is at c/main, which should keep none (keys: false)")
    for path in keys.objects("c", "keys"):
        path.unlink()
    added = keys.add(SECOND)
    keys.store_something()
    assert added.targets == ["a/main", "b/main"]
    assert keys.slot_names("c") == []
    assert keys.problems() == []


def test_founding_writes_down_which_targets_keep_none(keys, place):
    world = KeyWorld(place / "other")
    spec = world.spec()
    rows = [row if row.site != "c" else type(row)(name=row.name, url=row.url, keys=False) for row in spec.targets]
    fields = {name: getattr(spec, name) for name in spec.__struct_fields__} | {"targets": tuple(rows)}
    founding.found(type(spec)(**fields), None, 1, world.heard.append)
    assert world.slot_names("c") == []
    assert world.problems() == []
    world.store_something()
    assert world.slot_names("c") == []


# --- failures on the way ---


def full(monkeypatch, keys, *sites):
    """The disks below some sites take no key slot."""
    write = LocalStore._write
    roots = [keys.directory(site) for site in sites]

    def refuse(store, name, data, *, replace):
        if name.startswith("keys/") and store.root in roots:
            raise TargetFull(f"{store.root} is full")
        return write(store, name, data, replace=replace)

    monkeypatch.setattr(LocalStore, "_write", refuse)


def test_a_full_target_is_named_and_the_others_have_the_slot(keys, monkeypatch):
    full(monkeypatch, keys, "b")
    added = keys.add(SECOND)
    assert added.targets == ["a/main", "c/main"]
    (missing,) = added.missing
    assert (missing.target, "is full" in missing.reason) == ("b/main", True)
    with keys.open(password=SECOND):
        pass


def test_if_no_target_takes_the_slot_nothing_is_added(keys, monkeypatch):
    full(monkeypatch, keys, "a", "b", "c")
    with pytest.raises(StoreError) as caught:
        keys.add(SECOND)
    assert caught.value.exit_code == 1
    assert len(keys.keys().slots) == 1
    with pytest.raises(WrongPassword), keys.open(password=SECOND):
        pass


def test_a_read_only_target_keeps_a_removed_slot_and_that_is_reported(keys, monkeypatch):
    added = keys.add(SECOND)
    delete = LocalStore.delete

    def refuse(store, name):
        if store.root == keys.directory("b") and name.startswith("keys/"):
            raise TargetReadOnly("read-only file system")
        delete(store, name)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "delete", refuse)
        removed = keys.remove(added.id)
    assert removed.targets == ["a/main", "c/main"]
    assert [row.target for row in removed.still_at] == ["b/main"]
    assert keys.problems() == [
        f"key slot {added.id} was removed but is still at b/main: drtool repair removes it there"
    ]
    keys.store_something()
    assert keys.problems() == []


# --- removing ---


def test_a_removed_password_opens_nothing(keys):
    added = keys.add(SECOND)
    removed = keys.remove(added.id[:5])
    assert (removed.id, removed.left, removed.targets) == (added.id, 1, ["a/main", "b/main", "c/main"])
    with pytest.raises(WrongPassword, match=r"key slots \(1\)") as caught, keys.open(password=SECOND):
        pass
    assert "removed" in caught.value.hint


def test_the_last_password_cannot_be_removed(keys):
    (slot,) = keys.keys().slots
    with pytest.raises(Refused) as caught:
        keys.remove(slot.id, in_use=True)
    assert caught.value.exit_code == 11
    assert keys.slot_names("a") == [slot.id]


def test_the_password_in_use_is_only_removed_on_purpose(keys):
    (slot,) = keys.keys().slots
    keys.add(SECOND)
    with pytest.raises(Refused, match="opened this run") as caught:
        keys.remove(slot.id)
    assert "--in-use" in caught.value.hint
    assert keys.remove(slot.id, in_use=True).left == 1
    with pytest.raises(WrongPassword), keys.open():
        pass
    with keys.open(password=SECOND):
        pass


@pytest.mark.parametrize("prefix", ["", "zz", "../"])
def test_a_name_of_no_slot_removes_nothing(keys, prefix):
    keys.add(SECOND)
    with pytest.raises(DrtoolError) as caught:
        keys.remove(prefix)
    assert caught.value.exit_code == 1
    assert len(keys.slot_names("a")) == 2


def test_an_ambiguous_id_removes_nothing(keys, monkeypatch):
    ids = iter([b"\xab" + bytes(7), b"\xab" + bytes([1]) * 7])
    draw = os.urandom
    real = table.seal_slot
    monkeypatch.setattr(
        table, "seal_slot", lambda *args: real(*args, lambda count: next(ids) if count == 8 else draw(count))
    )
    keys.add(SECOND)
    keys.add(THIRD, "third")
    with pytest.raises(DrtoolError, match="2 key slots begin with"):
        keys.remove("ab")
    assert len(keys.slot_names("a")) == 3


def test_a_dry_run_names_the_slot_and_changes_nothing(keys):
    added = keys.add(SECOND)
    before = [everything(keys.directory(site)) for site in "abc"]
    plan = keys.remove(added.id, dry_run=True)
    assert (plan.id, plan.targets, plan.left, plan.dry_run) == (added.id, ["a/main", "b/main", "c/main"], 1, True)
    assert [everything(keys.directory(site)) for site in "abc"] == before


def test_a_slot_removed_while_a_target_was_away_is_deleted_when_it_is_back(keys):
    added = keys.add(SECOND)
    with keys.away("c"):
        removed = keys.remove(added.id)
        assert [row.target for row in removed.still_at] == ["c/main"]
    assert keys.problems() == [
        f"key slot {added.id} was removed but is still at c/main: drtool repair removes it there"
    ]
    keys.store_something()
    assert added.id not in keys.slot_names("c")
    assert keys.problems() == []


def test_foreign_slots_are_reported_and_never_relied_on(keys):
    """A site could otherwise talk its owner into removing the last real password."""
    (slot,) = keys.keys().slots
    stranger = Keyring(RepositoryId(bytes.fromhex(_repository(keys))), {1: bytes(32)})
    planted = seal_slot(stranger, b"known to the site", "laptop")
    (keys.directory("a") / "keys" / planted.id).write_bytes(planted.encode())
    (keys.directory("b") / "keys/rubbish").write_bytes(b"rubbish")
    assert keys.problems() == [
        f"key slot {planted.id} (laptop) at a/main is not in the manifest",
        "keys/rubbish at b/main is not a key slot of this repository",
    ]
    assert [row.recorded for row in keys.keys().slots] == [True, False]
    with pytest.raises(Refused, match="last one"):
        keys.remove(slot.id, in_use=True)
    assert keys.remove(planted.id).left == 1
    assert planted.id not in keys.slot_names("a")


def test_a_password_is_not_removed_if_only_unreachable_slots_are_left(keys):
    (slot,) = keys.keys().slots
    added = keys.add(SECOND)
    for site in "abc":
        (keys.directory(site) / "keys" / added.id).unlink()
    with pytest.raises(Refused, match="no reachable target"):
        keys.remove(slot.id, in_use=True)


def _repository(keys):
    with keys.open() as repository:
        return repository.id.hex()


# --- at once ---


def together(*actions):
    """Run all concurrently, and return what each raised, or None."""
    results = [None] * len(actions)
    start = threading.Barrier(len(actions))

    def run(number, action):
        start.wait()
        try:
            action()
        except DrtoolError as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def in_turns(monkeypatch, first):
    """Just before the next change of the table is committed, `first` happens."""
    commit = Manifest.commit
    pending = [first]

    def committing(manifest, ops):
        if isinstance(ops, table.SetKeys) and pending:
            pending.pop()()
        return commit(manifest, ops)

    monkeypatch.setattr(Manifest, "commit", committing)


def test_two_that_add_at_once_both_succeed(keys):
    passwords = [SECOND, THIRD, b"a fourth"]
    with ExitStack() as stack:
        opened = [stack.enter_context(keys.elsewhere(host).open()) for host in ("one", "two", "three")]
        actions = [partial(add_key, *pair, "more", ignore) for pair in zip(opened, passwords, strict=True)]
        assert together(*actions) == [None] * 3
    assert len(keys.keys().slots) == 4
    assert keys.problems() == []
    for password in passwords:
        with keys.open(password=password):
            pass


def test_two_that_remove_at_once_never_lock_everybody_out(keys, monkeypatch):
    (first,) = keys.keys().slots
    second = keys.add(SECOND)
    in_turns(monkeypatch, lambda: keys.remove(second.id))
    with pytest.raises(Refused, match="last one"):
        keys.remove(first.id, password=SECOND)
    assert [slot.id for slot in keys.keys().slots] == [first.id]


def test_a_slot_that_the_manifest_refused_is_taken_away_again(keys, monkeypatch):
    in_turns(monkeypatch, keys.rotate)
    with pytest.raises(DrtoolError, match="rotated meanwhile"):
        keys.add(SECOND)
    assert len(keys.slot_names("a")) == 1
    assert keys.problems() == []


# --- a repository of an early version ---


@pytest.fixture
def early(place, cheap, monkeypatch):
    """A repository without recorded slots."""
    with monkeypatch.context() as patch:
        patch.setattr(founding, "KeyTable", lambda **_: KeyTable())
        world = KeyWorld(place / "early").found()
    with world.open() as repository:
        assert repository.view.state.keys == KeyTable()
    return world


def test_an_early_repository_is_listed_and_judged_by_most_targets(early):
    (slot,) = early.keys().slots
    assert (slot.recorded, slot.in_use, slot.created_ns) == (False, True, None)
    (early.directory("b") / "keys" / slot.id).unlink()
    assert early.problems() == [
        f"key slot {slot.id} (password set at init on here) is missing at b/main: drtool repair writes it again"
    ]
    early.store_something()
    assert early.slot_names("b") == []


def test_an_early_repository_writes_its_slots_down_with_the_first_change(early):
    (only,) = early.slot_names("b")
    (early.directory("b") / "keys" / only).unlink()
    added = early.add(SECOND)
    assert [slot.recorded for slot in early.keys().slots] == [True, True]
    assert early.problems() == []
    early.remove(added.id)
    assert len(early.keys().slots) == 1


def test_the_last_password_of_an_early_repository_stays(early):
    (slot,) = early.keys().slots
    with pytest.raises(Refused):
        early.remove(slot.id, in_use=True)
