"""A new key for new objects: stored data stays readable, and no kept password ever opens only a part."""

import mmap
import os
import shutil
import signal
import struct

import pytest
from keys_world import PASSWORD, SECOND, THIRD, KeyWorld, cheap, founded_cheaply, keys
from msgspec.structs import replace
from thoroughness import STRIDE
from three_sites import everything, in_a_child, portrait

from drtool.errors import KeyMissing, NoQuorum, Refused, Rejected, TargetFull, WrongPassword
from drtool.manifest.facade import Manifest
from drtool.manifest.ops import SetKeys
from drtool.operations.keys import plan_rotation, preview
from drtool.operations.keys import rotating as rotating_module
from drtool.stores import LocalStore, durable, local

__all__ = ["cheap", "founded_cheaply", "keys"]


def generations(world, site):
    """The key generations in the headers of the packs at a site."""
    return {int.from_bytes(path.read_bytes()[8:12], "big") for path in world.objects(site)}


def opens_completely(world, passwords, snapshots):
    """Each password reads every snapshot back."""
    for password in passwords:
        with world.open(password=password) as repository:
            rows = list(repository.view.state.snapshots)
            assert len(rows) == snapshots
            for row in rows:
                out = world.root / "out"
                assert world.run_restore(repository, out, row).errors == []
                assert portrait(out)
                shutil.rmtree(out)


def test_new_objects_are_sealed_under_the_new_key_and_old_ones_stay_readable(keys):
    keys.store_something(1)
    old = keys.slot_names("a")
    done = keys.rotate()
    assert (done.previous_generation, done.generation) == (1, 2)
    assert [row.replaces for row in done.kept] == [old]
    assert (done.missing, done.still_at, done.dropped) == ([], [], [])
    assert generations(keys, "a") | generations(keys, "b") | generations(keys, "c") == {1}
    keys.store_something(2)
    assert generations(keys, "a") | generations(keys, "b") | generations(keys, "c") == {1, 2}
    opens_completely(keys, [PASSWORD], 2)
    assert keys.slot_names("a") == keys.slot_names("b") == keys.slot_names("c") == [done.kept[0].id]
    assert keys.problems() == []
    result = keys.verify()
    assert (result.missing, result.damaged) == ([], [])


def test_deduplication_survives_a_rotation(keys):
    keys.store_something(1)
    keys.rotate()
    assert keys.store_something(1).added_bytes < 1000, (
        "a directory page, since the file's 30,000 bytes are already stored"
    )


def test_a_password_that_would_be_left_behind_is_named_and_nothing_happens(keys):
    added = keys.add(SECOND, "oslo")
    before = [everything(keys.directory(site)) for site in "abc"]
    with pytest.raises(Refused, match=rf"{added.id} \(oslo\)") as caught:
        keys.rotate()
    assert caught.value.exit_code == 11
    assert "--also-password-file" in caught.value.hint
    assert [everything(keys.directory(site)) for site in "abc"] == before


def test_every_password_that_is_given_goes_on(keys):
    keys.store_something(1)
    keys.add(SECOND, "oslo")
    keys.add(THIRD, "rome")
    done = keys.rotate(SECOND, THIRD)
    assert sorted(row.label for row in done.kept) == ["oslo", "password set at init on here", "rome"]
    keys.store_something(2, password=THIRD)
    opens_completely(keys, [PASSWORD, SECOND, THIRD], 2)


def test_a_password_that_opens_nothing_is_reported(keys):
    with pytest.raises(WrongPassword, match="file 0"):
        keys.rotate(b"misspelt")
    assert len(keys.slot_names("a")) == 1


def test_a_password_that_is_dropped_opens_nothing_more(keys):
    added = keys.add(SECOND)
    done = keys.rotate(drop_others=True)
    assert [row.id for row in done.dropped] == [added.id]
    with pytest.raises(WrongPassword), keys.open(password=SECOND):
        pass


@pytest.mark.parametrize("written", [False, True])
def test_a_host_with_a_dropped_slot_gets_the_reason_why_it_does_not_open(keys, written):
    """Removal does not revoke: the old slot still opens old data, and newer data gives a clear error."""
    keys.store_something(1)
    added = keys.add(SECOND)
    kept = (keys.directory("a") / "keys" / added.id).read_bytes()
    keys.rotate(drop_others=True)
    if written:
        keys.store_something(2)
    (keys.directory("a") / "keys" / added.id).write_bytes(kept)
    with pytest.raises(KeyMissing, match="key generation 2") as caught, keys.open(password=SECOND):
        pass
    assert caught.value.exit_code == 12
    assert "key add" in caught.value.hint
    opens_completely(keys, [PASSWORD], 1 + written)


def test_a_dry_run_reports_and_changes_nothing(keys):
    added = keys.add(SECOND, "oslo")
    before = [everything(keys.directory(site)) for site in "abc"]
    with keys.open() as repository:
        shown = preview(repository, plan_rotation(repository, [], drop_others=True))
    assert [everything(keys.directory(site)) for site in "abc"] == before
    assert (shown.generation, shown.dry_run, [row.id for row in shown.dropped]) == (None, True, [added.id])


# --- sites that are away ---


def test_a_site_that_was_away_gets_the_new_slots_before_anything_new(keys):
    """Otherwise it could not be opened if it alone were left."""
    keys.store_something(1)
    with keys.away("c"):
        done = keys.rotate()
        assert [row.target for row in done.missing] == ["c/main"]
        assert [row.target for row in done.still_at] == ["c/main"]
    keys.store_something(2)
    assert keys.slot_names("c") == [done.kept[0].id]
    with keys.away("a", "b"), keys.open(manifest_from=("c",)) as repository:
        assert repository.keyring.generation == 2
        assert len(list(repository.view.state.snapshots)) == 2


def test_an_old_slot_that_is_tried_first_does_not_hide_the_new_one(keys):
    """Site a was away and shows the old slot of the very same password, on hosts that used it last and on new ones."""
    keys.store_something(1)
    other = keys.elsewhere("other")
    with other.open():
        pass
    with keys.away("a"):
        done = keys.rotate()
        keys.store_something(2)
    for world in (other, keys.elsewhere("new")):
        with world.open() as repository:
            assert (repository.keyring.generation, repository.keyring.slot) == (2, done.kept[0].id)
    assert keys.slot_names("a") != [done.kept[0].id], "there was no write since"


def test_too_few_targets_for_a_new_key_change_nothing(keys, monkeypatch):
    write = LocalStore._write

    def refuse(store, name, data, *, replace):
        if name.startswith("keys/") and store.root != keys.directory("a"):
            raise TargetFull(f"{store.root} is full")
        return write(store, name, data, replace=replace)

    before = keys.keys().slots
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "_write", refuse)
        with pytest.raises(Refused, match="2 of 3 targets") as caught:
            keys.rotate()
    assert caught.value.exit_code == 11
    assert keys.keys().slots == before
    assert keys.slot_names("a") == [before[0].id]


def test_without_a_quorum_both_kinds_of_slot_stay_and_open(keys, monkeypatch):
    """The answer got lost: whether the manifest names the new key is not known, so nothing that it may name is removed."""
    keys.store_something(1)
    commit = Manifest.commit

    def lose_the_answer(manifest, ops):
        committed = commit(manifest, ops)
        if isinstance(ops, SetKeys) and ops.keys.generation == 2:
            raise NoQuorum("no answer")
        return committed

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "commit", lose_the_answer)
        with pytest.raises(NoQuorum, match="not decided"):
            keys.rotate()
    assert len(keys.slot_names("a")) == 2
    opens_completely(keys, [PASSWORD], 1)
    keys.store_something(2)
    assert len(keys.slot_names("a")) == 1, "the manifest named it, so the old one goes"
    opens_completely(keys, [PASSWORD], 2)


# --- at once ---


def meanwhile(monkeypatch, first, generation):
    """Just before a rotation is committed, `first` happens."""
    commit = Manifest.commit
    pending = [first]

    def committing(manifest, ops):
        if isinstance(ops, SetKeys) and ops.keys.generation == generation and pending:
            pending.pop()()
        return commit(manifest, ops)

    monkeypatch.setattr(Manifest, "commit", committing)


def test_of_two_rotations_at_once_one_wins_and_no_number_stands_for_two_keys(keys, monkeypatch):
    keys.store_something(1)
    meanwhile(monkeypatch, keys.rotate, 2)
    with pytest.raises(Rejected, match="changed by another run"):
        keys.rotate()
    listed = keys.keys()
    assert listed.generation == 3, "2 was drawn by the other one and never used"
    assert keys.slot_names("a") == [listed.slots[0].id]
    keys.store_something(2)
    opens_completely(keys, [PASSWORD], 2)


def test_a_password_that_is_added_during_a_rotation_is_not_lost(keys, monkeypatch):
    meanwhile(monkeypatch, lambda: keys.add(SECOND), 2)
    with pytest.raises(Rejected, match="changed by another run"):
        keys.rotate()
    opens_completely(keys, [PASSWORD, SECOND], 0)
    assert keys.problems() == []


def test_a_run_that_began_before_the_rotation_ends_without_harm(keys):
    """It seals under the old key until it reads the manifest. Then it fails clearly, and the next run continues."""
    with keys.open() as repository:
        keys.rotate()
        source = keys.root / "source"
        source.mkdir()
        (source / "file").write_bytes(b"old" * 1000)
        keys.run_backup(repository, source)
        keys.store_something(2)
        (source / "file").write_bytes(b"older" * 1000)
        with pytest.raises(KeyMissing, match="key generation 2") as caught:
            keys.run_backup(repository, source)
        assert "run the command again" in caught.value.hint
    opens_completely(keys, [PASSWORD], 2)
    keys.store_something(3)
    opens_completely(keys, [PASSWORD], 3)


def test_a_number_is_never_drawn_twice_even_after_a_forced_recovery(keys, monkeypatch):
    """The manifest may have lost the last rotation, but its generation keeps the numbers distinct."""
    with keys.open() as repository:
        held = rotating_module.make_ready(repository, keys.heard.append)
        first = rotating_module._draw_number(repository, held)
        assert rotating_module._draw_number(repository, held) == first + 1 == 3
        config = type(repository.view.config)(2, 1, repository.view.config.voters, 2, bytes(16))
        monkeypatch.setattr(type(repository.view), "config", config)
        assert rotating_module._draw_number(repository, held) == 2**20 + 1


# --- killed ---

CALLS = ("open", "write", "fsync", "rename", "link", "mkdir", "unlink")
STEPS_MAX = 600


class CountedOs:
    """A stand-in for the local store's `os`: the process group dies at one of its changes."""

    def __init__(self, step):
        self._memory = mmap.mmap(-1, 16)
        self._memory[:] = struct.pack("qq", 0, step)

    def __getattr__(self, name):
        call = getattr(os, name)
        if name not in CALLS:
            return call

        def counted(*args, **more):
            if name != "open" or (len(args) > 1 and args[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                taken, last = struct.unpack("qq", self._memory[:])
                self._memory[:8] = struct.pack("q", taken + 1)
                if taken + 1 == last:
                    os.killpg(0, signal.SIGKILL)
            return call(*args, **more)

        return counted


def killed_at(world, step):
    def run():
        os.setpgid(0, 0)
        durable.os = local.os = CountedOs(step)
        world.rotate(SECOND)

    return in_a_child(run)


@pytest.mark.sampled
def test_killed_at_every_step_every_password_opens_everything(keys, place):
    keys.store_something(1)
    keys.add(SECOND)
    saved = place.parent / (place.name + "-saved")
    shutil.copytree(place, saved)
    seen = set()
    try:
        for step in range(1, STEPS_MAX, STRIDE):
            shutil.rmtree(place)
            shutil.copytree(saved, place)
            code = killed_at(keys, step)
            survived(keys, step, thoroughly=step % 16 == 1 or code == 0, seen=seen)
            if code == 0:
                break
            assert code == -signal.SIGKILL
        else:
            pytest.fail("the rotation has more steps than this test tries")
    finally:
        shutil.rmtree(saved)
    assert step > 60
    assert {(1, 2), (1, 4), (2, 4), (2, 2)} <= seen, "killed before, between and after"
    assert {generation for generation, _ in seen} == {1, 2}


def survived(world, step, *, thoroughly, seen):
    """Check that either password opens. If requested, write with one, read all with both, and rotate again."""
    with world.open(password=(SECOND, PASSWORD)[step % 2]) as repository:
        generation = repository.keyring.generation
        assert generation == repository.view.state.keys.generation
    seen.add((generation, len(world.slot_names("b"))))
    if thoroughly:
        world.store_something(2, password=SECOND)
        opens_completely(world, [PASSWORD, SECOND], 2)
        assert world.rotate(SECOND).generation > generation
        world.store_something(3)
        opens_completely(world, [PASSWORD, SECOND], 3)
        left = [problem for problem in world.problems() if "is not in the manifest" not in problem]
        assert left == []


class MuteWorld(KeyWorld):
    """The third site only stores."""

    def spec(self, **more):
        spec = super().spec(**more)
        rows = tuple(replace(row, vote="false") if row.name == "c/main" else row for row in spec.targets)
        return replace(spec, targets=rows)


def test_a_site_that_only_stores_opens_its_copy_of_the_catalogue_by_itself_before_and_after_a_rotation(keys):
    world = MuteWorld(keys.root / "mute")
    world.root.mkdir()
    world.found(copies=3)
    world.store_something(1)
    with world.away("c"):
        world.rotate()
        world.store_something(2)

    def seen_from_c(host):
        stranger = world.elsewhere(host)
        with stranger.open(targets=("c/main",), manifest_from=("c",)) as repository:
            return len(repository.view.state.snapshots), repository.view.mirror

    assert seen_from_c("early") == (1, "c/main"), "its own slots open its objects"
    world.store_something(3)
    assert seen_from_c("late") == (3, "c/main"), "slots go before a head that they are needed for"
