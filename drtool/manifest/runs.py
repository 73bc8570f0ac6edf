"""The runs of plans that the manifest keeps. Pure."""

from collections.abc import Sequence

from drtool.manifest.records import RecordedRun
from drtool.manifest.rejection import Refused

RUNS_LIMIT = 100
RUNS_OF_A_PLAN = 20
RUN_WORD_CHARACTERS = 256


def with_run(before: Sequence[RecordedRun], run: RecordedRun) -> tuple[RecordedRun, ...]:
    """Return the runs with this one.

    The newest of each plan stay, up to a total limit, since the state must stay small.
    """
    words = (run.id, run.plan, run.plan_digest, run.host, run.user, run.verdict, run.digest)
    if not run.id or not run.plan or max(map(len, words)) > RUN_WORD_CHARACTERS or len(run.objectives) > 16:
        raise Refused("bad-run", "a run is recorded by its id, its plan and a few short words")
    runs = [*(row for row in before if row.id != run.id), run]
    same = [row for row in runs if row.plan == run.plan]
    runs = _without_oldest(runs, same, len(same) - RUNS_OF_A_PLAN)
    runs = _without_oldest(runs, runs, len(runs) - RUNS_LIMIT)
    return tuple(runs[-RUNS_LIMIT:])


def _without_oldest(runs: list[RecordedRun], among: list[RecordedRun], count: int) -> list[RecordedRun]:
    """Return the runs without the `count` oldest of `among`. Each plan keeps its newest and its newest passed run."""
    if count <= 0:
        return runs
    proofs = {row.plan: row.id for row in runs} | {
        (row.plan, "passed"): row.id for row in runs if row.verdict == "passed"
    }
    kept = set(proofs.values())
    gone = {row.id for row in [row for row in among if row.id not in kept][:count]}
    return [row for row in runs if row.id not in gone]
