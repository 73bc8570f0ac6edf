"""`repair` and `rebalance`: reconciliation, never beyond what the step allows."""

from typing import Any

from drtool.plans.actions.port import Around, Asked, Foresight, Outcome, Work
from drtool.plans.actions.verbs import ROWS_MAX, cannot, deferred, ended
from drtool.plans.language.actions import Rebalance, Repair
from drtool.plans.language.results import RESULTS

OUTPUTS = RESULTS["repair"]
FORESEE_S = 600.0
_GOOD = (0, 4, 5)


class RepairAction:
    """Fulfils `port.Action`."""

    def foresee(self, asked: Asked, around: Around) -> Foresight:
        action: Repair = asked.action
        later = deferred(asked)
        if later is not None:
            return later
        with around.repository() as repository:
            known = repository.targets.sites()
            if action.site is not None and action.site not in known:
                return cannot(f"there is no site {action.site}; there are {', '.join(known)}")
        return Foresight(verdict="would change", detail=f"what is missing or damaged at {action.site or 'any site'}")

    def act(self, asked: Asked, around: Around, work: Work) -> Outcome:
        action: Repair = asked.action
        if action.max_objects is not None or action.max_bytes is not None:
            refusal = _beyond(action, around, work)
            if refusal is not None:
                return refusal
        result, document = around.drtool(["repair"], work)
        return ended(result, document, around, _repaired, _GOOD)


class RebalanceAction:
    """Fulfils `port.Action`."""

    def foresee(self, asked: Asked, around: Around) -> Foresight:
        later = deferred(asked)
        if later is not None:
            return later
        with around.repository() as repository:
            ring = len(repository.view.state.ring.targets)
        return Foresight(verdict="would change", detail=f"what is not where the ring of {ring} targets wants it")

    def act(self, asked: Asked, around: Around, work: Work) -> Outcome:
        action: Rebalance = asked.action
        if action.max_objects is not None or action.max_bytes is not None:
            result, document = around.drtool(["rebalance", "--dry-run"], work)
            seen = ended(result, document, around, _moved, _GOOD)
            moves = document.get("moves", {"objects": 0, "bytes": 0})
            refusal = _refused(seen, moves["objects"], moves["bytes"], action)
            if refusal is not None:
                return refusal
        result, document = around.drtool(["rebalance"], work)
        return ended(result, document, around, _moved, _GOOD)


def _beyond(action: Repair, around: Around, work: Work) -> Outcome | None:
    """The refusal, if it would do more than it may."""
    result, document = around.drtool(["repair", "--dry-run"], work)
    seen = ended(result, document, around, _repaired, _GOOD)
    amounts = [document.get(name, {"objects": 0, "bytes": 0}) for name in ("copied", "rebuilt")]
    return _refused(seen, sum(a["objects"] for a in amounts), sum(a["bytes"] for a in amounts), action)


def _refused(seen: Outcome, objects: int, size_bytes: int, action: Repair | Rebalance) -> Outcome | None:
    if seen.cause:
        return seen
    if action.max_objects is not None and objects > action.max_objects:
        detail = f"it would move {objects} objects, and {action.max_objects} are allowed: look first"
    elif action.max_bytes is not None and size_bytes > action.max_bytes:
        detail = f"it would move {size_bytes} bytes, and {action.max_bytes} are allowed: look first"
    else:
        return None
    return Outcome(status="failed", cause="refused", detail=detail, evidence=seen.evidence)


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
        detail = f"{len(lost)} objects have no good copy anywhere, {lost[0]} first"
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


def _moved(document: dict[str, Any], _exit_code: int) -> Outcome:
    moves = document["moves"]
    outputs = {"copied": moves["objects"], "removed": document["removed"]["objects"], "moved_bytes": moves["bytes"]}
    if document["lost"] or document["degraded"]:
        detail = (
            f"{len(document['lost'])} objects have no good copy"
            if document["lost"]
            else "copies are missing: a target is away"
        )
        return Outcome(status="failed", detail=detail, outputs=outputs, evidence={"away": document["away"]})
    return Outcome(status="passed", detail=f"{moves['objects']} objects moved", outputs=outputs)
