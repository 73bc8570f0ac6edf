"""The progress of a restore moves within a large file."""

from itertools import pairwise

from three_sites import fill, noise

from drtool.events import Progress
from drtool.operations.restore import RestoreRequest, restore, run

MIB = 2**20


def test_the_figures_move_within_one_large_file_and_end_as_the_result(world, monkeypatch):
    monkeypatch.setattr(run, "PROGRESS_S", 0.0)
    home = fill(world.root / "home", {"disk.img": noise(56 * MIB), "note": b"a"})
    world.backup(home)
    heard = []
    with world.open() as repository:
        (row,) = repository.view.state.snapshots
        request = RestoreRequest(snapshot=row, to=bytes(world.root / "out"), workers=1)
        result = restore(repository, request, heard.append)
    shown = [event for event in heard if isinstance(event, Progress)]
    middle = {event.processed_bytes for event in shown if 0 < event.processed_bytes < 55 * MIB}
    assert len(middle) >= 2
    assert all(one.processed_bytes <= other.processed_bytes for one, other in pairwise(shown))
    assert (shown[-1].processed_bytes, shown[-1].stored_bytes) == (result.bytes, result.written_bytes)
    assert str(home / "disk.img") in {event.item for event in shown}
