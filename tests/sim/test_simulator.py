"""The manifest in a hostile world: random seeds, and the proof that a broken protocol does not get through them."""

from dataclasses import replace

import pytest
from sim_linear import Operation, is_linearizable
from sim_mutations import MUTATIONS, PROFILE
from sim_options import limits_of, options_of
from sim_run import Run, run_seed

SEEDS = 500
CHUNKS = 10
MUTATION_SEEDS = 400


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_seed_violates_anything(chunk):
    """Forks, duplicates, lost acknowledgements, false alarms, and one order that explains every answer."""
    for seed in range(chunk, SEEDS, CHUNKS):
        result = run_seed(options_of(seed))
        assert not result.violations, _report(result)


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_a_broken_protocol_is_caught(name):
    with MUTATIONS[name]():
        assert any(run_seed(options_of(seed, PROFILE[name])).violations for seed in range(MUTATION_SEEDS))


def test_a_seed_replays_exactly():
    first, second = (run_seed(options_of(11, "everything")) for _ in range(2))
    assert first == second
    assert first.requests > 100


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


def _report(result):
    again = f"python tests/sim/run.py --seed {result.options.seed}"
    return "\n".join([str(result.options), *result.violations, f"again: {again}"])


@pytest.mark.parametrize("site_count", [3, 5])
def test_a_commit_that_crashes_at_any_step_is_all_or_nothing(site_count):
    """Every numbered step of one commit, before and after its request goes out; then another host, then the same again."""
    for step in range(1, 1000):
        options = replace(options_of(step), profile="calm", site_count=site_count, clients=0)
        with limits_of(options):
            run = Run(options)
            if not run.crash_one_commit(step):
                break
        assert not run.violations, (step, run.violations)
    assert step > 6 * site_count
