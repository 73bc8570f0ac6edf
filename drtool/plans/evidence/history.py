"""The history of runs: those in the catalogue, and those in this host's journals. PURE.

Invariants
    A run in both is one row. If the two differ, the row reports the problem, and its figures are not used.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from statistics import median

from msgspec import Struct
from msgspec.structs import replace

from drtool.manifest.records import RecordedRun
from drtool.plans.evidence.past import PastRun

ESTIMATED_FROM = 5
"""How many of the last runs an estimate is based on."""
TREND_RUNS = 20


class HistoryRow(Struct, frozen=True, kw_only=True):
    """One run. `measured` and `targets` are seconds by objective. `here`: its journal is on this host.

    `problem` is the reason why the run proves nothing.
    """

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
    """The seconds that the last runs took. `runs` is 0 if the value is the plan's own estimate."""

    min: float
    median: float
    max: float
    runs: int


def history(recorded: Iterable[RecordedRun], past: Iterable[PastRun], host: str) -> list[HistoryRow]:
    """Return all runs, oldest first."""
    rows = {run.id: _recorded(run) for run in recorded}
    for run in past:
        known = rows.get(run.run_id)
        rows[run.run_id] = _here(run, host) if known is None else _both(known, run)
    return sorted(rows.values(), key=lambda row: (row.began_ns, row.run_id))


def estimate(values: Sequence[float]) -> Estimate | None:
    """Return an estimate from the newest of `values` (given oldest first), or None if there are none."""
    newest = values[-ESTIMATED_FROM:]
    if not newest:
        return None
    low, middle, high = min(newest), median(newest), max(newest)
    return Estimate(min=round(low, 3), median=round(middle, 3), max=round(high, 3), runs=len(newest))


def estimates(rows: Iterable[HistoryRow], plan: str) -> dict[str, Estimate | None]:
    """Return an estimate per objective from the runs of a plan that measured it, including failed ones."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.plan == plan and not row.problem:
            for name, value in row.measured.items():
                if value is not None:
                    found.setdefault(name, []).append(value)
    return {name: estimate(values) for name, values in found.items()}


def step_estimates(past: Iterable[PastRun], plan: str, own_s: Mapping[str, float | None]) -> dict[str, Estimate | None]:
    """Return an estimate per step from this host's finished runs (given oldest first), else the plan's own (`own_s`)."""
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
    """Return the row of a run that is not in the catalogue: in progress, dead, not recorded, or unreadable."""
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
        problem = "the journal here differs from the recorded one: one of the two was changed"
    return replace(known, here=True, problem=problem)


def _from_id(run: str) -> int:
    try:
        return int(datetime.strptime(run[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp()) * 10**9
    except ValueError:
        return 0
