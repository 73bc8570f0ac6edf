"""`status`: gathers sites, quorum, copies and sources in one pass."""

import time
from collections.abc import Iterable, Mapping

from drtool.config.life import Objective
from drtool.events import Emit, Stage
from drtool.operations.owed import amounts, owed_copies
from drtool.operations.status.copies import WALK_S, Copies, alone_at
from drtool.operations.status.remarks import Seen, remarks
from drtool.operations.status.result import QuorumStatus, Remark, SourceStatus, StatusResult, problem
from drtool.operations.status.room import needs_of
from drtool.operations.status.sites import sites_of
from drtool.operations.status.sources import sources_of
from drtool.repository import Repository
from drtool.repository.inventory import take_inventory
from drtool.repository.losses import report_of
from drtool.repository.mirrors import look_at_copies
from drtool.repository.readiness import readiness


def status(
    repository: Repository,
    emit: Emit,
    objectives: Mapping[str, Objective] | None = None,
    *,
    now_ns: int | None = None,
) -> StatusResult:
    """Return the current state of the repository.

    `objectives`: of this host's sources. `now_ns`: in place of the clock.
    """
    emit(Stage(name="looking"))
    now_ns = time.time_ns() if now_ns is None else now_ns
    mirrors = look_at_copies(repository)
    needs = needs_of(repository)
    ready = readiness(repository, {name: need.tried_bytes for name, need in needs.items()})
    inventory = take_inventory(repository.targets)
    repository.load_index()
    copies = Copies(repository, inventory)
    nowhere, loss = report_of(repository, copies.nowhere, time.monotonic() + WALK_S)
    owed = amounts(owed_copies(repository, inventory, inventory.objects.__contains__, time.monotonic() + WALK_S))
    sites = sites_of(repository, inventory, ready, needs, owed)
    quorum = QuorumStatus(ready.manifest.quorum.needed, ready.manifest.quorum.reachable)
    rows = [row for site in sites for row in site.targets]
    seen = Seen(
        repository=repository,
        inventory=inventory,
        quorum=quorum,
        ready=ready,
        needs=needs,
        free_bytes={row.name: row.free_bytes for row in rows if row.free_bytes is not None},
        below=copies.below,
        nowhere=nowhere,
        loss=loss,
        alone=alone_at(repository, inventory),
        copies=mirrors,
        owed=owed,
        now_ns=now_ns,
        current=frozenset(row.site for row in ready.manifest.acceptors if row.lag == 0 and not row.problem),
    )
    sources = sources_of(repository, copies, objectives or {}, now_ns)
    found = StatusResult(
        quorum=quorum,
        sites=sites,
        sources=sources,
        lost=seen.loss,
        sequence=repository.view.sequence,
        tentative=repository.view.tentative,
        catalogue_copies=mirrors,
    )
    return found.judged([*remarks(seen), *_missed(sources)])


def _missed(sources: Iterable[SourceStatus]) -> Iterable[Remark]:
    for row in sources:
        for words in row.missed:
            yield problem(f"source {row.name} of {row.host}: {words}")
