"""`rebalance`: moves copies to their places by the ring, within the limits of the step.

Invariants
    The dry run is that of the command, on a repository whose stores raise on a write. The command gets the limits too, and
    refuses before it touches anything.
"""

from typing import Any

from drtool.errors import DrtoolError
from drtool.events import ignore
from drtool.model import counted
from drtool.operations.rebalance import RebalanceRequest, RebalanceResult, rebalance
from drtool.plans.actions.port import Outcome, Preview, RunContext, StepContext, Work
from drtool.plans.actions.verbs import cannot, deferred, ended, limits
from drtool.plans.language.actions import RESULTS, Rebalance

OUTPUTS = RESULTS["rebalance"]
_GOOD = (0, 4, 5)


class RebalanceAction:
    """An implementation of `port.Action`."""

    def preview(self, step_context: StepContext, run_context: RunContext) -> Preview:
        action: Rebalance = step_context.action
        later = deferred(step_context)
        if later is not None:
            return later
        request = RebalanceRequest(dry_run=True, max_objects=action.max_objects, max_bytes=action.max_bytes)
        try:
            with run_context.repository() as repository:
                found = rebalance(repository, request, ignore)
        except DrtoolError as error:
            return cannot(error.message)
        return _previewed(found)

    def act(self, step_context: StepContext, run_context: RunContext, work: Work) -> Outcome:
        action: Rebalance = step_context.action
        words = ["rebalance", *limits(action.max_objects, action.max_bytes)]
        result, document = run_context.drtool(words, work)
        return ended(result, document, run_context, _moved, _GOOD)


def _previewed(found: RebalanceResult) -> Preview:
    if found.lost:
        return cannot(f"{counted(len(found.lost), 'object')} without a good copy at any site, {found.lost[0]} first")
    evidence = {
        "moves": {"copies": found.moves.objects, "bytes": found.moves.bytes, "fraction": found.moves.fraction},
        "rebuilt": {"copies": found.rebuilt.objects, "bytes": found.rebuilt.bytes},
        "removed": {"copies": found.removed.objects, "bytes": found.removed.bytes},
        "minimum_fraction": found.minimum_fraction,
        "away": [f"{row.target}: {row.reason}" for row in found.away],
    }
    away = f"; {', '.join(row.target for row in found.away)} unreachable" if found.away else ""
    if not (found.moves.objects or found.removed.objects or found.rebuilt.objects):
        return Preview(verdict="ok", detail=f"every copy is in its place by the ring{away}", evidence=evidence)
    detail = f"{found.moves.objects} copies made ({found.moves.bytes} bytes), {found.removed.objects} removed"
    return Preview(
        verdict="would change", detail=f"{detail} after the new copies are read back{away}", evidence=evidence
    )


def _moved(document: dict[str, Any], _exit_code: int) -> Outcome:
    moves = document["moves"]
    outputs = {"copied": moves["objects"], "removed": document["removed"]["objects"], "moved_bytes": moves["bytes"]}
    if document["lost"] or document["degraded"]:
        detail = (
            f"{counted(len(document['lost']), 'object')} without a good copy"
            if document["lost"]
            else "copies are missing: a target is unreachable"
        )
        return Outcome(status="failed", detail=detail, outputs=outputs, evidence={"away": document["away"]})
    return Outcome(status="passed", detail=f"{moves['objects']} objects moved", outputs=outputs)
