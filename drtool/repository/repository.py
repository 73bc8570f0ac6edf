"""The repository: stores, ring and manifest combined, as used by every operation.

Invariants
    `view` is one point of the manifest. It moves only when `adopt` is called, so an operation sees one consistent
    state.
    No thread runs here while it is idle, so an operation may fork.
"""

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from drtool.crypto import Keyring
from drtool.errors import DrtoolError, NoQuorum, ObjectMissing
from drtool.manifest.facade import Manifest, View
from drtool.manifest.records import SessionKind, Target
from drtool.model import PackId, RepositoryId, SegmentId, SiteName, TargetName, pack_object
from drtool.packing import CutBounds, PackKind
from drtool.repository.cache import Cache
from drtool.repository.evidence import Evidence
from drtool.repository.findings import Copy, Findings
from drtool.repository.index import Index
from drtool.repository.inventory import Inventory, take_inventory
from drtool.repository.kept import KeptBlocks, TreeReader
from drtool.repository.keys import kept_slot
from drtool.repository.known_targets import remember
from drtool.repository.reading import ChunkReader, ObjectReader
from drtool.repository.session import WriterSession
from drtool.repository.slots import Mended, mend_slots, problems_with_slots, read_slots
from drtool.repository.spec import RepositorySpec
from drtool.repository.targets import UNNAMED, Targets
from drtool.repository.twins import Twin
from drtool.repository.writing import Demand, SealedPack, Writer
from drtool.ring import Placement

BRIEFLY_S = 30.0
"""The wait for a server's listing if other targets answer. Storing its data again would take longer."""


class Repository:
    """An open repository, and a context manager that closes every store at its end."""

    def __init__(
        self,
        spec: RepositorySpec,
        targets: Targets,
        keyring: Keyring,
        manifest: Manifest,
        cache: Cache,
        view: View,
        uncertain: DrtoolError | None = None,
        twins: Sequence[Twin] = (),
    ) -> None:
        self.spec = spec
        self.targets = targets
        self.keyring = keyring
        self.manifest = manifest
        self.cache = cache
        self.view = view
        self.uncertain = uncertain
        """Why the view is not certain, if the caller accepted that."""
        self.twins = tuple(twins)
        """Targets that exist twice."""
        self.placement = Placement(view.state.ring)
        self.objects = ObjectReader(targets, keyring, self.placement)
        self._evidence: Evidence | None = None
        self._slots_mended = 0
        """The epoch of the key slots to which every reachable target was brought, or 0."""

    @property
    def id(self) -> RepositoryId:
        return self.keyring.repository

    @cached_property
    def index(self) -> Index:
        """Return the live segments of the view, loaded on first use."""
        index = Index(self.cache, self.keyring, self.objects)
        index.load(self.view.state.segments)
        return index

    def load_index(self) -> dict[SegmentId, str]:
        """Map the index now rather than on first use. Return the segments that cannot be read, and why."""
        self.index.load(self.view.state.segments)
        return self.index.unavailable

    def evidence(self) -> Evidence:
        """Return which copies count. Targets are listed once per run, and again only if other hosts added packs since."""
        if self._evidence is None or not self._evidence.covers(self.index):
            self._evidence = Evidence(self, take_inventory(self.targets, waits_s=BRIEFLY_S))
        return self._evidence

    def known_bad(self, target: TargetName, name: str) -> bool:
        """Return whether a read found that copy damaged or absent."""
        bad = self.objects.bad_copies.get((target, name))
        return (bad is not None and (bad.damaged or bad.missing)) or (target, name) in self.findings.all()

    def bad_copies(self) -> frozenset[Copy]:
        """Return the copies that a read of this run, or a recorded one, found damaged or absent."""
        here = (copy for copy, bad in self.objects.bad_copies.items() if bad.damaged or bad.missing)
        return self.findings.all().union(here)

    def set_lost_packs_aside(self, *, to_read: bool = False, to_look: bool = False) -> int:
        """Take packs that no site has out of the index, so that their data is stored again. Return how many.

        Packs that are condemned or being removed are included, since they are absent for new sessions. `to_read`: a
        pack that only a lost target still has is kept. `to_look`: nothing will be stored.
        """
        going = self.going_packs(self.view, to_read=to_read or to_look)
        where = [*self.targets.storing(), *(self.targets.given_up() if to_read else ())]
        lost = self.lost_packs(take_inventory(self.targets, ("packs/",), of=where, waits_s=BRIEFLY_S)) - going
        self.index.lost = lost | going
        return len(lost)

    @property
    def state_dir(self) -> Path:
        """Return the directory in which this host keeps this repository's state."""
        return self.spec.state_dir / "repositories" / self.id.hex()

    @property
    def lifelines(self) -> Path:
        """Return the directory of the lifelines of this host's sessions."""
        return self.state_dir / "sessions"

    @cached_property
    def findings(self) -> Findings:
        """Return the copies that any host found damaged."""
        return Findings(self)

    def lost_packs(self, inventory: Inventory) -> frozenset[PackId]:
        """Return packs of the index that no target has. One written to an unlisted target may be there."""
        return frozenset(
            pack.pack
            for pack in self.index.packs()
            if not any(inventory.holders(pack_object(pack.pack), pack.size_bytes))
            and not any(self.may_hold(target, inventory) for target in pack.targets)
        )

    def going_packs(self, view: View, *, to_read: bool = False) -> frozenset[PackId]:
        """Return packs that prune has condemned or is removing. `to_read`, or no quorum: as far as the lists are
        readable.

        A writer must not reference such a pack, so it stops if a list is lost. `prune` or `repair` takes that back.
        """
        condemned = (view.state.condemned.objects,) if view.state.condemned else ()
        rows = (*condemned, *(removal.objects for removal in view.state.removing))
        found: set[PackId] = set()
        for row in rows:
            try:
                names = self.manifest.names_in(row)
            except (NoQuorum, ObjectMissing):
                if not (to_read or view.tentative):
                    raise
                continue
            found.update(PackId(names.packs[at : at + 32]) for at in range(0, len(names.packs), 32))
        return frozenset(found)

    def may_hold(self, target: TargetName, inventory: Inventory) -> bool:
        """Return whether an unlisted target that was not given up may still have the objects written to it."""
        out_of_sight = target in inventory.unlisted or target not in self.targets.specs
        return out_of_sight and target not in self.targets.lost and target in self.target_rows()

    @cached_property
    def chunks(self) -> ChunkReader:
        """Return the reader of chunks by id, from the sites."""
        return ChunkReader(self.index.locations, self.objects)

    @cached_property
    def trees(self) -> ChunkReader:
        """Return the same for trees, cached on this host if possible. Unsuitable for checking the sites."""
        if self.objects.sites is not None:
            return self.chunks
        return TreeReader(self.index.locations, self.objects, self._kept)

    @cached_property
    def _kept(self) -> KeptBlocks:
        return KeptBlocks(self.cache.trees)

    def keep_trees(self, pack: SealedPack) -> None:
        """Cache this host's own trees, which it reads next, unless a directory of this host has them."""
        if not any(map(self.targets.near, self.targets.online())):
            self._kept.put_all(pack)

    @property
    def bounds(self) -> CutBounds:
        policy = self.view.state.policy
        return CutBounds(policy.chunk_average_bytes, self.keyring.cut_seed() if policy.hides_sizes else 0)

    @property
    def pads(self) -> bool:
        """Return whether packs are padded."""
        return self.view.state.policy.hides_sizes

    def adopt(self, view: View) -> None:
        """Continue with a later view of the manifest."""
        ring_changed = view.state.ring != self.view.state.ring
        targets_changed = view.state.targets != self.view.state.targets
        self.view = view
        if view.state.keys.generation < self.keyring.generation and not view.tentative:
            self.keyring.seal_under(view.state.keys.generation)  # a forced recovery gave up the newer key
        self.targets.learn(view.state.targets)
        if targets_changed and not self.spec.read_only:
            remember(self.spec, self.id, view, self.targets)
        if ring_changed:
            self.placement = Placement(view.state.ring)
            self.objects.placement = self.placement
        if "index" in self.__dict__:
            self.index.load(view.state.segments)

    def read_only_from(self, sites: Collection[SiteName]) -> None:
        """Restrict the sites from which objects are read."""
        self.objects.sites = frozenset(sites)
        self.__dict__.pop("trees", None)

    def writer(self, *, leaves_slow: bool = False) -> Writer:
        self.prepare_to_write()
        return Writer(self.targets, leaves_slow=leaves_slow)

    def prepare_to_write(self) -> None:
        """Copy key slots to the targets that lack them, once per change of the slots, before objects are stored there."""
        if self._slots_mended != self.view.state.keys.epoch and not self.spec.read_only:
            self.mend_slots()

    def begin(self, writer: Writer, source: str, kind: SessionKind = "backup") -> WriterSession:
        session = WriterSession(self, writer, source, kind)
        self.prepare_to_write()  # the slots may have changed since the writer was created
        return session

    def slot_problems(self) -> list[str]:
        """Return the faults of key slots at the reachable targets."""
        held = read_slots(self.targets, self.view.state.targets)
        return list(problems_with_slots(held, self.view.state.keys, self.id))

    def mend_slots(self, *, thorough: bool = False) -> Mended:
        """Restore missing key slots, before a run stores anything."""
        self._slots_mended = self.view.state.keys.epoch
        kept = kept_slot(self.state_dir)
        return mend_slots(self.targets, self.view.state.keys, self.view.state.targets, kept=kept, thorough=thorough)

    def target_rows(self) -> dict[TargetName, Target]:
        """Return the targets in the manifest, by name."""
        return {row.name: row for row in self.view.state.targets}

    def demand(self, pack: PackId, kind: PackKind) -> Demand:
        """Return where a new pack should be stored."""
        if kind == PackKind.TREES:
            return self.metadata_demand(pack)
        policy = self.view.state.policy
        return Demand(tuple(self.placement.preference(pack)), policy.copies, policy.copies, policy.minimum)

    def metadata_demand(self, name: PackId | SegmentId) -> Demand:
        """Return where a tree pack or segment should be stored: one target per site, up to five, or one if one copy
        suffices.
        """
        policy = self.view.state.policy
        preferred = self.placement.metadata(name)
        order = tuple(dict.fromkeys((*preferred, *self.placement.preference(PackId(name)))))
        return Demand(order, 1 if policy.copies == 1 else len(preferred), policy.copies, policy.minimum)

    def owing(self) -> dict[TargetName, str]:
        """Return the ring's targets that cannot be written, and why. Their objects are owed to them."""
        failures = self.targets.failures
        return {
            name: failures.get(name, UNNAMED)
            for name, row in self.target_rows().items()
            if row.state == "active" and not row.votes_only and not self.targets.writable(name)
        }

    def close(self) -> None:
        self.targets.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
