"""The runs that anybody knows of: those that the catalogue has, and those in this host's journals. PURE.

Invariants
    A run that both know is one row; where they disagree about it, the row says so and neither is believed.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from statistics import median

from msgspec import Struct
from msgspec.structs import replace

from drtool.manifest.records import RecordedRun
from drtool.plans.evidence.past import PastRun

ESTIMATED_FROM = 5
"""How many of the last runs an estimate is made of."""
TREND_RUNS = 20


class HistoryRow(Struct, frozen=True, kw_only=True):
    """`measured` and `targets` in seconds, by objective; `here`: its journal is on this host; `problem`: why it
    proves nothing."""

    run_id: str
    plan: str
    host: str
    user: str = ""
    began_ns: int
    seconds: float
    verdict: str
    exit_code: int | None = None
    measured: Mapping[str, float | None] = {}
    targets: Mapping[str, float | None] = {}
    human_seconds: float = 0.0
    recorded: bool = False
    here: bool = False
    digest: str = ""
    problem: str = ""


class Estimate(Struct, frozen=True, kw_only=True):
    """What the last runs took, in seconds; `runs` is 0 where the plan itself says so and there is none."""

    min: float
    median: float
    max: float
    runs: int


def history(recorded: Iterable[RecordedRun], past: Iterable[PastRun], host: str) -> list[HistoryRow]:
    """All runs, oldest first."""
    rows = {run.id: _recorded(run) for run in recorded}
    for run in past:
        known = rows.get(run.run_id)
        rows[run.run_id] = _here(run, host) if known is None else _both(known, run)
    return sorted(rows.values(), key=lambda row: (row.began_ns, row.run_id))


def estimate(values: Sequence[float]) -> Estimate | None:
    """Of the newest of `values`, which are oldest first; None where nobody knows anything."""
    newest = values[-ESTIMATED_FROM:]
    if not newest:
        return None
    low, middle, high = min(newest), median(newest), max(newest)
    return Estimate(min=round(low, 3), median=round(middle, 3), max=round(high, 3), runs=len(newest))


def estimates(rows: Iterable[HistoryRow], plan: str) -> dict[str, Estimate | None]:
    """By objective, of a plan's runs: of those that came so far, whatever became of them afterwards."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.plan == plan and not row.problem:
            for name, value in row.measured.items():
                if value is not None:
                    found.setdefault(name, []).append(value)
    return {name: estimate(values) for name, values in found.items()}


def step_estimates(past: Iterable[PastRun], plan: str, own_s: Mapping[str, float | None]) -> dict[str, Estimate | None]:
    """By step, of this host's runs that are over, oldest first; else what the plan says itself (`own_s`: of all its steps)."""
    took: dict[str, list[float]] = {}
    for run in past:
        if run.plan == plan and run.verdict and not run.problem:
            for step, seconds in run.step_seconds.items():
                took.setdefault(step, []).append(seconds)
    return {step: estimate(took.get(step, ())) or _own(says_s) for step, says_s in own_s.items()}


def _own(seconds: float | None) -> Estimate | None:
    return None if seconds is None else Estimate(min=seconds, median=seconds, max=seconds, runs=0)


def _recorded(run: RecordedRun) -> HistoryRow:
    return HistoryRow(
        run_id=run.id,
        plan=run.plan,
        host=run.host,
        user=run.user,
        began_ns=run.began_ns,
        seconds=round(max(0, run.ended_ns - run.began_ns) / 1e9, 3),
        verdict=run.verdict,
        exit_code=run.exit_code,
        measured={row.name: row.measured_s for row in run.objectives},
        targets={row.name: row.target_s for row in run.objectives},
        human_seconds=run.human_s,
        recorded=True,
        digest=run.digest,
    )


def _here(run: PastRun, host: str) -> HistoryRow:
    """One that no site knows of: it is under way, died, could not be recorded, or cannot be read."""
    began_ns = round(datetime.fromisoformat(run.began).timestamp() * 1e9) if run.began else 0
    return HistoryRow(
        run_id=run.run_id,
        plan=run.plan,
        host=host,
        began_ns=began_ns or _from_id(run.run_id),
        seconds=round(run.seconds, 3),
        verdict=run.verdict or ("at work" if run.at_work else "unfinished"),
        exit_code=run.exit_code,
        measured={name: row.get("measured") for name, row in run.objectives.items()},
        targets={name: row.get("target") for name, row in run.objectives.items()},
        here=True,
        digest=run.digest,
        problem=run.problem,
    )


def _both(known: HistoryRow, run: PastRun) -> HistoryRow:
    problem = run.problem
    if not problem and run.digest != known.digest:
        problem = "the journal here is not the one that was recorded: one of the two was changed"
    return replace(known, here=True, problem=problem)


def _from_id(run: str) -> int:
    try:
        return int(datetime.strptime(run[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp()) * 10**9
    except ValueError:
        return 0
