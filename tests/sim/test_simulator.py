"""The manifest in a hostile world: random seeds, and the proof that a broken protocol does not get through them."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from sim_catches import CATCHES, caught
from sim_crash import commit, crash_one, recovery, voters
from sim_linear import Operation, is_linearizable
from sim_mutations import MUTATIONS
from sim_options import options_of
from sim_run import run_seed
from sim_schedule import PEACE
from thoroughness import STRIDE, sample, spread

SEEDS = sample(800, 0.1)
CHUNKS = 16


@pytest.mark.sampled
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_seed_violates_anything(chunk):
    """Forks, duplicates, lost acknowledgements, false alarms, and one order that explains every answer."""
    for seed in range(chunk, SEEDS, CHUNKS):
        result = run_seed(options_of(seed))
        assert not result.violations, _report(result)


@pytest.mark.parametrize("name", spread(sorted(MUTATIONS), 5))
def test_a_broken_protocol_is_caught(name):
    catch, violations = caught(name)
    assert violations, "neither its own seed or schedule catches it any more, nor any other"
    assert catch is not None


def test_every_mutation_says_what_catches_it():
    assert set(CATCHES) == set(MUTATIONS)


def test_a_seed_replays_exactly():
    first, second = (run_seed(options_of(11, "everything")) for _ in range(2))
    assert first == second
    assert first.requests > 100


def test_a_seed_replays_in_another_process_whose_sets_have_another_order():
    program = "from sim_options import options_of; from sim_run import run_seed; print(run_seed(options_of(9097)))"
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": order},
            capture_output=True,
            check=True,
        ).stdout
        for order in ("0", "1")
    }
    assert len(told) == 1


def test_the_worlds_are_hostile_and_most_operations_succeed_all_the_same():
    results = [run_seed(options_of(seed, "everything")) for seed in range(20)]
    assert sum(result.crashes for result in results) > 5
    operations = sum(result.operations for result in results)
    assert sum(result.acknowledged for result in results) > operations * 0.7


@pytest.mark.parametrize(
    ("history", "verdict"),
    [
        ([Operation("append", "a", 0, 1, ("a",)), Operation("read", None, 2, 3, (("a",), 1))], True),
        ([Operation("append", "a", 0, 1, ("a",)), Operation("read", None, 2, 3, ((), 1))], False),
        ([Operation("append", "a", 0, 9, ("a",)), Operation("read", None, 2, 3, ((), 1))], True),
        ([Operation("append", "a", 0), Operation("read", None, 2, 3, (("a",), 1))], True),
        ([Operation("append", "a", 0, 5, ("a",)), Operation("append", "b", 0, 5, ("b",))], False),
        ([Operation("append", "a", 0, 5, ("b", "a")), Operation("append", "b", 0, 5, ("b",))], True),
        ([Operation("epoch", 2, 0, 1, answer=True), Operation("epoch", 2, 2, 3, answer=True)], False),
        ([Operation("epoch", 2, 0, 1, answer=True), Operation("epoch", 2, 2, 3, answer=False)], True),
        (
            [
                Operation("append", "a", 0),
                Operation("read", None, 1, 2, (("a",), 1)),
                Operation("read", None, 3, 4, ((), 1)),
            ],
            False,
        ),
    ],
)
def test_the_checker_knows_what_is_linearizable(history, verdict):
    assert is_linearizable(history) is verdict


def test_many_operations_without_an_answer_do_not_keep_the_checker_busy():
    appends = [Operation("append", f"m{number}", 0) for number in range(24)]
    reads = [Operation("read", None, at, at + 1, (("m7", "m3", "m9")[:at], 1)) for at in range(1, 4)]
    assert is_linearizable([*appends, *reads])
    assert not is_linearizable([*appends, *reads, Operation("read", None, 9, 10, (("m7", "m9"), 1))])


def _report(result):
    again = f"python tests/sim/run.py --seed {result.options.seed}"
    return "\n".join([str(result.options), *result.violations, f"again: {again}"])


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("errand", "changes", "steps"),
    [
        (commit, {}, 18),
        (commit, {"site_count": 5, "recent_limit": 5, "collect_every": 1, "fan_out": 2, "retired_changes": 2}, 35),
        (commit, {"cas_sites": 2}, 18),
        (voters("site0", "site1", "site2", "site3"), {"spares": 1, "recent_limit": 5}, 60),
        (voters("site0", "site1", "site2"), {"site_count": 5}, 60),
        (voters("site0", "site1", "site3"), {"spares": 1, "cas_sites": 1}, 50),
        (voters("site0", "site1", "site2", fresh="site1"), {}, 50),
        (recovery, {}, 25),
        (recovery, {"site_count": 5, "cas_sites": 1}, 30),
    ],
    ids=[
        "commit",
        "commit of five, folding",
        "commit, mixed",
        "add",
        "remove",
        "replace",
        "new life",
        "recover",
        "of five",
    ],
)
def test_whatever_dies_at_any_step_harms_nobody_and_is_finished(errand, changes, steps):
    """Every numbered step, before and after its request goes out; then another host commits, then the same host again."""
    for step in range(1, 1000, STRIDE):
        options = replace(PEACE, seed=step, **changes)
        crashes = [crash_one(options, errand, step, lands=lands) for lands in (False, True)]
        for crash in crashes:
            assert not crash.violations, (step, crash.violations)
        if not any(crash.died for crash in crashes):
            break
    assert step > steps


@pytest.mark.thorough
def test_every_world_is_as_bad_as_it_says():
    """Liars lie, processes die, disasters strike, and a rollback that is not prevented is told to who can know."""
    lying, crashing, struck, set_back, rotated, copied, imaged, calm = (
        [run_seed(options_of(seed, name)) for seed in range(40)]
        for name in ("lying", "crashes", "recovery", "rolled-back", "rotated", "copied", "images", "calm")
    )
    assert sum(result.rotations for result in rotated) > 20
    assert sum(result.turned_away for result in copied) > 40
    assert min(sum(result.restored for result in imaged), sum(result.clones for result in imaged)) > 10
    assert sum(result.lies for result in lying) > 500
    assert sum(result.crashes for result in crashing) > 10
    assert sum(result.struck for result in struck) > 20
    assert sum(result.alarms for result in set_back) > 0
    assert not any(result.alarms or result.crashes or result.lies or result.struck for result in calm)
