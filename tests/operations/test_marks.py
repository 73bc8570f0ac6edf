"""Tags and holds set later: held snapshots stay, current tags apply everywhere, and old repositories open."""

from functools import partial

import msgspec
import pytest
from forget_world import NOW, ask, left, run, store
from msgspec.structs import replace
from retention_tables import time_ns

from drtool.errors import NoSuchSnapshot, Refused, Rejected
from drtool.events import ignore
from drtool.manifest.ops import ForgetSnapshots, MarkSnapshots
from drtool.manifest.records import Mark
from drtool.manifest.state import Core
from drtool.operations.forget import forget
from drtool.operations.marking import mark
from drtool.operations.selection import Narrowing, narrowed

DAYS = [f"2026-03-0{day} 12:00" for day in range(1, 5)]


def hold(_row, mark, until_ns=0):
    return replace(mark, held=True, reason="audit", until_ns=until_ns)


def tagged(*tags):
    return lambda _row, mark: replace(mark, tags=tags)


def test_a_held_snapshot_stays_for_that_reason_and_goes_after_the_release(world):
    rows = store(world, *DAYS)
    with world.open() as repository:
        mark(repository, [rows[0].id], hold)
    done = run(world, "last 1")
    assert [row.reasons for row in done.keep] == [["held"], ["last"]]
    assert left(world) == ["03-01 12:00", "03-04 12:00"]
    with pytest.raises(Refused, match="nothing was forgotten: held"):
        run(world, None, rows[0].id.hex())
    shown = run(world, None, rows[0].id.hex(), dry_run=True)
    assert "held" in shown.objections[0].message
    with world.open() as repository:
        mark(repository, [rows[0].id], lambda _row, mark: replace(mark, held=False, reason=""))
        assert not any(row.held for row in repository.view.state.marks)
    run(world, "last 1")
    assert left(world) == ["03-04 12:00"]


def test_a_hold_ends_with_its_time(world):
    rows = store(world, *DAYS)
    with world.open() as repository:
        mark(repository, [rows[0].id], partial(hold, until_ns=time_ns(NOW) + 1))
    run(world, "last 1")
    assert left(world) == ["03-01 12:00", "03-04 12:00"]
    run(world, "last 1", now="2026-12-01 00:00")
    assert left(world) == ["03-04 12:00"]


def test_tags_given_afterwards_are_those_that_rules_and_lists_see(world):
    rows = store(world, *DAYS, tags=("old",))
    with world.open() as repository:
        mark(repository, [rows[0].id], tagged("gold"))
        mark(repository, [rows[1].id], tagged())
    state = world.view().state
    assert [row.tags for row in state.snapshots] == [("gold",), (), ("old",), ("old",)]
    assert [row.id for row in narrowed(state.snapshots, Narrowing(tags=("gold",)))] == [rows[0].id]
    assert state.snapshots.get(rows[0].id).tags == ("gold",)
    run(world, "last 1, tag gold")
    assert left(world) == ["03-01 12:00", "03-04 12:00"]
    run(world, None, rows[0].id.hex())
    assert [row.snapshot for row in world.view().state.marks] == []


def test_one_that_was_held_meanwhile_is_not_forgotten(world):
    rows = store(world, *DAYS[:2])
    with world.open() as repository:
        judged = repository.view.sequence
        with world.open() as other:
            mark(other, [rows[0].id], hold)
        with pytest.raises(Rejected, match="was marked after"):
            repository.manifest.commit(ForgetSnapshots((rows[0].id,), judged=judged))
        mark(repository, [rows[0].id], lambda _row, mark: replace(mark, held=False))
        with pytest.raises(Rejected, match="was marked after"):  # for ever, though the hold is over
            repository.manifest.commit(ForgetSnapshots((rows[0].id,), judged=judged))
        mark(repository, [rows[0].id], hold)
        assert forget(repository, ask("last 1"), ignore).remove == []  # judged again, on the present state
    assert len(left(world)) == 2


def test_two_concurrent_marks_both_count(world):
    (row,) = store(world, DAYS[0])
    add = lambda word: lambda seen, mark: replace(mark, tags=(*seen.tags, word))  # noqa: E731
    with world.open() as one, world.open() as two:
        mark(two, [row.id], add("two"))
        with pytest.raises(Rejected, match="was marked after"):
            one.manifest.commit(MarkSnapshots((Mark(row.id, tags=("x",)),), judged=one.view.sequence))
        mark(one, [row.id], add("one"))
    (now,) = world.snapshots()
    assert now.tags == ("two", "one")


def test_another_host_sees_marks_after_the_log_was_compacted(world):
    rows = store(world, *DAYS[:2])
    with world.open() as repository:
        mark(repository, [rows[0].id], hold)
        mark(repository, [rows[1].id], tagged("gold"))
        repository.manifest.compact()
    state = world.elsewhere("there").view().state
    assert [row.tags for row in state.snapshots] == [(), ("gold",)]
    assert [row.reason for row in state.marks if row.held] == ["audit"]


@pytest.mark.parametrize("tags", [("x" * 257,), tuple(map(str, range(65)))])
def test_marks_stay_small(world, tags):
    (row,) = store(world, DAYS[0])
    with world.open() as repository, pytest.raises(Rejected, match="a snapshot can have 64 tags"):
        mark(repository, [row.id], tagged(*tags))


def test_only_snapshots_that_are_there_are_marked(world):
    store(world, DAYS[0])
    with world.open() as repository, pytest.raises(NoSuchSnapshot):
        mark(repository, [b"\xff" * 16], hold)


def test_a_state_that_was_written_before_there_were_marks_is_read(world):
    core = world.view().state.core()
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(core))
    older = msgspec.msgpack.encode(fields[: Core.__struct_fields__.index("marks")])
    assert msgspec.msgpack.decode(older, type=Core) == core
