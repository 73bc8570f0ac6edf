"""After the storm: what the last reader sees, what the hosts' histories say, and the table that a person reads."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos_history import Call, Truth, judge_order, read_diaries
from chaos_scenario import Phase, Scenario, Trouble, outstanding
from chaos_worker import drtool, mark_of

from drtool.errors import DrtoolError
from drtool.manifest import Manifest, View

RESTORES = 3
AFTERWARDS_S = 1.5  # a call that began this long after a site's return may still have met its absence
NO_ANSWER = "no answer in time"
_NAMED = re.compile(r"(\w+): (unreachable|absent|broken|sealed|rolled-back|it went back)")


@dataclass
class Verdict:
    calls: list[Call]
    violations: list[str] = field(default_factory=list)


def judge(scenario: Scenario) -> Verdict:
    """Everything that must hold."""
    calls, complaints = read_diaries(scenario.place / "history")
    verdict = Verdict(calls, [*scenario.violations, *complaints])
    facts = scenario.host("last").facts
    for name in scenario.hosts():
        if left := outstanding(scenario.place, facts, name):
            verdict.violations.append(f"{name}: {left} changes are not settled after a restart")
    try:
        with scenario.host("last").manifest() as manifest:
            if {"wiped", "voters"} & set(scenario.options.steps):
                manifest.refresh()  # who was away when its register began, or was wiped last, takes part again
            view = manifest.read()
            verdict.violations += _judge_views(calls, manifest, view)
            verdict.violations += judge_order(calls, _truth(manifest, view, facts["first_epoch"]))
        verdict.violations += _judge_hosts(scenario, view)
    except DrtoolError as error:
        verdict.violations.append(f"the last reader: {error!r}")
    verdict.violations += _alarms(scenario, calls)
    if not verdict.violations:
        verdict.violations += _judge_command_line(scenario, calls)
    return verdict


def _truth(manifest: Manifest, view: View, first_epoch: int) -> Truth:
    marks = tuple(mark_of(row) for row in view.state.snapshots)
    movers = tuple(row.host for row in reversed(manifest.log(view)) if row.kind == "set-ring")
    return Truth(marks, view.state.ring_epoch, first_epoch, movers)


def _judge_views(calls: Sequence[Call], manifest: Manifest, view: View) -> Iterator[str]:
    """No two heads at one sequence, and every head that anybody was shown is an ancestor of the last."""
    ancestors = {row.sequence: row.digest for row in manifest.log(view)}
    for call in calls:
        if call.digest and not call.digest.startswith(ancestors.get(call.sequence, "nothing")):
            yield f"fork: {call.process} was shown another change {call.sequence} than the last reader"
        if call.kind != "check":
            yield from (f"false alarm: {call.process}: {problem}" for problem in call.problems)


def _judge_hosts(scenario: Scenario, view: View) -> Iterator[str]:
    """Every host reads the same, and none has anything to complain of."""
    for name in scenario.hosts():
        with scenario.host(name).manifest() as manifest:
            own = manifest.read()
            if (own.sequence, own.digest) != (view.sequence, view.digest):
                yield f"{name} reads change {own.sequence} at the end, the last reader {view.sequence}"
            yield from (f"{name}: {problem}" for problem in own.problems)
            yield from (f"{name}: check: {row.site} {row.kind}: {row.message}" for row in manifest.check())


def _alarms(scenario: Scenario, calls: Sequence[Call]) -> Iterator[str]:
    """A site may be named for what happened to it while the call was under way, or just before.

    Two things are true whoever says them: that no answer came in time, of a process that was stopped or of a busy machine;
    and, from when voters change on, that a register is just beginning or just ended. Whether it stays so is asked at the end.
    """
    changing = min(
        (phase.began for phase in scenario.phases if {"voters", "wiped"} & set(phase.faults)), default=float("inf")
    )
    for call in calls:
        for site, kind, words in _named(call):
            passing = kind in {"absent", "sealed"} and call.began >= changing
            if not (passing or any(_explains(trouble, site, kind, call) for trouble in scenario.troubles)):
                yield f"false alarm: {call.process} ({call.kind}) named {site or 'the manifest'}: {kind}: {words}"


def _named(call: Call) -> Iterator[tuple[str, str, str]]:
    """Whom a call blames, for what."""
    if call.kind != "check":
        yield from ((site, kind, "") for site, kind in _NAMED.findall(call.unknown) if kind != "unreachable")
        return
    late = any(words == NO_ANSWER for _, _, words in call.problems)
    for site, kind, words in call.problems:
        if words != NO_ANSWER and not (late and kind == "no-quorum"):
            yield site, kind, words


def _explains(trouble: Trouble, site: str, kind: str, call: Call) -> bool:
    """Whether this was the matter while the call was under way, or just before. What a wiped site held is missing to all."""
    ended = call.ended if call.answered else call.ended_at
    concerns = trouble.site == site or (trouble.words == "wiped" and kind == "missing-object")
    return concerns and trouble.began <= ended and call.began <= trouble.ended + AFTERWARDS_S


def _judge_command_line(scenario: Scenario, calls: Sequence[Call]) -> Iterator[str]:
    """What a user would do: check the manifest, read everything that is stored, restore what was acknowledged."""
    for words in (("manifest", "check"), ("verify", "--level", "full")):
        done = drtool(scenario.place, "w3", *words)
        if done.returncode != 0:
            yield f"drtool {' '.join(words)}: exit {done.returncode}: {done.stdout}{done.stderr}"
    backups = [call for call in calls if call.snapshot]
    for call in backups[-RESTORES:]:
        out = scenario.place / "restored" / call.value
        done = drtool(scenario.place, "w3", "restore", call.snapshot, "--to", out)
        source = scenario.place / "hosts" / call.host / "source" / call.value / "file"
        restored = Path(f"{out}{source}")
        if done.returncode != 0 or restored.read_bytes() != source.read_bytes():
            yield f"drtool restore {call.snapshot[:8]}: exit {done.returncode}: {done.stdout}{done.stderr}"


def table(scenario: Scenario, verdict: Verdict) -> Iterator[str]:
    """What happened, a line for each phase."""
    yield f"{'phase':<11}{'seconds':>8}{'calls':>8}{'answered':>10}{'unknown':>9}{'faults':>8}" + "".join(
        f"{head:>12}" for head in ("write p50", "write p99", "read p50", "read p99")
    )
    for phase in scenario.phases:
        yield _row(phase, [call for call in verdict.calls if phase.began <= call.began < phase.ended])
    whole = Phase("all", (), injected=sum(phase.injected for phase in scenario.phases))
    whole.ended = sum(phase.ended - phase.began for phase in scenario.phases)
    yield _row(whole, verdict.calls)
    yield ""
    yield f"sites: {', '.join(f'{site.name} ({site.medium})' for site in scenario.sites)}"
    for why in sorted(set(scenario.missing.values())):
        faults = ", ".join(fault for fault, reason in scenario.missing.items() if reason == why)
        yield f"not possible here: {faults} ({why})"


def _row(phase: Phase, calls: Sequence[Call]) -> str:
    answered = sum(call.answered for call in calls)
    text = f"{phase.name:<11}{phase.ended - phase.began:>8.1f}{len(calls):>8}{answered:>10}{len(calls) - answered:>9}"
    text += f"{phase.injected:>8}"
    for kinds in (("append", "epoch"), ("read",)):
        times = sorted(
            call.ended - call.began for call in calls if call.answered and call.kind in kinds and not call.snapshot
        )
        for share in (0.5, 0.99):
            text += f"{_quantile(times, share):>12}"
    return text


def _quantile(times_s: Sequence[float], share: float) -> str:
    return f"{times_s[min(len(times_s) - 1, int(len(times_s) * share))] * 1000:,.0f} ms" if times_s else "-"


def save(scenario: Scenario, verdict: Verdict, path: Path) -> None:
    """For the tests, and for whoever wants to compute with it."""
    document = {
        "operations": len(verdict.calls),
        "acknowledged": sum(call.answered for call in verdict.calls),
        "appends": sum(call.answered for call in verdict.calls if call.kind == "append"),
        "command_line": sum(bool(call.snapshot) for call in verdict.calls),
        "faults": {phase.name: phase.injected for phase in scenario.phases},
        "missing": scenario.missing,
        "violations": verdict.violations,
    }
    path.write_text(json.dumps(document, indent=2))
