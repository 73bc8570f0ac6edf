"""The choice of a step's snapshot, made once during the dry run and pinned by id."""

import random
import time
from collections.abc import Iterable, Sequence

from drtool.errors import DrtoolError, NoSuchSnapshot
from drtool.manifest.records import Snapshot
from drtool.operations.selection import Narrowing, narrowed, select
from drtool.operations.status import last_verified
from drtool.plans.language.actions import SnapshotChoice
from drtool.plans.language.values import Moment, duration_text, moment_text
from drtool.repository import Repository


def chosen(repository: Repository, choice: SnapshotChoice, started: Moment, seed: str) -> list[Snapshot]:
    """Return the chosen snapshots: one, or without a source one per host and source. Raises NoSuchSnapshot."""
    snapshots = list(repository.view.state.snapshots)
    if choice.id is not None:
        return [select(snapshots, choice.id, now_ns=time.time_ns()).snapshot]
    sources = (choice.source,) if choice.source else ()
    hosts = (choice.host,) if choice.host else ()
    rows = narrowed(snapshots, Narrowing(hosts=hosts, tags=choice.tags, sources=sources))
    if choice.source is not None and not rows:
        known = sorted({row.source for row in snapshots if row.source})
        raise NoSuchSnapshot(
            f"source {choice.source} has no snapshot; there are snapshots of {', '.join(known) or 'nothing'}"
        )
    groups: dict[tuple[str, str], list[Snapshot]] = {}
    for row in rows:
        groups.setdefault((row.host, row.source) if choice.source is None else ("", row.source), []).append(row)
    if not groups:
        raise NoSuchSnapshot("there is no snapshot")
    if choice.source is None and choice.select == "random" and choice.within_s is not None:
        since_ns = started.value_ns - choice.within_s * 1e9
        # a source that is no longer backed up must not block the others; its own objective reports it
        groups = {name: each for name, each in groups.items() if max(row.time_ns for row in each) >= since_ns} or groups
    return [_of_one(repository, group, choice, started, seed) for group in groups.values()]


def only(snapshots: Sequence[Snapshot]) -> Snapshot:
    """Return the single snapshot of a restore."""
    if len(snapshots) > 1:
        told = ", ".join(sorted({f"{row.source or '-'} of {row.host}" for row in snapshots}))
        raise DrtoolError(f"several sources have snapshots: {told}", hint="name one: snapshot: {source: …}")
    return snapshots[0]


def _of_one(
    repository: Repository, rows: Iterable[Snapshot], choice: SnapshotChoice, started: Moment, seed: str
) -> Snapshot:
    """Choose one of the snapshots of one source."""
    found = sorted(rows, key=lambda row: (row.time_ns, row.sequence))
    copies = repository.view.state.policy.copies
    told = f"source {choice.source}" if choice.source else f"{found[0].host}"
    if choice.select == "latest":
        return select(found, "latest", now_ns=started.value_ns).snapshot
    if choice.select == "at":
        at_ns = choice.at.resolved(started).value_ns if choice.at is not None else started.value_ns
        before = [row for row in found if row.time_ns <= at_ns]
        if not before:
            raise NoSuchSnapshot(
                f"{told} has no snapshot at or before {moment_text(at_ns)}; the first is of {moment_text(found[0].time_ns)}"
            )
        return before[-1]
    if choice.select == "latest-verified":
        verified = [row for row in found if last_verified(repository.view.state, row, copies) is not None]
        if not verified:
            raise NoSuchSnapshot(f"no snapshot of {told} was fully verified", hint="drtool verify --level full")
        return verified[-1]
    if choice.within_s is not None:
        found = [row for row in found if started.value_ns - row.time_ns <= choice.within_s * 1e9]
        if not found:
            raise NoSuchSnapshot(f"{told} has no snapshot from the last {duration_text(choice.within_s)}")
    return random.Random(f"{seed}/{told}").choice(found)
