"""Rebalance on real repositories: exactly the copies that a ring change requires move, and nothing is lost."""

import os
import shutil

import pytest
from targets_world import D, add, drain, foresee, good_copies, live, move, set_to, stock
from thoroughness import STRIDE
from three_sites import World, in_a_child, portrait, set_apart

from drtool.events import Progress, ignore
from drtool.manifest.ops import ExpireSession
from drtool.operations.rebalance import run
from drtool.repository import moving, surplus
from drtool.repository.copying import Amount
from drtool.stores import LocalStore


@pytest.fixture(scope="module")
def stocked_once(founded, tmp_path_factory):
    world = World(tmp_path_factory.mktemp("stocked"), keyrings=list(founded.keyrings))
    shutil.copytree(founded.root, world.root, dirs_exist_ok=True)
    stock(world)
    return world


@pytest.fixture
def stocked(stocked_once, place):
    shutil.copytree(stocked_once.root, place, dirs_exist_ok=True)
    return World(place, keyrings=list(stocked_once.keyrings))


def check(world, *, misplaced=0):
    found = world.verify("full")
    assert (found.missing, found.damaged, found.degraded, found.misplaced) == ([], [], False, misplaced)
    (source,) = {os.fsdecode(row.paths[0]) for row in world.snapshots()}
    out = world.root / "out"
    assert world.restore(out, path=os.fsencode(source)).errors == []
    assert portrait(out) == portrait(world.root / "source" if (world.root / "source").exists() else source)
    shutil.rmtree(out)


def ask(**words):
    return {key: tuple(value) for key, value in words.items()}


CHANGES = [
    (ask(add=[(D, 1)]), add),
    (ask(add=[(D, 5)]), lambda world: add(world, weight=5)),
    (ask(weight=[("a/main", 4)]), lambda world: set_to(world, "a/main", weight=4)),
    (ask(drain=["b/main"]), lambda world: drain(world, "b/main")),
    (ask(add=[(D, 2)], drain=["a/main"]), lambda world: (add(world, weight=2), drain(world, "a/main"))),
]


@pytest.mark.parametrize(("imagined", "change"), CHANGES, ids=["join", "heavy-join", "weight", "drain", "swap"])
@pytest.mark.spread(4)
def test_rebalance_moves_what_the_preview_showed_before_and_after_the_change(stocked, imagined, change):
    before = foresee(stocked, **imagined)
    change(stocked)
    after = foresee(stocked)
    would = move(stocked, dry_run=True)
    did = move(stocked)
    assert before.moves == after.moves == would.moves == did.moves
    assert before.removed == after.removed == would.removed == did.removed
    assert before.minimum_fraction == after.minimum_fraction == did.minimum_fraction <= did.moves.fraction
    if "add" in imagined:
        assert did.moves.objects >= len(stocked.objects("d", "index")) > 0
    assert (before.from_epoch, after.from_epoch, did.from_epoch) == (1, 1, 1)
    assert after.to_epoch == did.to_epoch == stocked.view().state.ring_epoch
    assert (did.left, did.lost, did.degraded) == (0, [], False)
    check(stocked)
    again = move(stocked)
    assert (again.moves.objects, again.removed, again.from_epoch) == (0, Amount(), did.to_epoch)


def test_a_preview_writes_nothing_and_needs_no_directory(stocked):
    before = stocked.view().sequence, good_copies(stocked, *"abc")
    foresee(stocked, add=((D, 1),), drain=("a/main",))
    assert (stocked.view().sequence, good_copies(stocked, *"abc")) == before
    assert not stocked.directory("d").exists()


def test_copies_of_an_imagined_removal_must_come_from_the_others(stocked):
    with_it = foresee(stocked, drain=("c/main",))
    without_it = foresee(stocked, remove=("c/main",))
    assert without_it.moves == with_it.moves
    assert without_it.removed == Amount()


def test_a_drained_target_is_emptied_of_all_that_is_needed(stocked):
    add(stocked)
    drain(stocked, "b/main")
    move(stocked)
    assert live(stocked) & set(good_copies(stocked, "b")) == set()
    check(stocked)


def test_an_unreachable_target_is_waited_for_and_nothing_is_copied_instead(stocked):
    add(stocked)
    before = good_copies(stocked, *"abc")
    stocked.directory("c").rename(stocked.root / "away")
    held = {name for name in before if (stocked.root / "away" / name).exists()}
    result = move(stocked)
    assert [row.target for row in result.away] == ["c/main"]
    after = good_copies(stocked, *"abd")
    assert all(after[name] >= 1 for name in live(stocked))
    assert {name for name in live(stocked) - held if after[name] < 2} == set()
    assert result.from_epoch == 1
    (stocked.root / "away").rename(stocked.directory("c"))
    assert foresee(stocked).from_epoch == 1, "everything was never seen in its place"
    assert move(stocked).left == 0
    check(stocked)


def test_a_full_target_is_reported_and_nothing_is_removed_because_of_it(stocked, monkeypatch):
    from drtool.errors import TargetFull

    add(stocked)
    before = good_copies(stocked, *"abc")
    write = LocalStore.put

    def put(store, name, data):
        if store.root.name == "d" and name.startswith("packs/"):
            raise TargetFull("no space is left")
        write(store, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "put", put)
        result = move(stocked)
    assert result.left > 0
    assert any(row.target == D and "space" in row.reason for row in result.away)
    after = good_copies(stocked, *"abcd")
    assert all(after[name] >= before[name] for name in live(stocked))
    move(stocked)
    check(stocked)


def test_damaged_copies_are_no_source_and_do_not_survive(stocked):
    name = next(name for name, count in good_copies(stocked, *"abc").items() if count == 2 and name in live(stocked))
    holder = next(site for site in "abc" if (stocked.directory(site) / name).exists())
    path = stocked.directory(holder) / name
    path.write_bytes(bytes(path.stat().st_size))
    stocked.verify("full")
    add(stocked)
    drain(stocked, f"{holder}/main")
    move(stocked)
    assert good_copies(stocked, *"abcd")[name] == 2
    assert not path.exists()
    check(stocked)


def test_the_ring_changes_during_a_rebalance_and_the_rest_is_planned_again(stocked, monkeypatch):
    add(stocked)
    drain(stocked, "c/main")
    monkeypatch.setattr(run, "BATCH_OBJECTS", 3)
    left = ["b/main"]

    def emit(event):
        if isinstance(event, Progress) and event.total_bytes and left:
            drain(stocked, left.pop())

    result = move(stocked, emit)
    assert result.to_epoch == 4
    assert result.left == 0
    assert live(stocked) & set(good_copies(stocked, "b", "c")) == set()
    check(stocked)


def test_nothing_is_taken_for_a_ring_that_is_no_longer_the_one_it_was_planned_by(stocked):
    add(stocked)
    drain(stocked, "b/main")
    with stocked.open() as repository:
        plan = run.make_plan(repository, repository.placement, 1, ignore)
        mover = moving.Mover(repository, plan.ring, 0, 1, ignore)
        outcomes = mover.carry_out([job for job in plan.jobs if not job.idle])
        assert any(outcome.removable for outcome in outcomes)
        drain(stocked, "d/main")
        set_to(stocked, "d/main", active=True)  # the same weights and states, at a later epoch
        before = good_copies(stocked, *"abcd")
        assert mover.take_surplus(outcomes).stopped == "ring-changed"
    assert good_copies(stocked, *"abcd") == before


def test_while_another_mover_is_at_work_nothing_is_taken_away(stocked, monkeypatch):
    add(stocked)
    drain(stocked, "b/main")
    monkeypatch.setattr(run, "PATIENCE_S", 0.0)
    with stocked.open() as other:
        session = other.begin(other.writer(), "", "mover")
        result = move(stocked)
        assert result.removed == Amount()
        assert (result.stopped, run.exit_code(result)) == ("mover-open", 1)
        assert f"session {session.id.hex()[:8]}, a repair or rebalance on here (process" in result.why
        session.abandon()
    assert move(stocked).removed.objects > 0
    check(stocked)


def test_a_mover_with_an_expired_session_stops_before_the_next_batch_and_leaves_no_session(stocked, monkeypatch):
    add(stocked)
    drain(stocked, "b/main")
    monkeypatch.setattr(surplus, "BATCH_OBJECTS", 1)
    plain, ended = surplus.remove, []

    def remove_one(targets, target, name):
        if not ended:
            ended.append(name)
            with stocked.open() as other:
                (row,) = (row for row in other.view.state.sessions if row.kind == "mover")
                other.manifest.commit(ExpireSession(expired=row.id))
        return plain(targets, target, name)

    with monkeypatch.context() as patch:
        patch.setattr(surplus, "remove", remove_one)
        result = move(stocked)
    assert result.removed.objects == 1
    assert (result.stopped, run.exit_code(result)) == ("expired", 1)
    assert "expired while it removed copies" in result.why
    assert stocked.view().state.sessions == ()
    move(stocked)
    check(stocked)


@pytest.mark.sampled
def test_killed_at_any_step_it_has_harmed_nothing_and_the_next_run_finishes(founded, place, monkeypatch):
    base = World(place / "base", keyrings=list(founded.keyrings))
    shutil.copytree(founded.root, base.root)
    stock(base, 2)
    add(base)
    drain(base, "b/main")
    needed, before = live(base), good_copies(base, *"abcd")
    base = set_apart(base)
    for steps in range(0, 200, STRIDE):
        tried = World(place / f"{steps}", (*base.targets, "d/main"), keyrings=base.keyrings)
        shutil.copytree(base.root, tried.root, ignore=shutil.ignore_patterns("source"))
        finished = in_a_child(lambda tried=tried, steps=steps: killed_after(steps, tried, monkeypatch)) == 0
        now = good_copies(tried, *"abcd")
        assert {name for name in needed if now[name] < min(2, before[name])} == set(), steps
        result = move(tried)
        assert (steps, result.left, result.lost, result.degraded) == (steps, 0, [], False)
        after = tried.verify("structure")
        assert (steps, after.missing, after.misplaced, after.degraded) == (steps, [], 0, False)
        assert (steps, tried.view().state.sessions) == (steps, ())
        shutil.rmtree(tried.root)
        if finished:
            assert steps > 20
            return
    raise AssertionError("it did not end")


def killed_after(steps, world, monkeypatch):
    """Rebalances until so many writes and deletions were done: the next one is not."""
    left = [steps]

    def counted(plain):
        def step(store, *words, **options):
            if left[0] == 0:
                os._exit(9)
            left[0] -= 1
            return plain(store, *words, **options)

        return step

    for name in ("_write", "delete"):
        monkeypatch.setattr(LocalStore, name, counted(getattr(LocalStore, name)))
    move(world)
