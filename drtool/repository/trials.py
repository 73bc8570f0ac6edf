"""Slow questions to targets, such as whether one can vote, with progress events while the answers are awaited."""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import TypeVar

from drtool.events import Emit, Progress
from drtool.model import TargetName
from drtool.repository.places import vote_verdict
from drtool.repository.spec import TargetSpec
from drtool.stores import VoteVerdict

SIGN_OF_LIFE_S = 1.0

T = TypeVar("T")


def try_all(trials: Mapping[TargetName, Callable[[], T]], emit: Emit) -> dict[TargetName, T]:
    """Return the results of all trials, which run at the same time. The first error by order is raised."""
    began_s = time.monotonic()
    with ThreadPoolExecutor(len(trials), "drtool-trial") as threads:
        asked = {name: threads.submit(trial) for name, trial in trials.items()}
        while wait(asked.values(), SIGN_OF_LIFE_S).not_done:
            emit(trial_progress([name for name, answer in asked.items() if not answer.done()], len(asked), began_s))
        return {name: answer.result() for name, answer in asked.items()}


def trial_progress(pending: Iterable[str], total: int, began_s: float) -> Progress:
    """Return how many targets have answered, and which are waited for since `began_s`."""
    waits_s = dict.fromkeys(pending, round(time.monotonic() - began_s, 1))
    return Progress(counted="target", files=total - len(waits_s), total_files=total, waiting_s=waits_s)


def tried_vote(spec: TargetSpec, emit: Emit) -> VoteVerdict:
    """Return whether a register may be at a place, as `vote_verdict` does, with progress events."""
    return try_all({spec.name: partial(vote_verdict, spec)}, emit)[spec.name]
