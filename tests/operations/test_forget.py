"""`forget` on a real repository: the preview is the act, and nothing goes that should not."""

import msgspec
import pytest
from forget_world import NOW, ask, left, memory_of, run, store, times
from retention_tables import time_ns
from three_sites import fill, noise, portrait

from drtool.errors import DrtoolError, NoSuchSnapshot, Refused, Rejected
from drtool.manifest.ops import SetPolicy
from drtool.model import SnapshotId
from drtool.operations.forget import forget
from drtool.operations.prune import PruneRequest, prune
from drtool.operations.retention.rules import FORGET_GRACE_NS

MARCH = [f"2026-03-0{day} 12:00" for day in range(1, 7)]


def test_the_preview_is_the_act_and_then_there_is_nothing_to_do(world):
    store(world, *MARCH)
    shown = run(world, "last 2, weekly 2", dry_run=True)
    assert len(world.snapshots()) == 6
    done = run(world, "last 2, weekly 2")
    assert (done.keep, done.remove) == (shown.keep, shown.remove)
    assert [(row.reasons, row.as_oldest) for row in done.keep] == [
        (["weekly"], []),
        (["last"], []),
        (["last", "weekly"], []),
    ]
    assert left(world) == ["03-01 12:00", "03-05 12:00", "03-06 12:00"]
    again = run(world, "last 2, weekly 2")
    assert (again.remove, again.grace_until_ns) == ([], None)
    assert len(again.keep) == 3


def test_a_forgotten_snapshot_can_be_restored_until_a_prune(world):
    first, _ = store(world, *MARCH[:2])
    result = run(world, "last 1")
    assert result.grace_until_ns == time_ns(NOW) + FORGET_GRACE_NS
    (gone,) = world.view().state.forgotten
    assert (gone.snapshot.id, gone.host) == (first.id, world.host)
    restored = world.restore(world.root / "back", gone.snapshot, path=world.root / "tree")
    assert restored.errors == []
    assert set(portrait(world.root / "back")) == {b"letter"}


def test_the_following_prune_can_be_previewed(world):
    tree = fill(world.root / "tree", {"letter": noise(200_000, 1)})
    store(world, MARCH[0])
    (tree / "letter").write_bytes(noise(200_000, 2))
    store(world, MARCH[1])
    asked = PruneRequest(now_ns=time_ns(NOW), dry_run=True)
    with world.open() as repository:
        assert prune(repository, asked, world.heard.append).removed.packs == 0
        would = forget(repository, ask("last 1", dry_run=True, go_on_as_if=True), world.heard.append)
        gone = frozenset(SnapshotId(bytes.fromhex(row.id)) for row in would.remove)
        shown = prune(repository, msgspec.structs.replace(asked, as_if_forgotten=gone), world.heard.append)
    assert len(left(world)) == 2
    assert shown.removed.packs > 0
    run(world, "last 1")
    with world.open() as repository:
        done = prune(repository, msgspec.structs.replace(asked, dry_run=False), world.heard.append)
    assert (done.removed, done.repacked, done.kept) == (shown.removed, shown.repacked, shown.kept)


def test_each_host_and_source_is_judged_by_itself(world):
    store(world, *MARCH[:2])
    store(world, *MARCH[2:4], host="there")
    store(world, MARCH[4], source="etc")
    result = run(world, "last 1")
    assert [row.group for row in result.keep] == [
        "host here, source etc",
        "host here, source home",
        "host there, source home",
    ]
    assert left(world) == ["03-02 12:00", "03-04 12:00", "03-05 12:00"]
    assert len(run(world, "last 1", by=()).remove) == 2
    assert left(world) == ["03-05 12:00"]


def test_snapshots_outside_the_narrowing_are_left_alone(world):
    store(world, *MARCH[:2], tags=("nightly",))
    store(world, *MARCH[2:4])
    store(world, *MARCH[4:], host="there", tags=("nightly",))
    result = run(world, "last 1", tags=("nightly",), hosts=("here",))
    assert (len(result.keep), len(result.remove)) == (1, 1)
    assert len(left(world)) == 5


def test_a_group_that_would_be_left_empty_is_refused(world):
    store(world, *MARCH[:2])
    store(world, MARCH[2], host="there", tags=("keep",))
    shown = run(world, "tag keep", dry_run=True)
    assert [objection.message for objection in shown.objections] == [
        "no snapshot would be left of host here, source home"
    ]
    assert (len(shown.keep), len(shown.remove)) == (1, 2)
    with pytest.raises(Refused, match="nothing was forgotten: no snapshot would be left of host here") as caught:
        run(world, "tag keep")
    assert (caught.value.exit_code, caught.value.hint) == (11, "add --allow-empty if that is intended")
    assert len(left(world)) == 3
    assert run(world, "tag keep", allow_empty=True).objections == []
    assert left(world) == ["03-03 12:00"]


def test_a_snapshot_from_the_future_stays_is_reported_and_does_not_make_a_group_whole(world):
    store(world, *MARCH[:2], "2027-01-01 00:00")
    with pytest.raises(Refused, match="no snapshot would be left"):
        run(world, "tag keep")
    result = run(world, "last 1")
    assert [(row.reasons, row.future) for row in result.keep] == [(["last"], False), ([], True)]
    message = "host here, source home: 1 snapshot is dated in the future: kept, and ignored by the rules"
    assert world.warnings().count(message) == 2


def test_by_name_exactly_those_go(world):
    rows = store(world, *MARCH[:4])
    result = run(world, None, rows[1].id.hex()[:12], "latest", rows[1].id.hex())
    assert (result.keep, result.policy) == ([], None)
    assert [row.id for row in result.remove] == [rows[1].id.hex(), rows[3].id.hex()]
    assert left(world) == ["03-01 12:00", "03-03 12:00"]


def test_naming_the_last_snapshot_of_a_group_is_intent_and_it_goes(world):
    rows = store(world, *MARCH[:2])
    store(world, MARCH[2], source="etc")
    assert run(world, None, rows[0].id.hex(), rows[1].id.hex(), dry_run=True).objections == []
    run(world, None, rows[0].id.hex(), rows[1].id.hex())
    assert left(world) == ["03-03 12:00"]
    run(world, None, "latest", sources=("etc",))
    assert left(world) == []


def test_latest_that_stands_for_one_of_several_sources_does_not_empty_a_group(world):
    """A word that a person typed without knowing which source it means is no intent to lose that source's last snapshot."""
    store(world, *MARCH[:2])
    (only,) = store(world, MARCH[2], source="etc")
    with pytest.raises(Refused, match="host here, source etc"):
        run(world, None, "latest")
    assert len(left(world)) == 3
    run(world, None, "latest", only.id.hex()[:12])
    assert left(world) == ["03-01 12:00", "03-02 12:00"]


def test_a_name_that_means_nothing_means_that_nothing_happens(world):
    rows = store(world, *MARCH[:3])
    with pytest.raises(NoSuchSnapshot):
        run(world, None, rows[0].id.hex(), "ffff")
    assert len(left(world)) == 3


def set_zone(world, zone):
    with world.open() as repository:
        policy = msgspec.structs.replace(repository.view.state.policy, timezone=zone)
        repository.manifest.commit(SetPolicy(policy))


def test_days_are_those_of_the_repositorys_time_zone(world, monkeypatch):
    store(world, "2026-03-01 22:30", "2026-03-01 23:30")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert len(run(world, "daily 1", dry_run=True).remove) == 1
    assert len(run(world, "daily 2", dry_run=True).remove) == 0  # while there are slots, the oldest stays
    store(world, "2026-03-01 20:00")
    assert len(run(world, "daily 2", dry_run=True).remove) == 1
    set_zone(world, "Europe/Berlin")
    shown = run(world, "daily 2", dry_run=True)
    assert (shown.timezone, [row.as_oldest for row in shown.keep]) == ("Europe/Berlin", [[], []])
    assert [row.reasons for row in shown.keep] == [["daily"], ["daily"]]


@pytest.mark.parametrize("zone", ["Mars/Phobos", "../../etc/passwd", "CET-1CEST,M3.5.0", ""])
def test_a_time_zone_that_is_not_known_here_is_an_error_and_nothing_happens(world, zone):
    store(world, *MARCH[:2])
    set_zone(world, zone)
    with pytest.raises(DrtoolError, match="has no data for time zone") as caught:
        run(world, "last 1")
    assert caught.value.exit_code == 1
    assert len(left(world)) == 2


BURST = [f"2026-03-06 13:{minute:02}" for minute in range(6)]


def test_a_flood_is_refused_until_a_person_has_looked(world):
    store(world, *MARCH)
    run(world, "last 6")
    store(world, *BURST)
    shown = run(world, "last 6", dry_run=True)
    assert len(shown.remove) == 6
    assert "would push out 6 of 6" in shown.objections[0].message
    for _ in range(2):  # a refused run is none that counts, nor is a preview
        with pytest.raises(Refused, match="would push out 6 of 6") as caught:
            run(world, "last 6")
    assert caught.value.exit_code == 11
    assert "--yes" in caught.value.hint
    assert len(left(world)) == 12
    assert run(world, "last 6", yes=True).remove == shown.remove
    assert any("would push out 6 of 6" in message for message in world.warnings())
    assert len(left(world)) == 6


def test_the_first_run_of_a_host_gives_no_alarm_and_neither_does_one_that_lost_its_memory(world):
    store(world, *MARCH)
    run(world, "last 6")
    store(world, *BURST)
    there = world.elsewhere("there")
    assert run(there, "last 6", dry_run=True).objections == []
    memory_of(world).write_bytes(b"{torn")
    assert run(world, "last 6", dry_run=True).objections == []
    memory_of(world).unlink()
    assert len(run(world, "last 6").remove) == 6


def test_another_groups_run_does_not_hide_a_flood(world):
    store(world, *MARCH)
    store(world, *MARCH[:2], source="etc")
    run(world, "last 6")
    store(world, *BURST)
    run(world, "last 1", sources=("etc",))
    with pytest.raises(Refused, match="host here, source home: 6 snapshots added"):
        run(world, "last 6")


def test_groups_that_were_never_judged_give_no_alarm(world):
    store(world, *MARCH)
    run(world, "last 6")
    store(world, *BURST)
    assert run(world, "last 6", by=("host",), dry_run=True).objections == []
    assert len(run(world, "last 6", dry_run=True).objections) == 1


def test_fresh_backups_under_a_clock_that_fell_back_are_not_dropped(world):
    store(world, *MARCH[:3])
    run(world, "last 3")
    store(world, "1970-01-01 00:01")
    with pytest.raises(Refused, match="is dated long before snapshots"):
        run(world, "last 3")
    assert len(left(world)) == 4


def forgetting_first(repository, world, *rows):
    """Just before the first commit through `repository`, another host forgets these."""
    commit = repository.manifest.commit
    others = [lambda: run(world.elsewhere("there"), None, *(row.id.hex() for row in rows))]

    def late(ops):
        if others:
            others.pop()()
        return commit(ops)

    repository.manifest.commit = late


def test_two_concurrent_policies_do_not_lose_what_either_kept_for_the_other(world):
    """One keeps the newest and the other drops it, so the rules are applied again without it."""
    rows = store(world, *MARCH)
    with world.open() as repository:
        forgetting_first(repository, world, rows[-1], rows[-2])
        result = forget(repository, ask("last 2"), world.heard.append)
    assert [row.time_ns for row in result.keep] == [row.time_ns for row in rows[2:4]]
    assert times(rows[2:4]) == left(world)


def test_two_concurrent_runs_of_one_policy_do_the_same_as_one(world):
    rows = store(world, *MARCH)
    with world.open() as repository:
        forgetting_first(repository, world, *rows[:3])
        result = forget(repository, ask("last 2"), world.heard.append)
    assert [row.id for row in result.remove] == [rows[3].id.hex()]
    assert left(world) == times(rows[4:])


def test_rules_do_not_empty_a_group_that_another_run_made_smaller_meanwhile(world):
    rows = store(world, *MARCH[:2], tags=("old",))
    (kept,) = store(world, MARCH[2], tags=("keep",))
    with world.open() as repository:
        forgetting_first(repository, world, kept)
        with pytest.raises(Refused, match="no snapshot would be left"):
            forget(repository, ask("tag keep"), world.heard.append)
    assert left(world) == times(rows)


def test_other_hosts_forgetting_does_not_disturb(world):
    rows = store(world, *MARCH[:3])
    others = store(world, *MARCH[3:], host="there")
    with world.open() as repository:
        forgetting_first(repository, world, others[0])
        commits = []
        commit = repository.manifest.commit
        repository.manifest.commit = lambda ops: (commits.append(ops), commit(ops))[1]
        forget(repository, ask("last 1", hosts=("here",)), world.heard.append)
    assert len(commits) == 1
    assert left(world) == times([rows[2], *others[1:]])


def test_a_backup_that_ends_meanwhile_stays(world):
    rows = store(world, *MARCH[:3])
    with world.open() as repository:
        commit = repository.manifest.commit
        late = []

        def after_a_backup(ops):
            if not late:
                late.extend(store(world, MARCH[3]))
            return commit(ops)

        repository.manifest.commit = after_a_backup
        forget(repository, ask("last 1"), world.heard.append)
    assert left(world) == times([rows[2], *late])
    assert len(run(world, "last 1").remove) == 1


def test_others_that_are_always_faster_end_it(world):
    store(world, *MARCH[:3])
    with world.open() as repository:

        def refuse(_ops):
            raise Rejected("forgotten-since", "always")

        repository.manifest.commit = refuse
        with pytest.raises(Rejected, match="others keep forgetting"):
            forget(repository, ask("last 1"), world.heard.append)
    assert len(left(world)) == 3
