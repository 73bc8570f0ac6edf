"""`restore`: files of a snapshot into scratch or onto a path, or a database into a server.

Restored files are read back and compared, unless `verify: none`. The dry run pins the snapshot, looks up every path, and
looks for a good copy of every pack at the permitted sites.
"""

import os
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from drtool.errors import DrtoolError
from drtool.events import ignore
from drtool.manifest.records import Snapshot
from drtool.model import SiteName, counted, pack_object, site_of
from drtool.operations.restore import RestoreRequest, restore
from drtool.plans.actions import restoring_databases as databases
from drtool.plans.actions import restoring_systems as systems
from drtool.plans.actions.port import Outcome, Preview, PreviewVerdict, RunContext, StepContext, Work
from drtool.plans.actions.snapshots import chosen, only
from drtool.plans.actions.verbs import ROWS_MAX, cannot, deferred, ended
from drtool.plans.language.actions import RESULTS, Restore
from drtool.plans.language.model import kept_off_sites
from drtool.plans.language.values import moment_text
from drtool.plans.scratch.space import choose_root, room_at
from drtool.repository import Repository
from drtool.repository.inventory import take_inventory
from drtool.repository.reach import needed_packs
from drtool.sources.inventory import Inventory
from drtool.trees import Entry, FileType, find_entry, walk

OUTPUTS = RESULTS["restore"]
_INCOMPLETE = 3
_NO_STREAM = "to: stream cannot be used in a step, which has no output; restore into scratch, and name the file"


class RestoreAction:
    """An implementation of `port.Action`."""

    def preview(self, step_context: StepContext, run_context: RunContext) -> Preview:
        action: Restore = step_context.action
        later = deferred(step_context)
        if later is not None:
            return later
        if action.to.stream is not None:
            return cannot(_NO_STREAM)
        wanted = databases.wanted(action)
        if action.exclude and action.verify == "hash":
            return cannot("exclude cannot be verified by hash; leave it out, or write verify: none")
        with run_context.repository() as repository:
            repository.load_index()
            snapshot = only(chosen(repository, action.snapshot, run_context.started, run_context.run))
            sites = permitted(repository, action, run_context)
            missing = _missing(repository, snapshot, sites)
            if missing:
                return cannot(missing)
            size_bytes, files = measured(repository, snapshot, action.paths)
            name = _file_name(repository, snapshot, action.paths)
            unfit, inventory = databases.unfit(action, repository, snapshot, run_context) if wanted else ("", None)
            if systems.wanted(action):
                unfit = systems.unfit(action, repository, snapshot)
            if unfit:
                return cannot(run_context.redact(unfit))
            seen = _with_room(action, run_context, snapshot, sites, (size_bytes, files + 16), name)
            if action.delete and seen.verdict != "cannot run":
                seen = _with_deletions(seen, action, repository, snapshot)
        if inventory is None or seen.verdict == "cannot run":
            return seen
        return _of_database(seen, inventory, action)

    def act(self, step_context: StepContext, run_context: RunContext, work: Work) -> Outcome:
        action: Restore = step_context.action
        pins = step_context.pins
        if not pins:  # its inputs were not known in the dry run
            seen = self.preview(step_context, run_context)
            if seen.verdict == "cannot run":
                return Outcome(status="failed", cause="error", detail=seen.detail)
            pins = seen.pins
        scratch = action.to.path is None
        to = work.scratch(pins["bytes"], pins["files"]) / "restored" if scratch else Path(pins["to"])
        done: list[Outcome] = []
        for path, place in _parts(action, to):
            words = _words(action, pins, path, place)
            result, document = run_context.drtool(words, work)
            done.append(ended(result, document, run_context, _judged, (0, _INCOMPLETE)))
            if done[-1].status != "passed":
                break
        restored = _together(done, pins, to / pins["name"])
        if restored.status != "passed" or not (databases.wanted(action) or systems.wanted(action)):
            return restored
        system = systems.wanted(action)
        loaded = systems.judged(to, run_context) if system else databases.load(action, pins, to, run_context, work)
        outputs = restored.outputs | {name: value for name, value in loaded.outputs.items() if value is not None}
        return replace(loaded, outputs=outputs, evidence=restored.evidence | loaded.evidence)


def permitted(repository: Repository, action: Restore, run_context: RunContext) -> list[SiteName]:
    """Return the sites that may be read from."""
    never = kept_off_sites(run_context.plan)
    wanted = set(action.from_sites)
    return [site for site in repository.targets.sites() if site not in never and (not wanted or site in wanted)]


def _missing(repository: Repository, snapshot: Snapshot, sites: list[SiteName]) -> str:
    """Describe the packs that no permitted site has, or return an empty string."""
    problems: list[str] = []
    needed = needed_packs(repository, [snapshot.root], lambda error: problems.append(error.message))
    if problems:
        return f"snapshot {snapshot.id.hex()[:8]} cannot be walked: {problems[0]}"
    inventory = take_inventory(repository.targets)
    sizes = {row.pack: row.size_bytes for row in repository.index.packs()}
    damaged = repository.findings.all()
    lacking = []
    for pack in needed:
        name = pack_object(pack)
        holders = [
            t for t in inventory.holders(name, sizes.get(pack)) if site_of(t) in sites and (t, name) not in damaged
        ]
        if not holders:
            lacking.append(name)
    if not lacking:
        return ""
    where = ", ".join(sites) or "no site"
    told = f"{len(lacking)} of {len(needed)} packs of snapshot {snapshot.id.hex()[:8]}"
    return f"{told} are not at {where}, {min(lacking)} first"


def measured(repository: Repository, snapshot: Snapshot, paths: tuple[str, ...]) -> tuple[int, int]:
    """Return (bytes, files) of the requested paths. Raises DrtoolError for a path that is not in the snapshot."""
    if not paths:
        return snapshot.counts.bytes, snapshot.counts.files
    size_bytes = files = 0
    for path in paths:
        entry = find_entry(snapshot.root, os.fsencode(path), repository.trees)
        if entry is None:
            raise DrtoolError(f"{path} is not in snapshot {snapshot.id.hex()[:8]} of {moment_text(snapshot.time_ns)}")
        for each in _below(entry, repository):
            size_bytes, files = size_bytes + each.size_bytes, files + 1
    return size_bytes, files


def _file_name(repository: Repository, snapshot: Snapshot, paths: tuple[str, ...]) -> str:
    """Return the name of a single path that is not a directory, or an empty string."""
    if len(paths) != 1:
        return ""
    entry = find_entry(snapshot.root, os.fsencode(paths[0]), repository.trees)
    return "" if entry is None or entry.type == FileType.DIRECTORY else os.fsdecode(entry.name)


def _place(action: Restore, name: str) -> Path:
    """Return the directory to restore into. For a file restored to its own name, this is its parent."""
    to = Path(action.to.path or "")
    in_place = name and to.name == name and (to == Path(action.paths[0]) or not to.is_dir())
    return to.parent if in_place else to


def _parts(action: Restore, to: Path) -> list[tuple[str, Path]]:
    """Return each path (empty for the whole snapshot) with its destination."""
    if len(action.paths) < 2:
        return [("".join(action.paths), to)]
    return [(path, to / f"{number}") for number, path in enumerate(action.paths)]


def _below(entry: Entry, repository: Repository) -> list[Entry]:
    if entry.type != FileType.DIRECTORY:
        return [entry]
    return [entry, *(each for _, each in walk(entry.subtree, b"/", repository.trees))] if entry.subtree else [entry]


def _with_room(
    action: Restore,
    run_context: RunContext,
    snapshot: Snapshot,
    sites: list[SiteName],
    size: tuple[int, int],
    name: str,
) -> Preview:
    size_bytes, files = size
    pins: dict[str, Any] = {
        "source": snapshot.source,
        "snapshot": snapshot.id.hex(),
        "consistent_at": moment_text(snapshot.time_ns),
        "bytes": size_bytes,
        "files": files,
        "name": name,
        "sites": list(sites),
    }
    outputs = {"snapshot_id": pins["snapshot"], "consistent_at": pins["consistent_at"]}
    told = f"snapshot {snapshot.id.hex()[:8]} of {pins['consistent_at']}, {files - 16} names, {size_bytes} bytes"
    if action.to.path is None:
        try:
            choose_root(tuple(run_context.scratch_roots), size_bytes, files)
        except DrtoolError as error:
            return cannot(f"{told}: {error.message}")
        return Preview(verdict="ok", detail=f"{told}, into scratch", pins=pins, outputs=outputs)
    to = _place(action, name)
    if action.overwrite is None and not action.delete and to.is_dir() and any(to.iterdir()):
        return cannot(f"{to} is not empty, and the step has no `overwrite`")
    lacks = room_at(to).lacks(size_bytes, files)
    if lacks:
        return cannot(f"{to} is too small: {lacks}")
    pins["to"] = os.fspath(to)
    return Preview(verdict="would change", detail=f"{to / name}: {told}", pins=pins, outputs=outputs)


def _with_deletions(seen: Preview, action: Restore, repository: Repository, snapshot: Snapshot) -> Preview:
    """Preview the deletions by the command's own dry run: how many names, and whether all can be deleted."""
    deleted = 0
    for path, place in _parts(action, Path(seen.pins["to"])):
        request = RestoreRequest(
            snapshot=snapshot,
            path=os.fsencode(path) or None,
            to=os.fsencode(place),
            excludes=action.exclude,
            overwrite=action.overwrite,
            delete=True,
            from_sites=tuple(seen.pins["sites"]),
            dry_run=True,
        )
        result = restore(repository, request, ignore)
        errors = [error for error in result.errors if error.captured]
        if errors:
            return cannot(f"{errors[0].path}: {errors[0].message}")
        deleted += result.deleted
    told = f"{seen.detail}; {deleted} names that are not in the snapshot would be deleted"
    return replace(seen, detail=told, evidence=seen.evidence | {"deleted": deleted})


def _of_database(seen: Preview, inventory: Inventory, action: Restore) -> Preview:
    """Extend a preview of restored dumps by the database to load and its destination."""
    pins = dict(seen.pins)
    names = ", ".join(database.name for database in inventory.databases)
    pins["consistent_at"] = databases.consistent_at(pins, list(inventory.databases))
    outputs = seen.outputs | {"engine": inventory.drtool, "consistent_at": pins["consistent_at"]}
    where = "a scratch server" if action.to.dsn is None else "the server behind the DSN"
    verdict: PreviewVerdict = "ok" if action.to.dsn is None else "would change"
    detail = f"{names} of {inventory.drtool} {inventory.server_version or ''} into {where}; {seen.detail}"
    return replace(seen, verdict=verdict, detail=detail, pins=pins, outputs=outputs)


def _words(action: Restore, pins: Any, path: str, to: Path) -> list[str]:  # noqa: ANN401 - what `preview` pinned
    words = ["restore", "--to", os.fspath(to)]
    words += [word for site in pins["sites"] for word in ("--from-site", site)]
    words += [word for pattern in action.exclude for word in ("--exclude", pattern)]
    words += ["--overwrite", action.overwrite] if action.overwrite is not None else []
    words += ["--delete"] if action.delete else []
    words += ["--verify"] if action.verify == "hash" else []
    return [*words, "--", pins["snapshot"] + (f":{path}" if path else "")]


def _judged(document: dict[str, Any], exit_code: int) -> Outcome:
    errors = [row for row in document["errors"] if row["captured"]]
    uncaptured = len(document["errors"]) - len(errors)
    outputs = {"file_count": document["files"], "bytes": document["bytes"], "not_captured": uncaptured}
    deleted = document["deleted"]
    if errors or (exit_code == _INCOMPLETE and not uncaptured):
        first = f": {errors[0]['path']}: {errors[0]['message']}" if errors else ""
        detail = f"{counted(len(errors), 'item')} not restored{first}"
        evidence = {"errors": errors[:ROWS_MAX], "deleted": deleted}
        return Outcome(status="failed", detail=detail, outputs=outputs, evidence=evidence)
    evidence = {"verified": bool(document.get("verified")), "deleted": deleted}
    return Outcome(status="passed", outputs=outputs, evidence=evidence)


def _together(done: list[Outcome], pins: Any, to: Path) -> Outcome:  # noqa: ANN401 - as above
    """Merge the outcomes of several paths: the step passes only if all were restored."""
    outputs = {
        "snapshot_id": pins["snapshot"],
        "consistent_at": pins["consistent_at"],
        "path": os.fspath(to),
        "file_count": sum(one.outputs.get("file_count", 0) for one in done),
        "bytes": sum(one.outputs.get("bytes", 0) for one in done),
        "not_captured": sum(one.outputs.get("not_captured", 0) for one in done),
    }
    worst = next((one for one in done if one.status != "passed"), done[-1])
    verified = all(one.evidence.get("verified") for one in done)
    deleted = sum(one.evidence.get("deleted", 0) for one in done)
    told = f"{outputs['file_count']} files of snapshot {pins['snapshot'][:8]}"
    told += (f", {deleted} others deleted" if deleted else "") + (", compared" if verified else "")
    if outputs["not_captured"]:
        told += f"; attributes of {outputs['not_captured']} items could not be backed up, so they are not restored"
    evidence = worst.evidence | {"deleted": deleted}
    return Outcome(
        status=worst.status, detail=worst.detail or told, outputs=outputs, evidence=evidence, cause=worst.cause
    )
