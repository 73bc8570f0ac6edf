"""The step from a sealed head to its state: fetch the objects that it names, check them, apply the recent changes.

Invariants
    Every object is checked against its name before it is opened, whether it comes from memory, cache or a site.
    A state is returned only if digest, sequence and open sessions agree with the head's own.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from drtool.crypto import SealKind, object_name
from drtool.errors import FormatError, NoQuorum, ObjectMissing
from drtool.manifest.head import Head, Reference, open_head, open_row, seal_row
from drtool.manifest.names import OBJECTS, name_in, object_key
from drtool.manifest.ops import Change
from drtool.manifest.pages import (
    Checkpoint,
    Fold,
    ForgottenPage,
    LogPage,
    NameList,
    SnapshotPage,
    catalogue_of,
    fold,
    log_pages_to_merge,
    removable,
)
from drtool.manifest.ports import Failed, Gather, Keys, List, PageCache, Put, Read, Talk
from drtool.manifest.records import ObjectList, Row
from drtool.manifest.rejection import Rejection
from drtool.manifest.state import Core, State, apply_all, begin, state_of
from drtool.model import SiteName

KINDS: Mapping[type[Row], SealKind] = {
    Checkpoint: SealKind.CHECKPOINT,
    LogPage: SealKind.LOG_PAGE,
    SnapshotPage: SealKind.OBJECT,
    ForgottenPage: SealKind.OBJECT,
    NameList: SealKind.OBJECT,
}
HEADS_REMEMBERED = 4
FETCH_TRIES = 3


Dispensable = Callable[[Collection[SiteName]], set[bytes]]
"""Maps the sites that did not answer to the names of the objects that may be missing nevertheless."""


def _nothing(_silent: Collection[SiteName]) -> set[bytes]:
    return set()


class Learned(msgspec.Struct, frozen=True):
    """A head and its state. `value` is the sealed head, as it was accepted."""

    value: bytes
    head: Head
    state: State
    checkpoint: Checkpoint | None


class Folded(msgspec.Struct, frozen=True):
    """A checkpoint at some head, with the objects that must be durable before another head names it."""

    reference: Reference
    objects: Mapping[bytes, bytes]
    obsolete: tuple[bytes, ...]


class Library:
    """Opens heads and objects, and caches the few that it opened last."""

    def __init__(self, keys: Keys, cache: PageCache) -> None:
        self.keys = keys
        self._cache = cache
        self._rows: dict[bytes, Row] = {}
        self._learned: dict[bytes, Learned] = {}
        self._folds: dict[bytes, Folded] = {}
        self.mirrors: Callable[[], Sequence[SiteName]] = tuple
        """Other places that may have objects: targets with a mirror. They are asked last."""

    def learn(self, sites: Sequence[SiteName], value: bytes) -> Talk[Learned]:
        """Return the state of the sealed head `value`. Each object comes from the first of `sites` that has it."""
        known = self._learned.get(value)
        if known is not None:
            return known
        head = open_head(self.keys, value)
        checkpoint = None
        if head.checkpoint is not None:
            checkpoint = yield from self._one(sites, head.checkpoint, Checkpoint)
        state = yield from self._state(sites, head, checkpoint)
        learned = Learned(value, head, state, checkpoint)
        self._remember(learned)
        return learned

    def fold(self, sites: Sequence[SiteName], base: Learned) -> Talk[Folded]:
        """Return a checkpoint at `base`. A repeated call returns the same one, so that a retry stores nothing twice."""
        known = self._folds.get(base.head.digest)
        if known is not None:
            return known
        wanted = log_pages_to_merge(base.checkpoint)
        names = {page.name for page in wanted}
        pages = yield from self._fetch(sites, wanted, LogPage, lambda silent: set() if silent else names)
        new = Fold(lambda row: seal_row(self.keys, KINDS[type(row)], row, base.state.keys))
        reference, _ = fold(new, base.head, base.state, base.checkpoint, pages)
        for name, row in new.loaded.items():
            self._rows[name] = row
            self._cache.put(name, new.objects[name])
        folded = Folded(reference, new.objects, removable(base.checkpoint, base.head.sequence))
        self._folds = {base.head.digest: folded}
        return folded

    def log_pages(self, sites: Sequence[SiteName], references: Iterable[Reference]) -> Talk[dict[bytes, LogPage]]:
        """Return pages of the log, by name."""
        return (yield from self._fetch(sites, references, LogPage))

    def names_in(self, sites: Sequence[SiteName], row: ObjectList) -> Talk[NameList]:
        """Return the names in a list."""
        if not row.count:
            return NameList()
        try:
            names: NameList = yield from self._one(sites, Reference(row.name, row.size_bytes), NameList)
        except ObjectMissing as error:
            raise ObjectMissing(
                f"the list of {row.count} objects that prune is about to remove is on no site ({object_key(row.name)})",
                hint="run `drtool prune`: it takes that list back, and finds unreferenced objects again",
            ) from error
        return names

    def sealed_below(
        self,
        sites: Sequence[SiteName],
        learned: Learned,
        witnesses: Sequence[SiteName] | None = None,
        names: Collection[bytes] | None = None,
    ) -> Talk[dict[bytes, bytes]]:
        """Return every object below a head, or those in `names`, as stored: from the cache or the first site that has
        it.

        Lost history must not prevent later work. A log page is left out if every one of `witnesses` (default: all
        `sites`) answered that it does not have it. A list of objects that prune removes may be missing, since only
        prune needs it.
        """
        wanted = object_names(learned) if names is None else set(names)
        lists = {row.name for row in lists_of(learned.state)}
        asked = sites if witnesses is None else witnesses

        def dispensable(silent: Collection[SiteName]) -> set[bytes]:
            return lists if any(site in asked for site in silent) else wanted - state_names(learned)

        found = {name: data for name in wanted if (data := self.cached(name)) is not None}
        found |= yield from self._fetch_sealed(sites, wanted - found.keys(), dispensable)
        return dict(sorted(found.items()))

    def cached(self, name: bytes) -> bytes | None:
        """Return an object as stored, if this host's cache has it whole."""
        sealed = self._cache.get(name)
        return sealed if sealed is not None and object_name(sealed) == name else None

    def _state(self, sites: Sequence[SiteName], head: Head, checkpoint: Checkpoint | None) -> Talk[State]:
        if checkpoint is None:
            state = begin(head.recent[0])
            recent: Sequence[Change] = head.recent[1:]
        else:
            if (checkpoint.sequence, checkpoint.digest) != (head.checkpoint_sequence, head.checkpoint_digest):
                raise FormatError(f"the manifest's head {head.sequence} names a checkpoint of another history")
            references = [page.reference for page in checkpoint.snapshot_pages]
            pages = yield from self._fetch(sites, references, SnapshotPage)
            state = state_of(checkpoint.core, catalogue_of(checkpoint.snapshot_pages, pages))
            if checkpoint.forgotten is not None:
                page = yield from self._one(sites, checkpoint.forgotten.reference, ForgottenPage)
                state = msgspec.structs.replace(state, forgotten=page.rows)
            recent = head.recent
        after = apply_all(state, recent)
        if isinstance(after, Rejection):
            raise FormatError(
                f"the manifest's head {head.sequence} holds a change that does not apply: {after.message}"
            )
        config = head.stop or head.config
        if (after.sequence, after.sessions, after.config) != (head.sequence, head.sessions, config):
            raise FormatError(f"the manifest's head {head.sequence} contradicts the changes that it names")
        return after

    def _one(self, sites: Sequence[SiteName], reference: Reference, kind: type[Any]) -> Talk[Any]:
        rows = yield from self._fetch(sites, [reference], kind)
        return rows[reference.name]

    def _fetch(
        self,
        sites: Sequence[SiteName],
        references: Iterable[Reference],
        kind: type[Any],
        dispensable: Dispensable = _nothing,
    ) -> Talk[dict[bytes, Any]]:
        """Return the rows that `references` name: from memory, the cache, or the first site that has each."""
        wanted = {reference.name for reference in references}
        rows = {name: row for name in wanted if (row := self._rows.get(name) or self._cached(name, kind)) is not None}
        fetched = yield from self._fetch_sealed(sites, wanted - rows.keys(), dispensable)
        for name, sealed in fetched.items():
            rows[name] = open_row(self.keys, KINDS[kind], sealed, kind)
            self._cache.put(name, sealed)
        self._rows.update(rows)
        return rows

    def _fetch_sealed(
        self,
        sites: Sequence[SiteName],
        wanted: Iterable[bytes],
        dispensable: Dispensable = _nothing,
    ) -> Talk[dict[bytes, bytes]]:
        """Return objects from the first site that has each whole. A site that did not answer is asked again."""
        found: dict[bytes, bytes] = {}
        missing, silent = set(wanted), list(sites)
        for _ in range(FETCH_TRIES):
            asked, silent = silent, []
            for site in asked:
                if not missing:
                    return found
                replies = yield Gather({site: read_objects(site, sorted(missing))}, _all_in)
                if isinstance(replies[site], Failed):
                    silent.append(site)
                else:
                    found |= replies[site]
                    missing -= found.keys()
        if missing:
            found |= yield from self._from_mirrors(missing)
        if missing := missing - found.keys() - dispensable(silent):
            _raise_unfetched(min(missing), silent)
        return found

    def _from_mirrors(self, missing: set[bytes]) -> Talk[dict[bytes, bytes]]:
        """Return those of the objects that a mirror has."""
        found: dict[bytes, bytes] = {}
        for place in self.mirrors():
            replies = yield Gather({place: read_objects(place, sorted(missing - found.keys()))}, _all_in)
            found |= {} if isinstance(replies[place], Failed) else replies[place]
            if not missing - found.keys():
                break
        return found

    def _cached(self, name: bytes, kind: type[Any]) -> Row | None:
        sealed = self.cached(name)
        if sealed is None:
            return None
        row: Row = open_row(self.keys, KINDS[kind], sealed, kind)
        return row

    def _remember(self, learned: Learned) -> None:
        """Keep the objects of the newest heads, and drop the rest."""
        newest = [*self._learned.values(), learned][-HEADS_REMEMBERED:]
        self._learned = {each.value: each for each in newest}
        needed = {name for each in newest for name in object_names(each)}
        self._rows = {name: row for name, row in self._rows.items() if name in needed}


def _raise_unfetched(name: bytes, silent: Sequence[SiteName]) -> NoReturn:
    hint = "bring the missing sites back, or read another site's copy with --manifest-from SITE"
    if silent:
        raise NoQuorum(f"the manifest needs {object_key(name)}, and {', '.join(silent)} did not answer", hint=hint)
    raise ObjectMissing(f"the manifest needs {object_key(name)}, which no site has", hint=hint)


def read_objects(site: SiteName, names: Iterable[bytes]) -> Talk[dict[bytes, bytes] | Failed]:
    """Return those of the objects that the site has, intact. Failed if it did not answer."""
    found: dict[bytes, bytes] = {}
    for name in names:
        sealed = yield Read(site, object_key(name))
        if isinstance(sealed, Failed):
            return sealed
        if isinstance(sealed, bytes) and object_name(sealed) == name:
            found[name] = sealed
    return found


def store_objects(site: SiteName, objects: Mapping[bytes, bytes]) -> Talk[bool]:
    """Store the objects, and return whether all of them are durable there."""
    for name, sealed in objects.items():
        if (yield Put(site, object_key(name), sealed)) is not None:
            return False
    return True


def store_missing(site: SiteName, objects: Mapping[bytes, bytes], *, read: bool = True) -> Talk[bool]:
    """Store those of `objects` that the site does not have whole, or without `read` those that it does not list."""
    listed = yield List(site, OBJECTS)
    there = set() if isinstance(listed, Failed) else set(objects).intersection(map(name_in, listed))
    if read and there:
        whole = yield from read_objects(site, sorted(there))
        there = set() if isinstance(whole, Failed) else set(whole)
    return (yield from store_objects(site, {name: data for name, data in objects.items() if name not in there}))


def object_names(learned: Learned) -> set[bytes]:
    """Return the names of every object below a head."""
    return {reference.name for reference in references(learned)}


def state_names(learned: Learned) -> set[bytes]:
    """Return the names of the objects below a head that its state is read from."""
    if learned.head.checkpoint is None or learned.checkpoint is None:
        return set()
    pages = [
        *learned.checkpoint.snapshot_pages,
        *([learned.checkpoint.forgotten] if learned.checkpoint.forgotten else []),
    ]
    return {learned.head.checkpoint.name, *(page.reference.name for page in pages)}


def references(learned: Learned) -> Iterator[Reference]:
    """Yield the same with their sizes: the checkpoint, its pages, and the lists of objects that prune is removing."""
    yield from (Reference(row.name, row.size_bytes) for row in lists_of(learned.state))
    if learned.head.checkpoint is not None and learned.checkpoint is not None:
        yield learned.head.checkpoint
        yield from (page.reference for page in learned.checkpoint.pages())


def lists_of(core: Core) -> Iterator[ObjectList]:
    """Yield the lists of objects that prune has condemned or is removing."""
    if core.condemned is not None:
        yield core.condemned.objects
    yield from (row.objects for row in core.removing if row.objects.count)


def store_everywhere(sites: Iterable[SiteName], objects: Mapping[bytes, bytes], quorum: int) -> Talk[bool]:
    """Store `objects` at every site, and return whether a quorum of them has all."""
    replies = yield Gather(
        {site: store_objects(site, objects) for site in sites},
        lambda results: sum(result is True for result in results.values()) >= quorum,
        grace_s=2.0,
    )
    return sum(result is True for result in replies.values()) >= quorum


def _all_in(results: Mapping[SiteName, Any]) -> bool:
    return bool(results)
