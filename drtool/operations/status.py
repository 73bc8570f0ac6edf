"""One screen: which sites answer, whether the manifest has its quorum, how many copies there are, how old backups are."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping

from msgspec import Struct

from drtool.config.life import Objective
from drtool.errors import DrtoolError, StoreError
from drtool.events import Emit, Stage
from drtool.manifest.records import Snapshot
from drtool.model import SiteName, TargetName, pack_object, segment_object, site_of
from drtool.operations.objectives import missed
from drtool.operations.selection import FUTURE_NS
from drtool.repository import Repository
from drtool.repository.inventory import Inventory, take_inventory
from drtool.repository.placement import distinct_sites
from drtool.repository.reach import needed_chunks
from drtool.repository.targets import UNNAMED

WALK_S = 5.0
"""So long all sources together may take to be walked, where copies are missing."""


class TargetStatus(Struct, frozen=True, kw_only=True):
    """`state` as the manifest says: active, draining, lost, arbiter; unknown for what only this host's configuration names."""

    name: TargetName
    state: str
    reachable: bool
    reason: str | None = None
    objects: int
    bytes: int
    free_bytes: int | None = None


class SiteStatus(Struct, frozen=True, kw_only=True):
    name: SiteName
    reachable: bool
    votes: bool
    targets: list[TargetStatus]


class SourceStatus(Struct, frozen=True, kw_only=True):
    """`copies` is the smallest number of sites that hold any pack of the newest snapshot; None: nothing is stored."""

    name: str
    host: str
    newest_snapshot: str | None
    """None: this host's configuration says what must hold for it, and there is no snapshot."""
    age_seconds: float | None
    rpo_seconds: float | None = None
    met: bool | None = None
    """Whether its objectives are; None: it has none, or it is another host's."""
    missed: list[str] = []
    snapshots: int = 0
    last_verified_ns: int | None = None
    copies: int | None


class QuorumStatus(Struct, frozen=True):
    needed: int
    reachable: int


class StatusResult(Struct, frozen=True, kw_only=True):
    healthy: bool
    quorum: QuorumStatus
    sites: list[SiteStatus]
    sources: list[SourceStatus]
    problems: list[str]
    sequence: int
    tentative: bool


def status(repository: Repository, emit: Emit, objectives: Mapping[str, Objective] | None = None) -> StatusResult:
    """How the repository is now; `healthy` is false while anything is in `problems`. `objectives`: of this host's sources."""
    emit(Stage(name="looking"))
    inventory = take_inventory(repository.targets)
    manifest = repository.manifest.status()
    repository.load_index()
    copies = _Copies(repository, inventory)
    alone = _alone(repository, inventory)
    quorum = QuorumStatus(manifest.quorum.needed, manifest.quorum.reachable)
    sources = _sources(repository, copies, objectives or {})
    problems = [
        *_problems(repository, inventory, quorum, copies.below, alone),
        *(f"source {row.name} of {row.host}: {words}" for row in sources for words in row.missed),
    ]
    return StatusResult(
        healthy=not problems,
        quorum=quorum,
        sites=_sites(repository, inventory),
        sources=sources,
        problems=problems,
        sequence=repository.view.sequence,
        tentative=repository.view.tentative,
    )


class _Copies:
    """On how many sites things are, by the listings."""

    def __init__(self, repository: Repository, inventory: Inventory) -> None:
        self._repository = repository
        self._sites = {
            pack.pack: distinct_sites(inventory.holders(pack_object(pack.pack), pack.size_bytes))
            for pack in repository.index.packs()
        }
        promised = repository.view.state.policy.copies
        self.fewest = min(self._sites.values(), default=None)
        self.below = sum(sites < promised for sites in self._sites.values())
        """How many packs are on fewer than promised."""
        self._ends_at = time.monotonic() + WALK_S

    def of(self, snapshot: Snapshot) -> int | None:
        """The fewest sites that hold any pack of it. Where that takes too long, or a tree cannot be read: of any pack at all."""
        if not self.below:
            return self.fewest
        found: int | None = None
        try:
            for chunk in needed_chunks(self._repository, [snapshot.root]):
                location = self._repository.index.locate(chunk)
                if location is None or time.monotonic() >= self._ends_at:
                    return self.fewest
                sites = self._sites[location.pack.pack]
                found = sites if found is None else min(found, sites)
                if found == self.fewest:
                    return found
        except DrtoolError:  # verify says which; what it lies in may be gone everywhere
            return self.fewest
        return found


def _alone(repository: Repository, inventory: Inventory) -> dict[SiteName, int]:
    """How many packs and index segments only this site has, where more than one copy is promised; damaged copies do not count."""
    if repository.view.state.policy.copies < 2:
        return {}
    damaged = repository.findings.all()
    packs = {pack_object(pack.pack): pack.size_bytes for pack in repository.index.packs()}
    segments = {segment_object(ref.id): ref.size_bytes for ref in repository.view.state.segments}
    alone: Counter[SiteName] = Counter()
    for name, size_bytes in (packs | segments).items():
        sites = {site_of(target) for target in inventory.holders(name, size_bytes) if (target, name) not in damaged}
        if len(sites) == 1:
            alone.update(sites)
    return dict(sorted(alone.items()))


def _problems(
    repository: Repository, inventory: Inventory, quorum: QuorumStatus, below: int, alone: dict[SiteName, int]
) -> Iterable[str]:
    if quorum.reachable < quorum.needed:
        yield f"no quorum: the manifest needs {quorum.needed} voters and {quorum.reachable} can be reached"
    elif quorum.reachable == quorum.needed < len(repository.view.config.voters):
        yield "one more voter gone, and nothing can be written: bring back or replace the one that is away"
    for target, why in sorted(inventory.unlisted.items()):
        yield f"target {target} is offline: {why}"
    for row in repository.view.state.targets:
        if row.name not in repository.targets.specs and row.state != "lost":
            yield f"target {row.name} is one of the repository's, but {UNNAMED}"
        elif row.votes_only and not repository.targets.reachable(row.name):
            yield f"arbiter {row.name} is offline: {repository.targets.failures.get(row.name, UNNAMED)}"
    if below:
        promised = repository.view.state.policy.copies
        yield f"{below} packs are on fewer than {promised} sites that can be listed"
    yield from _in_danger(repository, inventory, alone)
    for segment, why in repository.index.unavailable.items():
        yield f"index segment {segment.hex()[:16]}… cannot be read: {why}"
    yield from repository.slot_problems()
    yield from repository.targets.overlays.problems()
    yield from repository.view.problems


def _in_danger(repository: Repository, inventory: Inventory, alone: dict[SiteName, int]) -> Iterable[str]:
    """What is there, and would be gone too easily."""
    for site, objects in alone.items():
        lone = "1 object is" if objects == 1 else f"{objects} objects are"
        yield f"the loss of {site} alone would cost data: {lone} nowhere else; drtool repair copies them"
    for row in repository.view.state.targets:
        if row.state == "draining" and inventory.objects.get(row.name):
            yield f"target {row.name} is draining and still has {len(inventory.objects[row.name])} objects: drtool rebalance"
    damage = sorted({target for target, _ in repository.findings.all()})
    if damage:
        yield f"damaged copies were found at {', '.join(damage)}: drtool repair replaces them"


def _sites(repository: Repository, inventory: Inventory) -> list[SiteStatus]:
    voters = {voter.site for voter in repository.view.config.voters}
    names = sorted({site_of(name) for name in (*repository.target_rows(), *repository.targets.specs)})
    return [_site(repository, inventory, site, site in voters) for site in names]


def _site(repository: Repository, inventory: Inventory, site: SiteName, votes: bool) -> SiteStatus:
    names = sorted({*repository.target_rows(), *repository.targets.specs})
    targets = [_target(repository, inventory, name) for name in names if site_of(name) == site]
    return SiteStatus(name=site, reachable=any(t.reachable for t in targets), votes=votes, targets=targets)


def _target(repository: Repository, inventory: Inventory, name: TargetName) -> TargetStatus:
    targets, row = repository.targets, repository.target_rows().get(name)
    state = "unknown" if row is None else "arbiter" if row.votes_only and row.state == "active" else row.state
    objects = inventory.objects.get(name)
    reason = None
    free_bytes = None
    if objects is None and name in targets.storing():
        reason = inventory.unlisted.get(name, "not in this host's configuration")
    else:
        try:
            free_bytes = targets.store(name).free_bytes()
        except StoreError as error:
            reason = targets.failures.get(name, error.message)
    return TargetStatus(
        name=name,
        state=state,
        reachable=reason is None,
        reason=reason,
        objects=len(objects or ()),
        bytes=sum((objects or {}).values()),
        free_bytes=free_bytes,
    )


def _sources(repository: Repository, copies: _Copies, objectives: Mapping[str, Objective]) -> list[SourceStatus]:
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
    copies: _Copies,
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
