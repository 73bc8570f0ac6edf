"""One look at everything: sites, quorum, copies, sources."""

from collections.abc import Iterable, Mapping

from drtool.config.life import Objective
from drtool.events import Emit, Stage
from drtool.operations.status.copies import Copies, alone_at
from drtool.operations.status.remarks import Seen, remarks
from drtool.operations.status.result import QuorumStatus, Remark, SourceStatus, StatusResult, problem
from drtool.operations.status.sites import sites_of
from drtool.operations.status.sources import sources_of
from drtool.repository import Repository
from drtool.repository.inventory import take_inventory


def status(repository: Repository, emit: Emit, objectives: Mapping[str, Objective] | None = None) -> StatusResult:
    """Return how the repository is now. `objectives`: of this host's sources."""
    emit(Stage(name="looking"))
    inventory = take_inventory(repository.targets)
    manifest = repository.manifest.status()
    repository.load_index()
    copies = Copies(repository, inventory)
    quorum = QuorumStatus(manifest.quorum.needed, manifest.quorum.reachable)
    seen = Seen(
        repository=repository,
        inventory=inventory,
        quorum=quorum,
        below=copies.below,
        alone=alone_at(repository, inventory),
        current=frozenset(row.site for row in manifest.acceptors if row.lag == 0 and not row.problem),
    )
    sources = sources_of(repository, copies, objectives or {})
    found = StatusResult(
        quorum=quorum,
        sites=sites_of(repository, inventory),
        sources=sources,
        sequence=repository.view.sequence,
        tentative=repository.view.tentative,
    )
    return found.judged([*remarks(seen), *_missed(sources)])


def _missed(sources: Iterable[SourceStatus]) -> Iterable[Remark]:
    for row in sources:
        for words in row.missed:
            yield problem(f"source {row.name} of {row.host}: {words}")
