"""Plans with `must_pass_every`, and whether they passed in time. PURE.

Invariants
    A plan that never passed is not proven, however often it ran. A time in the future proves nothing, because clocks may be
    wrong. It is reported, but not used.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from drtool.manifest.records import RecordedRun

AHEAD_NS = 3600 * 10**9


class Proof(Struct, frozen=True, kw_only=True):
    """The proof of one plan. `verdict` is that of the newest run, or empty. `met` is None without `must_pass_every`."""

    id: str
    verdict: str = ""
    newest_run: str = ""
    last_passed_ns: int | None = None
    must_pass_every_seconds: float | None = None
    met: bool | None = None


def proofs(recorded: Iterable[RecordedRun], configured: Mapping[str, float | None], now_ns: int) -> list[Proof]:
    """Return the proof of each plan that ran anywhere, or is in `configured` (id to its `must_pass_every`, in seconds).

    The configured plan's value applies, or else that recorded by the newest run.
    """
    runs: dict[str, list[RecordedRun]] = {name: [] for name in configured}
    for run in recorded:
        runs.setdefault(run.plan, []).append(run)
    return [_proof(plan, sorted(rows, key=_ended), configured, now_ns) for plan, rows in sorted(runs.items())]


def told(proof: Proof, now_ns: int) -> str:
    """Return why a proof is missing, for `problems`."""
    from drtool.plans.language.values import duration_text

    wanted = duration_text(proof.must_pass_every_seconds or 0.0)
    if proof.last_passed_ns is None:
        return f"plan {proof.id} must pass every {wanted} and has never passed: drtool plan run {proof.id}"
    ago = duration_text(round((now_ns - proof.last_passed_ns) / 1e9))
    return f"plan {proof.id} must pass every {wanted} and passed {ago} ago: drtool plan run {proof.id}"


def _proof(plan: str, runs: list[RecordedRun], configured: Mapping[str, float | None], now_ns: int) -> Proof:
    newest = runs[-1] if runs else None
    wanted_s = configured.get(plan) if plan in configured else newest.must_pass_every_s if newest else None
    passed = [row.ended_ns for row in runs if row.verdict == "passed" and row.ended_ns <= now_ns + AHEAD_NS]
    last = passed[-1] if passed else None
    met = None if wanted_s is None else last is not None and now_ns - last <= wanted_s * 1e9
    return Proof(
        id=plan,
        verdict=newest.verdict if newest else "",
        newest_run=newest.id if newest else "",
        last_passed_ns=last,
        must_pass_every_seconds=wanted_s,
        met=met,
    )


def _ended(run: RecordedRun) -> tuple[int, str]:
    return run.ended_ns, run.id
