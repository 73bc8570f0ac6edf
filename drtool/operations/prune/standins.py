"""Stand-ins: a pack that goes because its chunks are also in another pack goes only after that other pack was read.

Chunks are in two packs if two backups stored them at the same time, or if one was stored again. Then one pack is waste,
but a listing cannot show which of them is whole.

Invariants
    A pack is removed in favour of another only if this prune has read that one whole, on as many sites as are promised,
    or as hold either of them. Otherwise both stay.
    Only packs that stand in for one that is about to go are read, each once per run.
"""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

from drtool.events import Emit, Progress, Stage
from drtool.manifest.facade import View
from drtool.model import PackId, TargetName, pack_object
from drtool.operations.prune.grace import Grace
from drtool.operations.prune.plan import plan
from drtool.operations.prune.request import PruneRequest
from drtool.operations.prune.survey import Survey, survey
from drtool.repository import Repository
from drtool.repository.copying import is_whole
from drtool.repository.findings import Copy
from drtool.repository.placement import distinct_sites

WORKERS = 4


class StandIns:
    """What this prune has read of stand-in packs."""

    def __init__(self, repository: Repository, request: PruneRequest, emit: Emit) -> None:
        self._repository, self._request, self._emit = repository, request, emit
        self._whole: dict[PackId, frozenset[TargetName]] = {}
        self._damaged: set[Copy] = set()

    def survey(self, view: View, grace: Grace, alive: Callable[[], None]) -> Survey:
        """Survey everything, and again whenever a copy turns out damaged, since another pack may then be the better
        one.
        """
        while True:
            seen = survey(self._repository, view, grace, alive, self._damaged)
            decided = plan(seen.uses, self._request.unused_share)
            going = {use.pack for use in (*decided.remove, *decided.rewrite)} | seen.condemned.packs
            if not self._read(seen, going, alive):
                return seen

    def refusal(self, seen: Survey, pack: PackId) -> str:
        """Return why a pack may not go in favour of others, or an empty string if it may."""
        for other in seen.marks.stand_ins.get(pack, ()):
            whole = self._whole.get(other, frozenset())
            promised = self._repository.view.state.policy.copies
            needed = max(1, min(promised, distinct_sites([*seen.copies.holders(pack), *whole])))
            if distinct_sites(whole) < needed:
                return (
                    f"its live data is whole in another pack at {distinct_sites(whole)} sites, but must be at {needed}: "
                    "run drtool repair first"
                )
        return ""

    def _read(self, seen: Survey, going: Collection[PackId], alive: Callable[[], None]) -> bool:
        """Read the unread stand-ins of packs that go, and return whether any of them is damaged."""
        others = {other for pack in going for other in seen.marks.stand_ins.get(pack, ())} - self._whole.keys()
        copies = [(other, target) for other in sorted(others) for target in seen.copies.listed(other)]
        found: dict[PackId, set[TargetName]] = {other: set() for other in others}
        damaged: set[Copy] = set()
        for (other, target), whole in self._states(copies, alive):
            if whole:
                found[other].add(target)
            elif whole is False:
                damaged.add((target, pack_object(other)))
        self._whole |= {other: frozenset(targets) for other, targets in found.items()}
        self._damaged |= damaged
        if damaged and not self._request.dry_run:
            self._repository.findings.update(damaged, ())
        return bool(damaged)

    def _states(
        self, copies: Collection[tuple[PackId, TargetName]], alive: Callable[[], None]
    ) -> list[tuple[tuple[PackId, TargetName], bool | None]]:
        if not copies:
            return []
        self._emit(Stage(name="reading"))
        targets, states = self._repository.targets, []
        threads = ThreadPoolExecutor(WORKERS, "read")
        try:
            read = threads.map(lambda copy: is_whole(targets, copy[1], pack_object(copy[0])), copies)
            for number, (copy, state) in enumerate(zip(copies, read, strict=True)):
                alive()
                self._emit(Progress(counted="pack", files=number + 1, total_files=len(copies)))
                states.append((copy, state))
        finally:
            threads.shutdown(cancel_futures=True)
        return states
