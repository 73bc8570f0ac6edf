"""One prune: condemn unreferenced packs, remove those that stayed unreferenced, delete them, and record where that is
done.

Each step is one change of the manifest. A run that dies leaves a state from which the next one continues.

Invariants
    Nothing is condemned or removed unless everything that the snapshots need was read.
    Backups go on meanwhile. Packs that sessions from before the condemnation might still reference wait for the next
    run.
    Deletion is the last step, after the removal is chosen. A target that did not acknowledge it stays pending.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from functools import partial

from msgspec.structs import replace

from drtool.errors import Rejected, StoreError
from drtool.events import Emit, ItemChanged, Progress, Stage, TargetFailed, Warned
from drtool.manifest.facade import View
from drtool.manifest.ops import Condemn, Remove, Removed
from drtool.manifest.records import Condemned, Removal
from drtool.model import ObjectInfo, PackId, TargetName, pack_object, segment_object
from drtool.operations.forget.request import Objection
from drtool.operations.prune.copies import sites_with
from drtool.operations.prune.grace import Grace, grace_of
from drtool.operations.prune.objecting import demand_nothing_objects, objections
from drtool.operations.prune.plan import PackUse, plan
from drtool.operations.prune.request import Amount, PruneRequest, PruneResult, Waiting
from drtool.operations.prune.rewriting import Rewriter, segments_without
from drtool.operations.prune.silence import expire_silent
from drtool.operations.prune.standins import StandIns
from drtool.operations.prune.survey import Names, Survey, demand_index, listed_names, unasked
from drtool.operations.prune.sweeping import sweep
from drtool.repository import Repository
from drtool.repository.ending import described
from drtool.repository.findings import recording_reads
from drtool.repository.lost_lists import take_back
from drtool.repository.session import NOT_OPEN, RENEW_S, Overtaken, WriterSession
from drtool.repository.writing import PackWritten, Writer
from drtool.stores import Store

ATTEMPTS = 8
FEW_SITES = "fewer sites accept index segments now than must have them"
OWED = "full targets miss new index segments: `drtool repair` stores them once the removed objects are deleted there"
OVERTAKEN = (
    "another run ended or took over this prune's session, so this one stopped, and the next prune finishes its work"
)
OVERTAKEN_BY = (NOT_OPEN, "not-removing", "condemned-already")
"""All but the first need two machines with one session: a clone, or a machine restored in the middle of a prune."""
TRY_AGAIN = ("changed-since", "segments-changed", "not-condemned")


def prune(repository: Repository, request: PruneRequest, emit: Emit) -> PruneResult:
    """Remove unreferenced data. `Refused` if references cannot be determined, or if too much would go."""
    started = time.monotonic()
    if request.dry_run:
        return _preview(repository, request, emit, started)
    with closing(repository.writer()) as writer:
        try:
            expire_silent(repository, request, emit)
            session = repository.begin(writer, "", "prune")
        except Rejected as error:
            if error.reason != "prune-open":
                raise
            emit(Warned(message=_at_work(repository)))
            return _result(request, started, waiting=[Waiting("another prune is at work")])
        run = _Run(repository, request, emit, writer, session)
        try:
            with recording_reads(repository, emit):
                return run.go(started)
        except Rejected as error:
            if error.reason not in OVERTAKEN_BY:
                raise
            raise Overtaken(OVERTAKEN, hint="run it again to continue") from error
        finally:
            session.abandon()


def _at_work(repository: Repository) -> str:
    """Return a message about the other prune, from a fresh view, since it may have begun after the last one was read."""
    repository.adopt(repository.manifest.read())
    row = next((row for row in repository.view.state.sessions if row.kind == "prune"), None)
    who = f" ({described(row)})" if row is not None else ""
    return f"another prune, or a repair of the index, is in progress{who}: run this again when it is done"


def _result(request: PruneRequest, started: float, **parts: "Amount | list[Waiting] | list[Objection]") -> PruneResult:
    values = {name: parts.get(name, Amount()) for name in ("removed", "repacked", "kept", "pending")}
    return PruneResult(
        **values,  # type: ignore[arg-type]
        waiting=parts.get("waiting", []),  # type: ignore[arg-type]
        objections=parts.get("objections", []),  # type: ignore[arg-type]
        dry_run=request.dry_run,
        wall_seconds=round(time.monotonic() - started, 3),
    )


def _preview(repository: Repository, request: PruneRequest, emit: Emit, started: float) -> PruneResult:
    """Return what a prune would do now if no backup were in progress."""
    emit(Stage(name="marking"))
    state = repository.view.state
    condemned = listed_names(repository, state.condemned)
    removing = listed_names(repository, *state.removing)
    stand_ins = StandIns(repository, request, emit)
    seen = stand_ins.survey(repository.view, grace_of(repository, request), unasked)
    decided = plan(seen.uses, request.unused_share)
    stay = {use for use in (*decided.remove, *decided.rewrite) if stand_ins.refusal(seen, use.pack)}
    rewritten = [use for use in decided.rewrite if use not in stay and not seen.copies.refusal(use)]
    returned = frozenset(pack for pack in condemned.packs if seen.marks.live_bytes.get(pack))
    pending = len(condemned.packs - returned) + len(removing.packs)
    removed = [use.pack for use in decided.remove if use not in stay]
    if request.names_items:
        _name_packs(emit, "removed", (*removed, *sorted(seen.orphans.packs)))
        _name_packs(emit, "rewritten", (use.pack for use in rewritten))
        _name_packs(emit, "pending", (*sorted(condemned.packs - returned), *sorted(removing.packs)))
    result = _result(
        request,
        started,
        removed=_amount([use for use in decided.remove if use not in stay])
        + Amount(len(seen.orphans.packs), seen.orphan_bytes),
        repacked=_amount(rewritten),
        kept=_amount([*decided.keep, *(use for use in (*decided.rewrite, *stay) if use not in rewritten)]),
        pending=Amount(pending, 0),
        objections=objections(seen, decided, request),
    )
    return replace(result, lost=_lost(repository, seen, emit))


def _name_packs(emit: Emit, change: str, packs: Iterable[PackId]) -> None:
    for pack in packs:
        emit(ItemChanged(path=pack_object(pack), change=change))


def _lost(repository: Repository, seen: Survey, emit: Emit) -> list[str]:
    """Return the packs that snapshots still need and that have no copy, as far as this run listed and read them."""
    lost = seen.without_copy() & {row.pack for row in repository.index.packs()}
    if lost:
        packs = "1 pack that snapshots need has" if len(lost) == 1 else f"{len(lost)} packs that snapshots need have"
        emit(
            Warned(message=f"{packs} no good copy left: drtool verify lists the lost files and how to bring them back")
        )
    return sorted(map(pack_object, lost))


class _Run:
    def __init__(
        self, repository: Repository, request: PruneRequest, emit: Emit, writer: Writer, session: WriterSession
    ) -> None:
        self._repository, self._request, self._emit = repository, request, emit
        self._writer, self._session = writer, session
        self._grace: Grace = grace_of(repository, request)
        self._stand_ins = StandIns(repository, request, emit)
        self._rewritten: frozenset[PackId] = frozenset()
        self._removed = Amount()
        self._repacked = Amount()
        self._kept = Amount()
        self._waiting: list[Waiting] = []

    def go(self, started: float) -> PruneResult:
        view = take_back(self._repository, self._session.view, self._session.id, self._emit)
        view = self._delete_removals(view)
        self._emit(Stage(name="marking"))
        seen = self._survey(view)
        if view.state.condemned is not None:
            view, seen = self._remove(seen, view.state.condemned)
        if view.state.condemned is None:
            view = self._condemn(seen)
            if view.state.condemned is not None:
                view, seen = self._remove(seen, view.state.condemned)
        self._repository.adopt(view)
        result = _result(
            self._request,
            started,
            removed=self._removed,
            repacked=self._repacked,
            kept=self._kept,
            pending=self._pending(view),
            waiting=self._waiting,
        )
        return replace(
            result, lost=_lost(self._repository, seen, self._emit), swept_files=sweep(self._repository, self._emit)
        )

    def _survey(self, view: View) -> Survey:
        self._rewritten = frozenset()  # the new survey finds the chunks in their new packs
        return self._stand_ins.survey(view, self._grace, self._session.renew)

    def _condemn(self, seen: Survey) -> View:
        """Decide, rewrite mostly wasted packs, and condemn what is to go."""
        decided = plan(seen.uses, self._request.unused_share)
        demand_nothing_objects(seen, decided, self._request)
        self._emit(Stage(name="rewriting"))
        rewritten, spare = self._rewrite(seen, decided.rewrite)
        held = {use.pack: why for use in decided.remove if (why := self._stand_ins.refusal(seen, use.pack))}
        self._tell_what_stays(held)
        going = [*(use for use in decided.remove if use.pack not in held), *rewritten]
        self._rewritten = frozenset(use.pack for use in rewritten)
        self._repacked = _amount(rewritten)
        gone = {use.pack for use in going}
        self._kept = _amount([use for use in seen.uses if use.pack not in gone])
        packs = {*(use.pack for use in going), *(new.pack for new in spare)}
        names = Names(seen.orphans.packs | packs, seen.orphans.segments)
        if not names and not self._grace.due(seen.view.state.forgotten):
            return seen.view
        size_bytes = sum(use.size_bytes for use in going) + sum(new.size_bytes for new in spare) + seen.orphan_bytes
        kept = self._repository.manifest.keep_names(names.listed(), size_bytes)
        op = Condemn(kept, seen.view.sequence, self._session.id)
        return self._repository.manifest.commit(op).view

    def _rewrite(self, seen: Survey, uses: Sequence[PackUse]) -> tuple[list[PackUse], list[PackWritten]]:
        """Return the packs that may go, and the new ones that are not needed."""
        refusals = ((use.pack, self._stand_ins.refusal(seen, use.pack) or seen.copies.refusal(use)) for use in uses)
        failed = {pack: why for pack, why in refusals if why}
        uses = [use for use in uses if use.pack not in failed]
        done_bytes = 0
        total_bytes = sum(use.size_bytes for use in uses)

        def tick(size_bytes: int) -> None:
            nonlocal done_bytes
            done_bytes += size_bytes
            self._session.renew()
            self._emit(Progress(processed_bytes=done_bytes, total_bytes=total_bytes))

        rewriter = Rewriter(self._repository, self._writer, seen.marks, seen.copies, tick)
        done, stay = rewriter.rewrite(uses)
        if rewriter.written and not self._make_known(
            rewriter.written, max(map(seen.copies.needed, (use.pack for use in done)))
        ):
            done, stay = [], stay | {use.pack: FEW_SITES for use in done}
        self._tell_what_stays(failed | stay)
        return done, rewriter.spare

    def _tell_what_stays(self, why_not: Mapping[PackId, str]) -> None:
        for pack, why in why_not.items():
            self._emit(Warned(message=f"pack {pack.hex()[:16]}… is kept: {why}"))

    def _make_known(self, packs: Sequence[PackWritten], needed_sites: int) -> bool:
        """Return whether the index segment that names them is on enough sites."""
        self._session.add(packs)
        new = set(self._session.checkpoint())
        refs = (ref for ref in self._repository.view.state.segments if ref.id in new)
        return all(sites_with(self._repository, segment_object(ref.id), ref.targets) >= needed_sites for ref in refs)

    def _remove(self, seen: Survey, condemned: Condemned) -> tuple[View, Survey]:
        """Take back what is needed after all, then remove and delete the rest, or leave it to the next run."""
        names = listed_names(self._repository, condemned)
        for _ in range(ATTEMPTS):
            view = self._repository.manifest.read()
            older = [row for row in view.state.sessions if row.kind == "backup" and row.opened < condemned.sequence]
            if older:
                what = f"{len(older)} backup{'s' if len(older) > 1 else ''} from before in progress"
                self._waiting.append(Waiting(what, len(names.packs)))
                return view, seen
            if any(view.state.snapshots.since(seen.view.sequence)):
                seen = self._survey(view)
            else:
                self._repository.adopt(view)
            try:
                removed = self._commit_removal(seen, condemned, names, view)
            except Rejected as error:
                if error.reason not in TRY_AGAIN:
                    raise
                continue
            if removed is None:
                unable = ", ".join(self._tell_of_targets())
                self._waiting.append(Waiting(f"{FEW_SITES} (not {unable})" if unable else FEW_SITES, len(names.packs)))
                return view, seen
            return self._delete_removals(removed), seen
        self._waiting.append(Waiting("backups kept finishing meanwhile", len(names.packs)))
        return self._repository.manifest.read(), seen

    def _commit_removal(self, seen: Survey, condemned: Condemned, names: Names, view: View) -> View | None:
        """Return the view after the removal, or None if the new index segments would be on too few sites."""
        needed = frozenset(
            pack
            for pack in names.packs - self._rewritten
            if seen.marks.live_bytes.get(pack) or self._stand_ins.refusal(seen, pack)
        )
        demand_index(self._repository)
        live, packs = frozenset(ref.id for ref in view.state.segments), self._repository.index
        going = Names(names.packs - needed, names.segments - live)
        index = segments_without(self._repository, self._writer, going.packs, seen.copies)
        if index is None:
            return None
        segments, replaced = index
        if seen.copies.owed(segments) and segments:
            self._tell_of_targets()
            self._emit(Warned(message=OWED))
        listed = going.listed()
        back_bytes = sum({row.pack: row.size_bytes for row in packs.packs() if row.pack in needed}.values())
        kept = self._repository.manifest.keep_names(listed, max(0, condemned.objects.bytes - back_bytes))
        marked = max(seen.view.sequence, view.sequence)
        op = Remove(
            condemned.sequence,
            kept,
            marked,
            tuple(self._repository.target_rows()),
            segments,
            replaced,
            tuple(row.snapshot.id for row in self._grace.due(seen.view.state.forgotten)),
            self._session.id,
        )
        return self._repository.manifest.commit(op).view

    def _tell_of_targets(self) -> list[TargetName]:
        """Report the targets that are reachable but not writable, and return them."""
        targets = self._repository.targets
        unable = [name for name in targets.online() if not targets.writable(name)]
        for name in unable:
            self._emit(TargetFailed(target=name, reason=targets.failures[name]))
        return unable

    def _delete_removals(self, view: View) -> View:
        """Delete the objects being removed at every reachable target, and record those targets as done."""
        for removal in view.state.removing:
            self._emit(Stage(name="deleting"))
            done = self._delete(removal)
            if set(removal.pending) <= set(done):  # counted once, when no copy is left anywhere
                self._removed += Amount(removal.objects.count, removal.objects.bytes)
            if done:
                view = self._repository.manifest.commit(Removed(removal.sequence, done, self._session.id)).view
        return view

    def _delete(self, removal: Removal) -> tuple[TargetName, ...]:
        objects = frozenset(listed_names(self._repository, removal).objects())
        there = {name for name, row in self._repository.target_rows().items() if row.state != "lost"}
        pending = [name for name in removal.pending if name in there]
        gone = [name for name in removal.pending if name not in there]  # given up for good: nothing is read there again
        with ThreadPoolExecutor(max(1, len(pending)), "delete") as threads:
            results = {name: threads.submit(self._delete_at, name, objects) for name in pending}
            while wait(results.values(), RENEW_S).not_done:
                self._session.renew()
        return (*gone, *(name for name, done in results.items() if done.result()))

    def _delete_at(self, target: TargetName, objects: frozenset[str]) -> bool:
        """Return whether none of `objects` is left there."""
        targets = self._repository.targets
        try:
            store = targets.store(target)
            for prefix in ("packs/", "index/"):
                for info in targets.patiently(target, partial(_listed, store, prefix)):
                    if info.name in objects:
                        targets.patiently(target, partial(store.delete, info.name))
        except StoreError as error:
            self._emit(TargetFailed(target=target, reason=targets.fail_by(target, error)))
            return False
        return True

    def _pending(self, view: View) -> Amount:
        amount = Amount()
        for row in view.state.removing:
            amount += Amount(row.objects.count, row.objects.bytes)
            self._waiting.append(Waiting(f"not yet deleted at {', '.join(row.pending)}", row.objects.count))
        if view.state.condemned is not None:
            amount += Amount(view.state.condemned.objects.count, view.state.condemned.objects.bytes)
        return amount


def _listed(store: Store, prefix: str) -> list[ObjectInfo]:
    return list(store.list(prefix))


def _amount(uses: Sequence[PackUse]) -> Amount:
    return Amount(len(uses), sum(use.size_bytes for use in uses))
