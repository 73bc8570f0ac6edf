"""`fault`: an overlay injected under guards, held while other steps need it, always removed, with proof.

Invariants
    Victims are chosen in the dry run and pinned. The guards are checked then, and again right before the injection.
"""

import os
import time
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from drtool.model import ObjectInfo, SiteName, TargetName
from drtool.plans.actions.port import Outcome, Preview, RunContext, StepContext, Work
from drtool.plans.actions.verbs import cannot, deferred
from drtool.plans.faults.gathering import Standing
from drtool.plans.faults.guards import FaultRequest, Guards, judge, refusals
from drtool.plans.faults.injecting import Fault as Injected
from drtool.plans.faults.injecting import Injection, Sufferer, inject
from drtool.plans.faults.victims import choose_victims
from drtool.plans.faults.windows import parse_window
from drtool.plans.language.actions import RESULTS, Fault
from drtool.plans.language.values import duration_text, moment_text
from drtool.repository import Repository
from drtool.repository.overlays import OverlayFiles, Overlays

OUTPUTS = RESULTS["fault"]


class FaultAction:
    """An implementation of `port.Action`."""

    def preview(self, step_context: StepContext, run_context: RunContext) -> Preview:
        action: Fault = step_context.action
        later = deferred(step_context)
        if later is not None:
            return later
        with run_context.repository() as repository:
            try:
                victims = _victims(action, repository, run_context)
            except ValueError as error:
                return cannot(str(error))
            refused = _refusals(action, repository, run_context, victims)
        if refused:
            return cannot("; ".join(refused))
        told = ", ".join(f"{target} ({len(names)} objects)" if names else target for target, names in victims.items())
        detail = (
            f"{told}: {action.type} for {duration_text(action.duration_s or 0)} at most, undone by removing its overlay"
        )
        return Preview(verdict="would change", detail=detail, pins={"victims": victims})

    def act(self, step_context: StepContext, run_context: RunContext, work: Work) -> Outcome:
        action: Fault = step_context.action
        with run_context.repository() as repository:
            try:
                victims = step_context.pins.get("victims") or _victims(action, repository, run_context)
            except ValueError as error:
                return Outcome(status="failed", cause="refused", detail=str(error))
            refused = _refusals(action, repository, run_context, victims)
            specs = {name: repository.targets.specs[TargetName(name)] for name in victims}
        if refused:
            return Outcome(status="failed", cause="refused", detail="; ".join(refused))
        injection = Injection(
            run=run_context.run,
            step=step_context.key,
            kind=action.type,
            sufferers=tuple(Sufferer(spec=specs[name], objects=tuple(names)) for name, names in victims.items()),
            duration_s=action.duration_s or 0.0,
            seed=action.seed or run_context.run,
            latency_s=action.amount.latency_s or 0.0,
            bytes_per_second=action.amount.rate_bytes_s,
            flip_bytes=action.amount.bytes,
            kill_switch=run_context.plan.guards.kill_switch or "",
        )
        with inject(Overlays(run_context.state_dir), injection) as fault:
            ends = moment_text(time.time_ns() + round(fault.latest_end_s * 1e9))
            outputs = {"objects": list(fault.objects), "targets": list(fault.targets), "ends": ends}
            work.injected(outputs)
            fault.hold(lambda: work.released.is_set() or work.cancelled.is_set())
        return _proof(fault, outputs, cancelled=work.cancelled.is_set())


def _victims(action: Fault, repository: Repository, run_context: RunContext) -> dict[str, list[str]]:
    """Return the targets, each with its objects to corrupt. Raises ValueError."""
    wanted = action.target
    storing = repository.targets.storing()
    if wanted.target is not None:
        names = [name for name in repository.targets.specs if name == wanted.target]
    else:
        names = [
            name
            for name in repository.targets.of_site(SiteName(wanted.site or ""))
            if name in storing or action.type != "corrupt"
        ]
    if not names:
        raise ValueError(
            f"there is no {'target ' + wanted.target if wanted.target else 'site ' + str(wanted.site)} to fail"
        )
    if action.type != "corrupt":
        return {str(name): [] for name in names}
    standing = Standing(repository)
    rows = [
        ObjectInfo(f"{name}\0{info}", size)
        for name in names
        for info, size in standing.inventory.objects.get(name, {}).items()
    ]
    return _drawn(wanted.object or "random:1", rows, action.seed or run_context.run, [str(name) for name in names])


def _drawn(selector: str, rows: list[ObjectInfo], seed: str, names: list[str]) -> dict[str, list[str]]:
    """Draw objects by name from one or several targets, and assign each to its first holder."""
    holders: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for row in rows:
        target, _, name = row.name.partition("\0")
        holders.setdefault(name, target)
        sizes[name] = row.size_bytes
    chosen = choose_victims(selector, [ObjectInfo(name, size) for name, size in sizes.items()], seed)
    found: dict[str, list[str]] = {name: [] for name in names}
    for info in chosen:
        found[holders[info.name]].append(info.name)
    return {name: objects for name, objects in found.items() if objects}


def _refusals(
    action: Fault, repository: Repository, run_context: RunContext, victims: dict[str, list[str]]
) -> tuple[str, ...]:
    standing = Standing(repository)
    request = FaultRequest(
        run=run_context.run,
        kind=action.type,
        victims=tuple(standing.victim(TargetName(name), names) for name, names in victims.items()),
        duration_s=action.duration_s or 0.0,
    )
    return refusals(judge(request, standing.facts(datetime.now(UTC), _switch(run_context)), guards_of(run_context)))


def _switch(run_context: RunContext) -> str:
    """Return the kill switch that is on, or an empty string."""
    own = run_context.plan.guards.kill_switch or ""
    paths = (os.fspath(OverlayFiles(run_context.state_dir).stop_path), own)
    return next((path for path in paths if path and os.path.lexists(path)), "")


def guards_of(run_context: RunContext) -> Guards:
    """Return the plan's guards in the form that judges faults."""
    guards = run_context.plan.guards
    only = None if guards.only_sites is None else frozenset(map(SiteName, guards.only_sites))
    return Guards(
        only_sites=only,
        never_sites=frozenset(map(SiteName, guards.never_sites)),
        max_sites_affected=guards.max_sites_affected,
        min_healthy_copies=guards.min_healthy_copies,
        max_objects=guards.max_objects,
        max_bytes=guards.max_bytes,
        max_duration_s=guards.max_duration_s,
        windows=tuple(parse_window(text, ZoneInfo) for text in guards.windows),
        quorum_may_be_lost=guards.quorum_may_be_lost,
    )


def _proof(fault: Injected, outputs: dict[str, Any], *, cancelled: bool) -> Outcome:
    evidence = {
        "injected_at": fault.injected_at,
        "ended_at": fault.ended_at,
        "ended_by": fault.ended_by,
        "removed": fault.removed,
        "targets": list(fault.targets),
        "objects": list(fault.objects),
    }
    if not fault.removed:
        left = tuple(f"the fault {path}" for path in fault.left)
        return Outcome(
            status="failed",
            detail="the fault could not be removed",
            outputs=outputs,
            evidence=evidence,
            leftovers=left,
        )
    if cancelled:
        return Outcome(
            status="aborted",
            cause="cancelled",
            detail="ended with the run, and removed",
            outputs=outputs,
            evidence=evidence,
        )
    if fault.ended_by in ("stopped", "cleared"):
        word = "the kill switch" if fault.ended_by == "stopped" else "`drtool fault clear`"
        return Outcome(status="failed", detail=f"{word} ended it before its time", outputs=outputs, evidence=evidence)
    return Outcome(status="passed", detail=f"{fault.ended_by}, and removed", outputs=outputs, evidence=evidence)
