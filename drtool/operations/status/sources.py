"""The newest snapshot of each source, its age, copies and proof, compared with the source's objectives."""

from collections.abc import Mapping

from drtool.config.life import Objective
from drtool.manifest.records import Snapshot
from drtool.operations.objectives import missed
from drtool.operations.selection import FUTURE_NS
from drtool.operations.status.copies import Copies
from drtool.operations.status.proven import Reading, last_verified, newest_proven, newest_reading, proven_of
from drtool.operations.status.result import SourceStatus
from drtool.repository import Repository


def sources_of(
    repository: Repository, copies: Copies, objectives: Mapping[str, Objective], now_ns: int
) -> list[SourceStatus]:
    """Return every source of any host that has a snapshot, or an objective in this configuration."""
    rows: dict[tuple[str, str], list[Snapshot]] = {(repository.spec.host, name): [] for name in objectives}
    for row in repository.view.state.snapshots:
        rows.setdefault((row.host, row.source), []).append(row)
    reading = newest_reading(repository.view.state, copies.fewest)
    found = []
    for (host, source), listed in sorted(rows.items()):
        wanted = objectives.get(source) if host == repository.spec.host else None
        found.append(_source(repository, (host, source), listed, copies, reading, wanted, now_ns))
    return found


def _source(
    repository: Repository,
    key: tuple[str, str],
    rows: list[Snapshot],
    copies: Copies,
    reading: Reading | None,
    wanted: Objective | None,
    now_ns: int,
) -> SourceStatus:
    """Return a source's status. A snapshot dated in the future says nothing about age, so others are preferred."""
    state = repository.view.state
    past = [row for row in rows if row.time_ns <= now_ns + FUTURE_NS] or rows
    newest = max(past, key=lambda row: (row.time_ns, row.sequence), default=None)
    age_s = None if newest is None else round(max(0, now_ns - newest.time_ns) / 1e9, 3)
    held = None if newest is None else copies.of(newest)
    proof = newest_proven(past, reading)
    waiting = proven_of(state, past, reading, now_ns) if past else None
    lacking = [] if wanted is None else list(missed(wanted, age_s, held, waiting, state.policy.copies))
    return SourceStatus(
        name=key[1],
        host=key[0],
        newest_snapshot=None if newest is None else newest.id.hex(),
        age_seconds=age_s,
        rpo_seconds=None if wanted is None else wanted.rpo,
        met=None if wanted is None else not lacking,
        missed=lacking,
        last_verified_ns=None if proof is None else last_verified(state, proof, copies.fewest),
        proven_snapshot=None if proof is None else proof.id.hex(),
        proven_age_seconds=None if proof is None else round(max(0, now_ns - proof.time_ns) / 1e9, 3),
        copies=held,
        snapshots=len(rows),
    )
