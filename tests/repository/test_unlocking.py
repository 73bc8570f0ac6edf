"""Which slots are tried, in which order, and how much they may cost."""

from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from drtool.crypto import Keyring, KeySlot, SealKind, object_name, seal_slot, slots
from drtool.errors import KeyMissing, NoQuorum, StoreError, WrongPassword
from drtool.model import RepositoryId
from drtool.repository.keys import WORK_MAX, unlock
from drtool.stores.memory import MemoryStore

REPOSITORY = RepositoryId(bytes(range(16)))
FIRST, SECOND = {1: b"1" * 32}, {1: b"1" * 32, 2: b"2" * 32}
PASSWORD = b"correct horse"


class Targets:
    """Three stores, as far as unlocking asks."""

    def __init__(self, work):
        self.work = work
        self.stores = {name: MemoryStore() for name in ("a/main", "b/main", "c/main")}
        self.failures = {}

    def online(self):
        return list(self.stores)

    def store(self, name):
        return self.stores[name]

    def fail_by(self, name, error):
        self.fail(name, error.message)

    def fail(self, name, reason):
        self.failures[name] = reason

    def put(self, slot, *sites):
        for site in sites:
            self.stores[f"{site}/main"].put(f"keys/{slot.id}", slot.encode())


@pytest.fixture
def work(monkeypatch):
    """The derivations that were made, which cost nothing here."""
    done = []

    class Cheap:
        def __init__(self, **parameters):
            self.parameters = SimpleNamespace(**parameters)

        def derive(self, password):
            done.append(self.parameters.memory_cost * self.parameters.iterations)
            return password.ljust(32, b"\0")

    monkeypatch.setattr(slots, "Argon2id", Cheap)
    return done


@pytest.fixture
def targets(work):
    return Targets(work)


def slot(masters=FIRST, password=PASSWORD):
    return seal_slot(Keyring(REPOSITORY, masters), password, "label")


def hostile(number, memory_kib=1024 * 1024, passes=10):
    """A slot of the greatest accepted cost, with an id that sorts before others."""
    honest = slot(password=b"nobody's")
    parameters = replace(honest.argon2id, memory_kib=memory_kib, passes=passes)
    return replace(honest, id=f"{number:016x}", argon2id=parameters)


def opened(targets, tmp_path, password=PASSWORD):
    targets.work.clear()  # sealing the slots was work as well
    return unlock(targets, REPOSITORY, lambda: password, tmp_path)


def test_a_hostile_site_exhausts_only_its_own_share(targets, work, tmp_path):
    """64 slots of 1 GiB and 10 passes would be minutes of work at each opening."""
    for number in range(64):
        targets.put(hostile(number), "a")
    mine = slot()
    targets.put(mine, "b")
    assert opened(targets, tmp_path).slot == mine.id
    assert sum(work) <= WORK_MAX + mine.argon2id.work
    assert opened(targets, tmp_path).slot == mine.id
    assert work == [mine.argon2id.work], "the slot that opened last is tried first, byte for byte"


def test_a_wrong_password_costs_no_more_than_all_shares(targets, work, tmp_path):
    for site in "abc":
        for number in range(64):
            targets.put(hostile(number + 100 * ord(site)), site)
    with pytest.raises(WrongPassword, match=r"key slots \(192\)"):
        opened(targets, tmp_path)
    assert 0 < sum(work) <= 3 * WORK_MAX


def test_as_many_slots_of_ours_as_there_can_be_are_all_tried(targets, work, tmp_path):
    for _ in range(64):
        targets.put(slot(password=b"others"), "a")
    with pytest.raises(WrongPassword):
        opened(targets, tmp_path)
    assert len(work) == 64


def test_slots_at_most_targets_are_tried_before_those_at_one(targets, work, tmp_path):
    mine = slot()
    for number in range(5):
        targets.put(hostile(number), "a")
    targets.put(mine, "b", "c")
    assert opened(targets, tmp_path).slot == mine.id
    assert work == [mine.argon2id.work]


def test_a_changed_slot_under_the_id_that_worked_last_is_not_taken_for_it(targets, work, tmp_path):
    mine = slot()
    targets.put(mine, "a", "b", "c")
    opened(targets, tmp_path)
    targets.put(replace(mine, argon2id=replace(mine.argon2id, passes=10, memory_kib=1024 * 1024)), "a")
    assert opened(targets, tmp_path).slot == mine.id
    assert work == [mine.argon2id.work]


def test_the_password_is_not_asked_for_without_a_slot_to_try(targets, work, tmp_path):
    def ask():
        raise AssertionError("no password should be requested")

    with pytest.raises(NoQuorum, match="key slot"):
        unlock(targets, REPOSITORY, ask, tmp_path)


def test_a_target_that_fails_is_passed_over(targets, work, tmp_path, monkeypatch):
    mine = slot()
    targets.put(mine, "b")

    def fail(*_args):
        raise StoreError("I/O error")

    monkeypatch.setattr(targets.stores["a/main"], "list", fail)
    assert opened(targets, tmp_path).slot == mine.id
    assert targets.failures == {"a/main": "I/O error"}


def test_a_slot_that_vanishes_while_it_is_read_is_no_failure_of_its_target(targets, work, tmp_path, monkeypatch):
    """A password is removed at this moment. A backup that is just beginning still writes there."""
    mine, gone = slot(), slot(password=b"other")
    targets.put(mine, "a")
    targets.put(gone, "a")
    store = targets.stores["a/main"]
    get = store.get

    def vanishing(name, *span):
        store.delete(f"keys/{gone.id}")
        return get(name, *span)

    monkeypatch.setattr(store, "get", vanishing)
    assert opened(targets, tmp_path).slot == mine.id
    assert targets.failures == {}


def test_keys_that_the_first_slot_lacks_come_from_another_one_of_the_same_password(targets, work, tmp_path):
    old, new = slot(FIRST), slot(SECOND)
    sealed = Keyring(REPOSITORY, SECOND).seal(SealKind.HEAD, b"text")
    targets.put(old, "a", "b")
    targets.put(new, "c")
    keyring = opened(targets, tmp_path)
    assert (keyring.slot, keyring.generation, len(work)) == (old.id, 1, 1)
    assert keyring.open(SealKind.HEAD, sealed) == b"text"
    assert (keyring.slot, keyring.generation, len(work)) == (new.id, 1, 2)
    keyring.seal_under(2)
    assert keyring.seal(SealKind.HEAD, b"")[8:12] == b"\0\0\0\2"
    assert opened(targets, tmp_path).slot == new.id, "the newer one is the one that worked last"


def test_a_key_without_a_slot_is_reported_and_not_sought_again(targets, work, tmp_path):
    targets.put(slot(), "a")
    targets.put(slot(), "b")
    keyring = opened(targets, tmp_path)
    for _ in range(2):
        with pytest.raises(KeyMissing) as caught:
            keyring.master(2)
        assert len(work) == 2
    assert caught.value.exit_code == 12


def test_until_the_manifest_names_a_key_the_first_one_seals(targets, work, tmp_path):
    """The slot may hold the key of an interrupted rotation, which exists nowhere else."""
    targets.put(slot(SECOND), "a")
    keyring = opened(targets, tmp_path)
    assert keyring.seal(SealKind.HEAD, b"")[8:12] == b"\0\0\0\1"
    keyring.seal_under(1)
    assert keyring.seal(SealKind.HEAD, b"")[8:12] == b"\0\0\0\1"


def test_another_repositorys_keys_are_not_mixed_in(targets, work, tmp_path):
    """A slot planted by an attacker, with a password of the owner but other keys."""
    targets.put(slot(FIRST), "a", "b")
    targets.put(slot({1: b"x" * 32, 2: b"y" * 32}), "c")
    keyring = opened(targets, tmp_path)
    with pytest.raises(KeyMissing):
        keyring.seal_under(2)


def test_the_bytes_that_worked_are_those_of_the_slot(targets, work, tmp_path):
    mine = slot()
    targets.put(mine, "a")
    opened(targets, tmp_path)
    assert (tmp_path / "last-slot").read_text() == object_name(mine.encode()).hex()
    assert KeySlot.decode(targets.stores["a/main"].get(f"keys/{mine.id}")) == mine
