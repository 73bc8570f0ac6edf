"""Every target fills up in the middle of a run: one sentence says so, and what was stored is known to the next run."""

import pytest
from three_sites import fill, noise, portrait

from drtool.errors import DrtoolError
from drtool.repository import targets as targets_module
from drtool.repository.targets import Targets
from drtool.stores.faults import Faults, FaultyStore

MIB = 1024 * 1024


class FaultyPacks(FaultyStore):
    """Data packs are refused; the manifest, trees and index segments are not."""

    def put(self, name, data):
        if name.startswith("packs/") and len(data) > MIB:
            super().put(name, data)
        else:
            self.inner.put(name, data)


@pytest.fixture
def full_after(monkeypatch):
    plain = targets_module.open_store
    room = []

    def opener(spec):
        store = plain(spec)
        return FaultyPacks(store, Faults(full_after_bytes=room[0])) if room else store

    monkeypatch.setattr(Targets.__init__, "__defaults__", (opener,))
    return room


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.thorough), 2])
def test_when_every_target_is_full_one_sentence_says_so_and_what_is_stored_is_reused(world, full_after, capfd, workers):
    world.workers = workers
    source = fill(world.root / "source", {f"{i:02}": noise(2 * MIB, i) for i in range(44)})
    full_after.append(24 * MIB)
    with pytest.raises(DrtoolError, match="could be stored on 0 of the 1 sites") as caught:
        world.backup(source)
    assert caught.value.hint
    assert "Traceback" not in capfd.readouterr().err
    full_after.clear()
    report = world.backup(source)
    assert report.added_bytes < report.processed_bytes - 12 * MIB
    assert world.restore(world.root / "out", path=source).errors == []
    assert portrait(world.root / "out") == portrait(source)
