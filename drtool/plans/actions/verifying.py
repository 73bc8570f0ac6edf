"""`verify`: what is stored, looked at, read, or really restored; judged by what was looked at, never by an exit code alone.

Invariants
    A verification that looked at nothing proves nothing: it is unproven.
    `tolerance` counts objects, of those that were really looked at; a share of a sample is never taken for the whole.
"""

from typing import Any

from drtool.plans.actions.port import Around, Asked, Foresight, Outcome, Work
from drtool.plans.actions.snapshots import chosen
from drtool.plans.actions.verbs import ROWS_MAX, cannot, deferred, ended
from drtool.plans.language.actions import Verify
from drtool.plans.language.results import RESULTS

OUTPUTS = RESULTS["verify"]
_GOOD = (0, 4, 5)


class VerifyAction:
    """Fulfils `port.Action`."""

    def foresee(self, asked: Asked, around: Around) -> Foresight:
        action: Verify = asked.action
        later = deferred(asked)
        if later is not None:
            return later
        pins: dict[str, Any] = {}
        with around.repository() as repository:
            unknown = sorted(set(action.sites) - set(repository.targets.sites()))
            if unknown:
                return cannot(f"there is no site {unknown[0]}; there are {', '.join(repository.targets.sites())}")
            if action.snapshot is not None or action.level == "restore":
                choice = action.snapshot
                rows = (
                    chosen(repository, choice, around.started, action.seed or around.run) if choice is not None else []
                )
                pins["snapshots"] = [row.id.hex() for row in rows]
            away = [name for name in repository.targets.storing() if not repository.targets.reachable(name)]
        told = f"; {', '.join(away)} cannot be reached" if away else ""
        named = f" of {len(pins['snapshots'])} snapshots" if pins.get("snapshots") else ""
        return Foresight(verdict="ok", detail=f"{action.level}{named}{told}", pins=pins)

    def act(self, asked: Asked, around: Around, work: Work) -> Outcome:
        action: Verify = asked.action
        if action.objects is not None and not action.objects:
            return Outcome(status="unproven", detail="there are no objects to verify", outputs=_nothing())
        outcomes = []
        for words in _command_lines(action, asked.pins):
            result, document = around.drtool(words, work)
            outcomes.append(ended(result, document, around, lambda found, _code: _judged(action, found), _GOOD))
        return _together(outcomes)


def _command_lines(action: Verify, pins: Any) -> list[list[str]]:  # noqa: ANN401 - what `foresee` pinned
    words = ["verify", "--level", action.level]
    words += [word for name in action.objects or () for word in ("--object", name)]
    if action.level == "sample":
        words += _sample(action)
    snapshots = [["--snapshot", name] for name in pins.get("snapshots", ())] or [[]]
    sites = [["--site", site] for site in action.sites] or [[]]
    return [[*words, *snapshot, *site] for snapshot in snapshots for site in sites]


def _sample(action: Verify) -> list[str]:
    sample = action.sample
    words = []
    if sample.count is not None or sample.min_count:
        words += ["--sample", str(max(sample.count or 0, sample.min_count))]
    elif sample.fraction is not None:
        words += ["--sample", f"{sample.fraction * 100:g}%"]
    return [*words, "--budget", str(sample.max_bytes)] if sample.max_bytes is not None else words


def _judged(action: Verify, document: dict[str, Any]) -> Outcome:
    missing, damaged = document["missing"], document["damaged"]
    differing, lost = document.get("differing", []), document["unrepairable"]
    looked_at = document["checked"]["packs"]
    outputs = {
        "checked": looked_at,
        "checked_bytes": document["checked"]["bytes"],
        "bad_objects": sorted({row["object"] for row in (*missing, *damaged)}),
        "missing": len(missing),
        "damaged": len(damaged),
        "upper_bound_bad_fraction": document["bound_95"]["bad_fraction"],
    }
    evidence = {
        "missing": missing[:ROWS_MAX],
        "damaged": damaged[:ROWS_MAX],
        "differing": differing[:ROWS_MAX],
        "affected": document["affected"][:ROWS_MAX],
        "restored": document.get("restored", [])[:ROWS_MAX],
        "offline": document["offline"],
        "bound_95": document["bound_95"],
    }
    tolerance = action.tolerance
    problems = [f"{len(missing)} missing"] if len(missing) > tolerance.missing else []
    problems += [f"{len(damaged)} damaged"] if len(damaged) > tolerance.damaged else []
    problems += [f"{len(differing)} not restored as they were"] if differing else []
    problems += [f"{len(lost)} without any good copy"] if lost else []
    if problems:
        return Outcome(status="failed", detail=", ".join(problems), outputs=outputs, evidence=evidence)
    read = document["bound_95"]["read"]
    if (
        not looked_at
        or (action.level == "sample" and not read)
        or (action.level == "restore" and not document.get("restored"))
    ):
        away = ", ".join(row["target"] for row in document["offline"])
        detail = "nothing was looked at" + (f": {away} cannot be reached" if away else "")
        return Outcome(status="unproven", detail=detail, outputs=outputs, evidence=evidence)
    return Outcome(status="passed", detail=_told(action, document), outputs=outputs, evidence=evidence)


def _told(action: Verify, document: dict[str, Any]) -> str:
    bound = document["bound_95"]
    if action.level == "sample":
        told = f"{bound['read']} copies read, all good: at 95 % confidence at most {bound['bad_fraction']:.2%}"
        return f"{told} of those that waited are bad"
    if action.level == "restore":
        return f"{len(document['restored'])} snapshots really restored and compared"
    return f"{document['checked']['packs']} packs, nothing missing, nothing damaged"


def _nothing() -> dict[str, Any]:
    return {"checked": 0, "checked_bytes": 0, "bad_objects": [], "missing": 0, "damaged": 0}


def _together(outcomes: list[Outcome]) -> Outcome:
    """Of several sites or snapshots: the worst, with all that was found."""
    if len(outcomes) == 1:
        return outcomes[0]
    ranks = {"failed": 0, "aborted": 1, "unproven": 2, "passed": 3}
    worst = min(outcomes, key=lambda one: ranks[one.status])
    outputs = dict(worst.outputs)
    for name in ("checked", "checked_bytes", "missing", "damaged"):
        outputs[name] = sum(one.outputs.get(name, 0) for one in outcomes)
    outputs["bad_objects"] = sorted({name for one in outcomes for name in one.outputs.get("bad_objects", ())})
    fractions = [
        one.outputs["upper_bound_bad_fraction"] for one in outcomes if "upper_bound_bad_fraction" in one.outputs
    ]
    outputs["upper_bound_bad_fraction"] = max(fractions, default=None)
    detail = "; ".join(dict.fromkeys(one.detail for one in outcomes if one.detail))
    return Outcome(status=worst.status, detail=detail, outputs=outputs, evidence=worst.evidence, cause=worst.cause)
