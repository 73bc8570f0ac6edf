"""`verify`: check that everything is there, is whole, and can be restored."""

import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from drtool.cli.core.moves import loss_lines
from drtool.cli.core.options import Hosts, ManifestFrom, Sources, Tags, narrowing, sites
from drtool.cli.core.selection import SHORT_ID, chosen_snapshot
from drtool.cli.core.text import Document, count, document_of, duration, local, size
from drtool.cli.core.view import Cell, Line, View, line, view
from drtool.errors import DrtoolError, Refused, UsageError, worst_exit
from drtool.events import Warned

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.manifest.records import Snapshot
    from drtool.operations.verify import Sample, VerifyRequest
    from drtool.repository import Repository

_SHOWN = 20
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def verify(
    context: typer.Context,
    level: Annotated[
        Literal["structure", "sample", "full", "restore"] | None,
        typer.Option(
            help="Choose the check: structure (default) compares names and sizes; sample reads, hashes and "
            "decrypts the next part of a round; full reads everything; restore does trial restores and "
            "compares."
        ),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(metavar="5%|N", help="Read this share of all copies, or this number of copies (default 5%)."),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="20GiB|10m", help="Read this many bytes, or for this long (s, m, h).")
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Repair what was found.")] = False,
    snapshot: Annotated[
        str | None, typer.Option(metavar="SNAPSHOT", help="Check only data that this snapshot needs.")
    ] = None,
    site: Annotated[str | None, typer.Option(metavar="SITE", help="Check only copies at this site.")] = None,
    object_: Annotated[
        list[str] | None,
        typer.Option(
            "--object", metavar="NAME", help="Check only this object, by its name below a target (repeatable)."
        ),
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Draw a repeatable sample from this seed, independent of rounds."),
    ] = None,
    host: Hosts = None,
    tag: Tags = None,
    source: Sources = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """Check that stored data is complete and can be restored.

    Every level also checks the catalogue at every site: pages, registers, key slots and markers.

    Samples work in rounds. Each run, on any host, reads the copies that have waited longest, until a round has read
    every copy once.

    The level restore puts the snapshot, or the newest of each source, into a directory below TMPDIR, compares it and
    removes it.

    Examples:
        drtool verify
        drtool verify --budget 10m
        drtool verify --sample 2% --repair
        drtool verify --level full --site paris
        drtool verify --level restore --snapshot latest --source home
    """
    from drtool.operations.verify import Sample, VerifyRequest
    from drtool.operations.verify import verify as run_verify

    call: Call = context.obj
    amount = _sample(sample, budget)
    level = level or ("structure" if amount is None else "sample")
    if amount is not None and level != "sample":
        raise UsageError(f"--sample and --budget are for --level sample, not {level}", hint="leave --level out")
    if seed is not None and level != "sample":
        raise UsageError(f"--seed draws a sample, and --level {level} takes none", hint="leave --seed or --level out")
    if object_ and level == "restore":
        raise UsageError("--level restore takes snapshots, not objects", hint="leave --object out")
    if repair and manifest_from:
        raise UsageError("--repair needs a quorum", hint="leave --manifest-from out")
    call.begin("verify")
    with call.open_repository(sites(manifest_from)) as repository:
        chosen = chosen_snapshot(call, repository, snapshot, narrowing(host, tag, source)) if snapshot else None
        request = VerifyRequest(
            level="structure" if level == "restore" else level,
            sample=amount or Sample(),
            site=site,
            snapshot=chosen,
            objects=frozenset(object_) if object_ else None,
            seed=seed,
            workers=call.settings.workers,
        )
        result = run_verify(repository, request, call.emit)
        document = document_of(result) | {"level": level}
        if repair and (document["missing"] or document["damaged"]):
            document |= _repaired(call, repository, result, request)
        if level == "restore":
            document |= _restored(call, repository, [chosen] if chosen else _newest(repository))
    call.show(document, verify_view(document), exit_code=verify_exit(document))


def _sample(sample: str | None, budget: str | None) -> "Sample | None":
    """Return the sample that the two options request, or None without them."""
    from drtool.operations.verify import Sample

    if sample is None and budget is None:
        return None
    share, copies = _share_or_count(sample) if sample is not None else (None, None)
    size_bytes, time_s = _bytes_or_time(budget) if budget is not None else (None, None)
    return Sample(share=share, copies=copies, size_bytes=size_bytes, time_s=time_s)


def _share_or_count(word: str) -> tuple[float | None, int | None]:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%", word, re.ASCII)
    if match and 0 < float(match[1]) <= 100:
        return float(match[1]) / 100, None
    if re.fullmatch("[0-9]{1,12}", word, re.ASCII) and int(word) > 0:
        return None, int(word)
    raise UsageError(
        f"--sample {word} is neither a share nor a number",
        hint="write 5%, up to 100%, or a number of copies such as 200",
    )


def _bytes_or_time(word: str) -> tuple[int | None, float | None]:
    from drtool.config.units import size_bytes

    match = _SPAN.fullmatch(word)
    bytes_wanted: int | None = None
    time_s = float(match[1]) * _SECONDS[match[2]] if match else None
    with suppress(ValueError):
        bytes_wanted = None if match else size_bytes(word)
    if not bytes_wanted and not time_s:
        raise UsageError(f"--budget {word} is neither a size nor a time", hint="write 20GiB, or 10m (s, m, h)")
    return bytes_wanted, time_s


def _repaired(call: "Call", repository: "Repository", found: object, request: "VerifyRequest") -> Document:
    """Repair, check again, and report the outcome of each finding."""
    from drtool.operations.repair import RepairRequest
    from drtool.operations.repair import repair as run_repair
    from drtool.operations.verify import VerifyResult, healed

    assert isinstance(found, VerifyResult)
    run_repair(repository, RepairRequest(workers=request.workers), call.emit)
    good, bad, now = healed(repository, found, call.emit)
    return {
        "repaired": [document_of(row) for row in good],
        "unrepairable": [document_of(row) for row in bad],
        "degraded": now.degraded,
    }


def _newest(repository: "Repository") -> "list[Snapshot]":
    """Return the newest snapshot of each host's sources."""
    newest: dict[tuple[str, str], Snapshot] = {}
    for row in repository.view.state.snapshots:
        key = (row.host, row.source)
        if key not in newest or row.time_ns >= newest[key].time_ns:
            newest[key] = row
    return [newest[key] for key in sorted(newest)]


def _restored(call: "Call", repository: "Repository", snapshots: "list[Snapshot]") -> Document:
    """Restore each into a directory of its own, compare it, and remove the directory."""
    rows: list[Document] = []
    differing: list[Document] = []
    _demand_room(snapshots)
    for snapshot in snapshots:
        with tempfile.TemporaryDirectory(prefix="drtool-verify-", ignore_cleanup_errors=True) as scratch:
            restored, found = _try_one(call, repository, snapshot, os.path.join(os.fsencode(scratch), b"restored"))
        if os.path.lexists(scratch):
            call.emit(Warned(message=f"the trial restore could not be removed: {scratch}"))
        rows += restored
        differing += found
    return {"restored": rows, "differing": differing}


def _demand_room(snapshots: "list[Snapshot]") -> None:
    """Check the room for the largest snapshot before the first restore. They are restored one at a time."""
    free_bytes = shutil.disk_usage(tempfile.gettempdir()).free
    for snapshot in snapshots:
        if snapshot.counts.bytes > free_bytes:
            raise Refused(
                f"snapshot {snapshot.id.hex()[:SHORT_ID]} has {size(snapshot.counts.bytes)}, but "
                f"{tempfile.gettempdir()} has only {size(free_bytes)} free; nothing was restored",
                hint="set TMPDIR to a place with more room",
            )


def _try_one(
    call: "Call", repository: "Repository", snapshot: "Snapshot", to: bytes
) -> tuple[list[Document], list[Document]]:
    """Restore one snapshot. Return the restored row, if any, and the differences."""
    from drtool.operations.restore import RestoreRequest, destination_of
    from drtool.operations.restore import restore as run_restore
    from drtool.operations.verify import Differing, Restored, differences

    started = time.monotonic()
    name = snapshot.id.hex()
    request = RestoreRequest(snapshot=snapshot, to=to, workers=call.settings.workers)
    try:
        result = run_restore(repository, request, call.emit)
    except DrtoolError as error:
        return [], [document_of(Differing(name, "/", error.message))]
    restored_s = time.monotonic() - started
    found = [Differing(name, error.path, error.message) for error in result.errors if error.captured]
    known = {error.path for error in result.errors if not error.restored}
    imperfect = {error.path for error in result.errors if error.restored}
    try:
        with destination_of(repository, request) as root:
            rows = differences(repository, snapshot, root, imperfect=imperfect)
            found += [row for row in rows if row.path not in known]
    except DrtoolError as error:
        found.append(Differing(name, "/", error.message))
    row = Restored(name, result.files, result.bytes, round(restored_s, 3))
    return [document_of(row)], [document_of(one) for one in found]


def verify_exit(document: Document) -> int:
    """Return the exit code.

    4 means missing or damaged objects at targets that were checked and that were not repaired, or a failed trial
    restore. 5 means that an absent target leaves too few copies.
    """
    mended = {(row["target"], row["object"]) for row in document["repaired"]}
    found = {(row["target"], row["object"]) for row in (*document["missing"], *document["damaged"])}
    codes = [4] if found - mended or document["unrepairable"] or document["differing"] else []
    codes += [5] if document["degraded"] else []
    return worst_exit(0, *codes)


def verify_view(document: Document) -> View:
    checked = document["checked"]
    bad = len(document["missing"]) + len(document["damaged"])
    what = f"{count(checked['packs'], 'pack')}, {size(checked['bytes'])}"
    what = what if checked["packs"] else _copies_of_catalogue(checked["catalogue"])
    head = f"{what}, {document['level']}, {duration(document['wall_seconds'])}"
    blind = bool(document["offline"]) and checked["packs"] > 0 and checked["bytes"] == 0
    lost, away = document["lost"], [row["target"] for row in document["offline"]]
    verdict = (
        Cell(f"{count(lost['packs'], 'pack')} LOST, {count(bad, 'object')} missing or damaged", "bad")
        if lost["packs"]
        else Cell(f"{count(bad, 'object')} missing or damaged", "bad")
        if bad
        else Cell("nothing could be checked", "bad")
        if blind
        else Cell(f"nothing missing, nothing damaged{' at the targets that answer' if away else ''}", "good")
    )
    parts = [line(verdict, f": {head}"), *_unread_index(checked), *_coverage(document)]
    parts += [
        line(Cell("  missing ", "bad"), f"{row['target']}: {row['object']}") for row in document["missing"][:_SHOWN]
    ]
    parts += [
        line(Cell("  damaged ", "bad"), f"{row['target']}: {row['object']} ({row['reason']})")
        for row in document["damaged"][:_SHOWN]
    ]
    parts += [
        line(
            Cell("  lost " if lost["packs"] else "  cannot be restored now ", "bad"),
            f"{row['snapshot'][:SHORT_ID]}: {row['path']}",
        )
        for row in document["affected"][:_SHOWN]
    ]
    parts += [line(Cell(f"  {words}", "warn")) for words in loss_lines(lost)]
    parts += [
        line(Cell("  not restored ", "bad"), f"{row['snapshot'][:SHORT_ID]}: {row['path']} ({row['reason']})")
        for row in document["differing"][:_SHOWN]
    ]
    if document["repaired"]:
        parts.append(line(Cell("  repaired ", "good"), _objects(len(document["repaired"]))))
    parts += [line(Cell("  offline ", "warn"), f"{row['target']}: {row['reason']}") for row in document["offline"]]
    parts += [line(Cell("  cannot be written ", "bad"), f"{r['target']}: {r['reason']}") for r in document["refusing"]]
    parts += [line(Cell("  cannot vote ", "bad"), f"{row['site']}: {row['reason']}") for row in document["voters"]]
    parts += (
        [line(f"  {_objects(misplaced)} {'is' if misplaced == 1 else 'are'} not at every target that the ring assigns")]
        if (misplaced := document["misplaced"])
        else []
    )
    parts += [line(f"  {_objects(document['owed'])} owed to other sites")] if document["owed"] else []
    few = "  too few copies: drtool repair" + (f"; if that is not enough, bring back {', '.join(away)}" if away else "")
    parts += [line(Cell(few, "warn"))] if document["degraded"] and not document["unrepairable"] else []
    hidden = sum(max(0, len(document[key]) - _SHOWN) for key in ("missing", "damaged", "affected", "differing"))
    parts += [line(Cell(f"  … and {hidden} more (--json lists every one)", "dim"))] if hidden else []
    return view(*parts)


def _unread_index(checked: Document) -> list[Line]:
    """Return what was not checked because the index that lists it is unreadable."""
    unread = checked["segments"] - checked["segments_read"]
    if not unread:
        return []
    what = "packs that only these list were not checked" if checked["segments_read"] else "no pack was checked"
    words = f"{unread} of {count(checked['segments'], 'index segment')} cannot be read, so {what}"
    return [line(Cell(f"  {words}: drtool repair rebuilds the index, then verify again", "bad"))]


def _copies_of_catalogue(number: int) -> str:
    return count(number, "object of the catalogue", "objects of the catalogue")


def _objects(number: int) -> str:
    return count(number, "object")


def _coverage(document: Document) -> list[Line]:
    """Return what was read, and what follows for the rest."""
    parts = []
    bound = document["bound_95"]
    if document["level"] == "sample" and bound["read"]:
        parts.append(
            line(
                f"  read {count(bound['read'], 'copy', 'copies')} of {bound['of']:,} pending; at 95 % confidence"
                f" at most {_percent(bound['bad_fraction'])} of these are bad"
            )
        )
    parts += [_round_line(row) for row in document["rounds"]]
    if document["rounds"] and not document["recorded"] and bound["read"]:
        parts.append(
            line(Cell("  the progress could not be recorded: the next run reads the same copies again", "warn"))
        )
    parts += [
        line(
            Cell("  restored ", "good"),
            f"{row['snapshot'][:SHORT_ID]}: {count(row['files'], 'file')}, {size(row['bytes'])} in"
            f" {duration(row['restore_seconds'])}, and compared with the snapshot",
        )
        for row in document["restored"]
    ]
    return parts


def _round_line(row: Document) -> Line:
    share = row["read_bytes"] / row["total_bytes"] if row["total_bytes"] else 1.0
    rest = f"the rest was last read by {local(row['before'])}" if row["before"] else "the rest was never read"
    then = "every copy was read once" if row["finished"] else rest
    read = f"round {row['round']}: {_percent(share)} of {size(row['total_bytes'])} read"
    return line(Cell(f"  {row['site']} ", "strong"), f"{read}; {then}")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2g} %" if fraction < 0.1 else f"{100 * fraction:.0f} %"
