"""`repair`: restores every copy to its place, within the limits of the step.

Invariants
    The dry run is that of the command, on a repository whose stores raise on a write. The command gets the limits too, and
    refuses before it touches anything.
"""

from typing import Any

from drtool.errors import DrtoolError
from drtool.events import ignore
from drtool.model import SiteName, counted
from drtool.operations.repair import RepairRequest, RepairResult, repair
from drtool.plans.actions.port import Outcome, Preview, RunContext, StepContext, Work
from drtool.plans.actions.verbs import ROWS_MAX, cannot, deferred, ended, limits
from drtool.plans.language.actions import RESULTS, Repair

OUTPUTS = RESULTS["repair"]
_GOOD = (0, 4, 5)


class RepairAction:
    """An implementation of `port.Action`."""

    def preview(self, step_context: StepContext, run_context: RunContext) -> Preview:
        action: Repair = step_context.action
        later = deferred(step_context)
        if later is not None:
            return later
        if action.objects is not None and not action.objects:
            return Preview(verdict="ok", detail="there is nothing to repair")
        request = RepairRequest(
            dry_run=True,
            objects=None if action.objects is None else frozenset(action.objects),
            site=None if action.site is None else SiteName(action.site),
            max_objects=action.max_objects,
            max_bytes=action.max_bytes,
        )
        try:
            with run_context.repository() as repository:
                found = repair(repository, request, ignore)
        except DrtoolError as error:
            return cannot(error.message)
        return _previewed(found)

    def act(self, step_context: StepContext, run_context: RunContext, work: Work) -> Outcome:
        action: Repair = step_context.action
        if action.objects is not None and not action.objects:
            nothing = {"copied": 0, "rebuilt": 0, "removed": 0, "unrepairable": []}
            return Outcome(status="passed", detail="there was nothing to repair", outputs=nothing)
        words = ["repair", *(word for name in action.objects or () for word in ("--object", name))]
        words += ["--site", action.site] if action.site is not None else []
        result, document = run_context.drtool([*words, *limits(action.max_objects, action.max_bytes)], work)
        return ended(result, document, run_context, _repaired, _GOOD)


def _previewed(found: RepairResult) -> Preview:
    lost = [row.object for row in found.unrepairable if not row.perhaps]
    if lost:
        return cannot(f"{counted(len(lost), 'object')} without a good copy at any site, {lost[0]} first")
    amounts = {"copied": found.copied, "rebuilt": found.rebuilt, "removed": found.removed}
    evidence: dict[str, Any] = {name: {"copies": it.objects, "bytes": it.bytes} for name, it in amounts.items()}
    evidence["away"] = [f"{row.target}: {row.reason}" for row in found.away]
    told = ", ".join(f"{it.objects} {name}" for name, it in amounts.items() if it.objects)
    away = f"; {', '.join(row.target for row in found.away)} unreachable" if found.away else ""
    if not told:
        return Preview(verdict="ok", detail=f"every copy is where it should be{away}", evidence=evidence)
    size_bytes = found.copied.bytes + found.rebuilt.bytes
    detail = f"copies: {told}, {size_bytes} bytes to write; a good copy stays until the new one is read back"
    return Preview(verdict="would change", detail=detail + away, evidence=evidence)


def _repaired(document: dict[str, Any], _exit_code: int) -> Outcome:
    lost = [row["object"] for row in document["unrepairable"]]
    outputs = {
        "copied": document["copied"]["objects"],
        "rebuilt": document["rebuilt"]["objects"],
        "removed": document["removed"]["objects"],
        "unrepairable": lost,
    }
    evidence = {"unrepairable": document["unrepairable"][:ROWS_MAX], "away": document["away"]}
    if lost:
        detail = f"{counted(len(lost), 'object')} without a good copy at any site, {lost[0]} first"
        return Outcome(status="failed", detail=detail, outputs=outputs, evidence=evidence)
    if document["degraded"]:
        away = ", ".join(row["target"] for row in document["away"])
        return Outcome(
            status="failed",
            detail=f"copies are still missing: {away or 'too few sites'}",
            outputs=outputs,
            evidence=evidence,
        )
    detail = f"{outputs['copied']} objects copied, {outputs['rebuilt']} rebuilt"
    return Outcome(status="passed", detail=detail, outputs=outputs, evidence=evidence)
