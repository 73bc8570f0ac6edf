"""`verify`: lists, reads or restores stored data. The verdict is based on the checked data, never on an exit code alone.

Invariants
    A verification that checked nothing proves nothing: it is unproven.
    `tolerance` counts objects among those that were checked. A share of a sample never stands for the whole.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from msgspec.structs import replace

from drtool.events import ignore
from drtool.manifest.records import Snapshot
from drtool.operations.verify import Sample, VerifyRequest, prospect
from drtool.plans.actions.port import Outcome, Preview, RunContext, StepContext, Work
from drtool.plans.actions.snapshots import chosen
from drtool.plans.actions.verbs import ROWS_MAX, cannot, deferred, ended
from drtool.plans.language.actions import RESULTS, SnapshotChoice, Verify
from drtool.plans.language.model import kept_off_sites
from drtool.plans.scratch.space import room_at
from drtool.repository import Repository

OUTPUTS = RESULTS["verify"]
_GOOD = (0, 4, 5)


class VerifyAction:
    """An implementation of `port.Action`."""

    def preview(self, step_context: StepContext, run_context: RunContext) -> Preview:
        action: Verify = step_context.action
        later = deferred(step_context)
        if later is not None:
            return later
        with run_context.repository() as repository:
            unknown = sorted(set(action.sites) - set(repository.targets.sites()))
            if unknown:
                return cannot(f"there is no site {unknown[0]}; the sites are {', '.join(repository.targets.sites())}")
            snapshots = _snapshots(action, repository, run_context)
            if action.level == "restore":
                return _would_restore(snapshots, run_context)
            sites = action.sites or _permitted(repository, run_context)
            if not sites and kept_off_sites(run_context.plan):
                return cannot("the plan excludes every site, so there is nothing to check")
            return _would_read(action, repository, snapshots, sites)

    def act(self, step_context: StepContext, run_context: RunContext, work: Work) -> Outcome:
        action: Verify = step_context.action
        if action.objects is not None and not action.objects:
            return Outcome(status="unproven", detail="there are no objects to verify", outputs=_nothing())
        pins = step_context.pins
        if not pins:
            seen = self.preview(step_context, run_context)
            if seen.verdict == "cannot run":
                return Outcome(status="failed", cause="error", detail=seen.detail)
            pins = seen.pins
        outcomes = []
        for words in _command_lines(action, pins):
            result, document = run_context.drtool(words, work)
            outcomes.append(ended(result, document, run_context, lambda found, _code: _judged(action, found), _GOOD))
            if outcomes[-1].cause:
                break
        return _together(outcomes)


def _permitted(repository: Repository, run_context: RunContext) -> tuple[str, ...]:
    """Return the sites that may be checked if the plan excludes some, else empty: all of them, in one go."""
    kept_off = kept_off_sites(run_context.plan)
    return tuple(site for site in repository.targets.sites() if site not in kept_off) if kept_off else ()


def _snapshots(action: Verify, repository: Repository, run_context: RunContext) -> list[Snapshot]:
    """Return the chosen snapshots, or none for everything. A trial restore without a choice takes each source's newest."""
    if action.snapshot is None and action.level != "restore":
        return []
    return chosen(repository, action.snapshot or SnapshotChoice(), run_context.started, action.seed or run_context.run)


def _would_restore(snapshots: list[Snapshot], run_context: RunContext) -> Preview:
    size_bytes = max(row.counts.bytes for row in snapshots)
    room = room_at(trial_directory(run_context))
    lacks = room.lacks(size_bytes, max(row.counts.files + row.counts.dirs for row in snapshots))
    if lacks:
        return cannot(f"{trial_directory(run_context)} is too small for a trial restore: {lacks}")
    total_bytes = sum(row.counts.bytes for row in snapshots)
    names = ", ".join(row.id.hex()[:8] for row in snapshots)
    return Preview(
        verdict="ok",
        detail=f"restores {names} as a trial: {total_bytes} bytes",
        pins={"snapshots": [row.id.hex() for row in snapshots]},
        evidence={"bytes": total_bytes},
    )


def trial_directory(run_context: RunContext) -> Path:
    """Return the directory that `verify --level restore` restores to: that of temporary files."""
    return Path(run_context.environ.get("TMPDIR") or gettempdir())


def _would_read(action: Verify, repository: Repository, snapshots: list[Snapshot], sites: Sequence[str]) -> Preview:
    """Preview the reads by drawing them, site by site as in the real run."""
    count = None
    requests = [_request(action, snapshot, site) for snapshot in snapshots or (None,) for site in sites or (None,)]
    if action.level == "sample":
        everything = min(prospect(repository, replace(one, level="full"), ignore).copies for one in requests)
        count = _count(action, everything)
        requests = [replace(one, sample=Sample(copies=count, size_bytes=action.sample.max_bytes)) for one in requests]
    found = [prospect(repository, one, ignore) for one in requests]
    pins: dict[str, Any] = {
        "snapshots": [row.id.hex() for row in snapshots],
        "count": count,
        "sites": list(sites),
    }
    away = sorted({row.target for one in found for row in one.offline})
    told = f"; {', '.join(away)} unreachable" if away else ""
    if not any(one.copies for one in found):
        return cannot(f"there is nothing to verify{told}")
    read, read_bytes = sum(len(one.read) for one in found), sum(one.read_bytes for one in found)
    bounds = [one.bound_if_clean for one in found if one.bound_if_clean is not None]
    evidence = {
        "copies": sum(one.copies for one in found),
        "read": read,
        "read_bytes": read_bytes,
        "bound_if_clean": max(bounds, default=None),
        "sample": [f"{row.target}/{row.object}" for one in found for row in one.read][:ROWS_MAX],
    }
    provable = not away or bool(sites) or action.level == "sample"
    if action.level == "structure":
        detail = f"lists {evidence['copies']} copies{told}"
        return Preview(verdict="ok", detail=detail, pins=pins, evidence=evidence, provable=provable)
    clean = f"; if all are good, at 95 % confidence at most {max(bounds):.2%} are bad" if bounds else ""
    detail = f"reads {read} of {evidence['copies']} copies, {read_bytes} bytes{clean}{told}"
    return Preview(verdict="ok", detail=detail, pins=pins, evidence=evidence, provable=provable)


def _request(action: Verify, snapshot: Snapshot | None, site: str | None) -> VerifyRequest:
    return VerifyRequest(
        level="full" if action.level == "restore" else action.level,
        snapshot=snapshot,
        site=site,
        objects=None if action.objects is None else frozenset(action.objects),
        seed=action.seed if action.level == "sample" else None,
    )


def _count(action: Verify, copies: int) -> int:
    """Return the number of copies in the sample."""
    sample = action.sample
    share = ceil(copies * sample.fraction) if sample.fraction is not None else 0
    return max(sample.count or 0, share, sample.min_count, 1)


def _command_lines(action: Verify, pins: Mapping[str, Any]) -> list[list[str]]:
    words = ["verify", "--level", action.level]
    words += [word for name in action.objects or () for word in ("--object", name)]
    if action.level == "sample":
        words += ["--sample", str(pins["count"])]
        words += ["--budget", str(action.sample.max_bytes)] if action.sample.max_bytes is not None else []
        words += ["--seed", action.seed] if action.seed is not None else []
    snapshots = [["--snapshot", name] for name in pins.get("snapshots", ())] or [[]]
    sites = [["--site", site] for site in pins.get("sites", action.sites)] or [[]]
    return [[*words, *snapshot, *site] for snapshot in snapshots for site in sites]


def _judged(action: Verify, document: dict[str, Any]) -> Outcome:
    missing, damaged = document["missing"], document["damaged"]
    differing, lost = document.get("differing", []), document["unrepairable"]
    looked_at = _looked_at(action, document)
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
        "refusing": document["refusing"],
        "voters": document["voters"],
        "bound_95": document["bound_95"],
    }
    tolerance = action.tolerance
    problems = [f"{len(missing)} missing"] if len(missing) > tolerance.missing else []
    problems += [f"{len(damaged)} damaged"] if len(damaged) > tolerance.damaged else []
    problems += [f"{len(differing)} not restored correctly"] if differing else []
    problems += [f"{len(lost)} without any good copy"] if lost else []
    away = ", ".join(row["target"] for row in document["offline"])
    if problems:
        return Outcome(status="failed", detail=", ".join(problems), outputs=outputs, evidence=evidence)
    if not looked_at:
        detail = "nothing was checked" + (f": {away} unreachable" if away else "")
        return Outcome(status="unproven", detail=detail, outputs=outputs, evidence=evidence)
    if document["degraded"] and action.level in ("structure", "full"):  # the other levels report only what they read
        detail = "too few copies were found" + (f": {away} unreachable" if away else "; repair completes them")
        return Outcome(status="unproven", detail=detail, outputs=outputs, evidence=evidence)
    told = f"; {away} could not be checked" if away else ""
    told += "".join(f"; {row['target']} not writable" for row in document["refusing"])
    told += "".join(f"; {row['site']} cannot vote" for row in document["voters"])
    return Outcome(status="passed", detail=_told(action, document) + told, outputs=outputs, evidence=evidence)


def _looked_at(action: Verify, document: dict[str, Any]) -> int:
    """Return the number of checked items: snapshots restored, copies read, or packs listed, depending on the level.

    Named objects may belong to the catalogue.
    """
    if action.level == "restore":
        return len(document.get("restored", ()))
    named = int(document["checked"]["catalogue"]) if action.objects else 0
    if action.level in ("sample", "full"):
        return int(document["bound_95"]["read"]) + named
    return int(document["checked"]["packs"]) if document["checked"]["bytes"] else 0


def _told(action: Verify, document: dict[str, Any]) -> str:
    bound, bad = document["bound_95"], len(document["missing"]) + len(document["damaged"])
    within = f"{bad} missing or damaged, which is within the tolerance" if bad else "nothing missing, nothing damaged"
    if action.level == "restore":
        names = ", ".join(row["snapshot"][:8] for row in document["restored"])
        return f"{names} restored and compared"
    if action.level == "structure":
        return f"{document['checked']['packs']} packs listed, {within}"
    told = f"{bound['read']} copies read, {within}"
    if action.level == "full":
        return told
    return f"{told}: at 95 % confidence at most {bound['bad_fraction']:.2%} of the {bound['of']} that waited are bad"


def _nothing() -> dict[str, Any]:
    return {"checked": 0, "checked_bytes": 0, "bad_objects": [], "missing": 0, "damaged": 0}


def _together(outcomes: list[Outcome]) -> Outcome:
    """Merge the outcomes of several sites or snapshots: the worst status, with all findings."""
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
