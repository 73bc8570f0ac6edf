"""Rules for plans that are well-formed but invalid. They are applied before anything runs.

Invariants
    Each rule is one function that yields its violations. All rules are applied, and all problems are reported at once.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from drtool.config.cron import longest_gap_s
from drtool.config.document import Placeholder
from drtool.config.yaml import Parsed
from drtool.plans.language.action_rules import action_problems
from drtool.plans.language.approval import changes_production, is_behind_approval, overwrites
from drtool.plans.language.model import Plan
from drtool.plans.language.validation import Complaints, Placed
from drtool.plans.language.values import duration_text
from drtool.plans.language.variables import declared_problems

_ANY_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
_READING = frozenset({"verify", "probe", "compare", "assert"})


def broken_rules(plan: Plan, own: Parsed, placed: Sequence[Placed]) -> Complaints:
    """Yield the violations of every rule."""
    for rule in _PLAN_RULES:
        yield from rule(plan, own)
    for each in placed:
        for step_rule in _STEP_RULES:
            yield from step_rule(plan, each)


def _mtpd(plan: Plan, own: Parsed) -> Complaints:
    goals = plan.objectives
    if goals.mtpd_s is None:
        return
    parts_s = [each for each in (goals.detection_s, goals.rto_s, goals.wrt_s) if each is not None]
    if sum(parts_s) > goals.mtpd_s:
        told = " + ".join(duration_text(part_s) for part_s in parts_s)
        total, most = duration_text(sum(parts_s)), duration_text(goals.mtpd_s)
        yield own, ("objectives", "mtpd"), f"detection + rto + wrt is {told} = {total}, more than the {most} of mtpd"


def _secrets(plan: Plan, own: Parsed) -> Complaints:
    for name, ref in plan.secrets.items():
        given = [word for word in (ref.env, ref.file, ref.command, ref.systemd_credential) if word]
        if len(given) != 1:
            yield own, ("secrets", name), "give exactly one of env, file, command, systemd-credential"


def _variables(plan: Plan, own: Parsed) -> Complaints:
    for name, var in plan.vars.items():
        for key, message in declared_problems(name, var):
            yield own, ("vars", name, *key), message


def _schedule(plan: Plan, own: Parsed) -> Complaints:
    schedule = plan.schedule
    if schedule is None:
        return
    try:
        zone = ZoneInfo(schedule.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield own, ("schedule", "timezone"), f"there is no time zone {schedule.timezone!r}"
        return
    gap_s = longest_gap_s(schedule.cron, _ANY_YEAR, zone)
    if gap_s is None:
        yield own, ("schedule", "cron"), f"{schedule.cron.text!r} matches no time, or only one"
    elif schedule.must_pass_every_s is not None and gap_s + schedule.jitter_s > schedule.must_pass_every_s:
        wait = duration_text(gap_s + schedule.jitter_s)
        yield (
            own,
            ("schedule", "must_pass_every"),
            f"runs are up to {wait} apart, longer than must_pass_every: {duration_text(schedule.must_pass_every_s)}",
        )


def _sites(plan: Plan, own: Parsed) -> Complaints:
    both = set(plan.guards.only_sites or ()) & set(plan.guards.never_sites)
    for name in sorted(both):
        yield own, ("guards", "never_sites"), f"{name} is in both only_sites and never_sites"


def _milestones(plan: Plan, own: Parsed) -> Complaints:
    reached: dict[str, str] = {}
    for number, step in enumerate(plan.steps):
        if step.milestone is None:
            continue
        first = reached.setdefault(step.milestone, step.id)
        if first != step.id:
            yield own, ("steps", number, "milestone"), f"{step.milestone} is already reached by step {first!r}"


def _measurable(plan: Plan, own: Parsed) -> Complaints:
    """Yield the objectives that no run could measure. Without a `recovered` milestone, RTO ends with the last step."""
    reached = {step.milestone for step in plan.steps}
    if plan.objectives.wrt_s is not None:
        for milestone in ("recovered", "validated"):
            if milestone not in reached:
                told = f"no step has `milestone: {milestone}`, so it could never be measured"
                yield own, ("objectives", "wrt"), told
    if plan.objectives.rpo_s is not None and not any(step.uses == "restore" for step in (*plan.steps, *plan.always)):
        yield own, ("objectives", "rpo"), "no step restores anything, so it could never be measured"


def _reason(_plan: Plan, each: Placed) -> Complaints:
    if each.step.on_failure == "tolerate" and each.step.reason is None:
        yield each.wrong("on_failure: tolerate needs a `reason`, which the report shows")


def _confirming(_plan: Plan, each: Placed) -> Complaints:
    step = each.step
    if (step.on_resume == "confirm") != (step.confirm is not None):
        yield each.wrong("`on_resume: confirm` and a `confirm` step must be given together", "on_resume")


def _only_reads(_plan: Plan, each: Placed) -> Complaints:
    if each.role not in {"precondition", "steady state", "confirm"}:
        return
    step = each.step
    reads = step.uses in _READING or (step.uses == "run" and getattr(step.action, "changes", "") == "nothing")
    if not reads or getattr(step.action, "level", "") == "restore":
        allowed = "verify (but not level: restore), probe, compare, assert, or run with `changes: nothing`"
        yield each.wrong(f"{each.role_name} must change nothing; use {allowed}", "uses")


def _scope(plan: Plan, each: Placed) -> Complaints:
    if plan.scope != "scratch" or overwrites(each.step):  # the next rule reports overwrites, in every scope
        return
    change = changes_production(each.step)
    if change and not is_behind_approval(plan, each.graph_step):
        remedy = "put an approve step before it, or write scope: live"
        yield each.wrong(f"the plan has scope: scratch, but this step {change}; {remedy}")


def _overwriting(plan: Plan, each: Placed) -> Complaints:
    change = overwrites(each.step)
    if change and not is_behind_approval(plan, each.graph_step):
        yield each.wrong(f"this step {change}, so its `needs` must include an approve step that cannot be skipped")


def _where_faults(plan: Plan, each: Placed) -> Complaints:
    if each.step.uses == "fault" and each.role != "step":
        yield each.wrong(f"{each.role_name} cannot inject faults", "uses")
    if each.step.uses == "fault" and each.step.foreach is not None:
        yield each.wrong("a fault cannot have foreach; write one step per fault", "foreach")
    longest_s, lasts_s = plan.guards.max_duration_s, getattr(each.step.action, "duration_s", None)
    if each.step.uses == "fault" and longest_s is not None and lasts_s is not None and lasts_s > longest_s:
        yield each.wrong(
            f"it lasts longer than guards.max_duration allows: {duration_text(longest_s)}", "with", "duration"
        )


def _approvers(_plan: Plan, each: Placed) -> Complaints:
    if each.step.uses in {"approve", "wait"} and each.role in {"always", "compensate"}:
        yield each.wrong(
            f"{each.role_name} must not wait for a person, because it also runs after interruptions", "uses"
        )


def _within_action(_plan: Plan, each: Placed) -> Complaints:
    for path, message in action_problems(each.step):
        yield each.wrong(message, "with", *path)


def _patterns(_plan: Plan, each: Placed) -> Complaints:
    expect = getattr(each.step.action, "expect", None)
    for name in ("matches", "stdout_matches"):
        pattern = getattr(expect, name, None)
        if pattern is None or isinstance(pattern, Placeholder):
            continue
        try:
            re.compile(pattern)
        except re.error as error:
            yield each.wrong(f"not a regular expression: {error}", "with", "expect", name)


_PLAN_RULES: tuple[Callable[[Plan, Parsed], Complaints], ...] = (
    _mtpd,
    _secrets,
    _variables,
    _schedule,
    _sites,
    _milestones,
    _measurable,
)
_STEP_RULES: tuple[Callable[[Plan, Placed], Complaints], ...] = (
    _reason,
    _confirming,
    _only_reads,
    _scope,
    _overwriting,
    _where_faults,
    _approvers,
    _within_action,
    _patterns,
)
