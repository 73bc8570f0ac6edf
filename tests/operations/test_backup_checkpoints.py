"""The times of a backup's checkpoints, in virtual time."""

from itertools import pairwise

import pytest

from drtool.operations.backup.checkpoints import CHECKPOINT_BYTES, CHECKPOINT_CHUNKS, CHECKPOINT_S, Checkpoints


def notes(until_s):
    """When notes are made by a run that is asked every second and makes no checkpoint."""
    checkpoints = Checkpoints(0.0)
    return [now_s for now_s in range(1, until_s) if checkpoints.begins_note(float(now_s))]


def test_a_run_that_is_killed_repeats_half_a_minute_or_a_twentieth():
    made = notes(36_000)
    assert made[0] == 30
    assert all(after - before <= max(30, 0.0527 * after) + 1 for before, after in pairwise(made))


def test_a_long_night_makes_few_segments():
    assert len(notes(36_000)) < 110


@pytest.mark.parametrize("added", [(CHECKPOINT_BYTES, 0), (0, CHECKPOINT_CHUNKS)])
def test_a_checkpoint_is_due_after_so_much_and_again_after_as_much_more(added):
    checkpoints = Checkpoints(0.0)
    assert not checkpoints.is_due(1.0, *(max(0, count - 1) for count in added))
    assert checkpoints.is_due(1.0, *added)
    checkpoints.made(1.0, *added)
    assert not checkpoints.is_due(2.0, *added)
    assert checkpoints.is_due(2.0, *(2 * count for count in added))


def test_a_checkpoint_is_due_after_a_while_and_counts_as_a_note():
    checkpoints = Checkpoints(0.0)
    assert checkpoints.is_due(CHECKPOINT_S, 0, 0)
    checkpoints.made(CHECKPOINT_S, 0, 0)
    assert not checkpoints.begins_note(CHECKPOINT_S + 29)
    assert checkpoints.begins_note(CHECKPOINT_S + 40)
