"""The newest snapshot of each source, its age, its copies and its proof, against the source's objectives."""

import time
from collections.abc import Mapping

from drtool.config.life import Objective
from drtool.manifest.records import Snapshot
from drtool.model import site_of
from drtool.operations.objectives import missed
from drtool.operations.selection import FUTURE_NS
from drtool.operations.status.copies import Copies
from drtool.operations.status.result import SourceStatus
from drtool.repository import Repository


def sources_of(repository: Repository, copies: Copies, objectives: Mapping[str, Objective]) -> list[SourceStatus]:
    now_ns = time.time_ns()
    rows: dict[tuple[str, str], list[Snapshot]] = {(repository.spec.host, name): [] for name in objectives}
    for row in repository.view.state.snapshots:
        rows.setdefault((row.host, row.source), []).append(row)
    found = []
    for (host, source), listed in sorted(rows.items()):
        wanted = objectives.get(source) if host == repository.spec.host else None
        found.append(_source(repository, (host, source), listed, copies, wanted, now_ns))
    return found


def _source(
    repository: Repository,
    key: tuple[str, str],
    rows: list[Snapshot],
    copies: Copies,
    wanted: Objective | None,
    now_ns: int,
) -> SourceStatus:
    """A snapshot that is dated in the future says nothing about age, if there are others."""
    past = [row for row in rows if row.time_ns <= now_ns + FUTURE_NS]
    newest = max(past or rows, key=lambda row: (row.time_ns, row.sequence), default=None)
    age_s = None if newest is None else round(max(0, now_ns - newest.time_ns) / 1e9, 3)
    verified_ns = None if newest is None else last_verified(repository, newest, copies.fewest)
    held = None if newest is None else copies.of(newest)
    proven_s = None if verified_ns is None else (now_ns - verified_ns) / 1e9
    promised = repository.view.state.policy.copies
    lacking = [] if wanted is None else list(missed(wanted, age_s, held, proven_s, promised))
    return SourceStatus(
        name=key[1],
        host=key[0],
        newest_snapshot=None if newest is None else newest.id.hex(),
        age_seconds=age_s,
        rpo_seconds=None if wanted is None else wanted.rpo,
        met=None if wanted is None else not lacking,
        missed=lacking,
        last_verified_ns=verified_ns,
        copies=held,
        snapshots=len(rows),
    )


def last_verified(repository: Repository, snapshot: Snapshot, copies: int | None) -> int | None:
    """Since when all that this snapshot needs was read after it was taken.

    With c copies of everything on n sites, any n - c + 1 sites hold at least one of each: so many must have been read whole.
    """
    state = repository.view.state
    storing = {site_of(row.name) for row in state.targets if not row.votes_only and row.state != "lost"}
    needed = max(1, len(storing) - (copies or 0) + 1)
    times = sorted(
        (
            row.time_ns
            for row in state.coverage
            if row.level == "full" and row.sequence >= snapshot.sequence and row.site in storing
        ),
        reverse=True,
    )
    return times[needed - 1] if len(times) >= needed else None
