"""The targets that this host knows: reached or offline, and what went wrong with each since.

Invariants
    A target that failed a write gets no further writes in this run; what it misses is owed to it.
    Reads may always be tried: a full or read-only target still gives what it has.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import NoReturn

from drtool.errors import DrtoolError, FormatError, ObjectMissing, StoreError, TargetOffline
from drtool.manifest.ports import SitePort
from drtool.manifest.records import Target
from drtool.model import ObjectInfo, RepositoryId, SiteName, TargetName, site_of
from drtool.repository.marker import MARKER_OBJECT, Marker
from drtool.repository.spec import TargetSpec, local_path
from drtool.stores import LocalStore, VoterStore

ACCEPTOR_PREFIX = "manifest/acc/"
UNNAMED = "this host's configuration does not say how to reach it"

OpenStore = Callable[[TargetSpec], VoterStore]


def open_store(spec: TargetSpec) -> VoterStore:
    """The store behind a target's URL; TargetOffline if it is not there."""
    return LocalStore.open(local_path(spec.url))


class Targets:
    """Every target by name, sorted; `failures` says why a target gets no (more) writes."""

    def __init__(self, specs: Mapping[TargetName, TargetSpec], opener: OpenStore = open_store) -> None:
        self.specs = dict(sorted(specs.items()))
        self._opener = opener
        self._stores: dict[TargetName, VoterStore] = {}
        self.markers: dict[TargetName, Marker] = {}
        self.failures: dict[TargetName, str] = {}
        self.absent: set[TargetName] = set()
        """Targets that answered, but hold no repository at all."""
        self.lost: set[TargetName] = set()
        """Targets that the manifest has given up."""
        self._arbiters: set[TargetName] = set()
        self._named: frozenset[TargetName] | None = None

    def connect(self, repository: RepositoryId | None) -> None:
        """Opens every target's store; one that is not this repository's, or another target, stays offline."""
        for spec in self.specs.values():
            self._try(spec, repository)

    def extend(self, spec: TargetSpec, repository: RepositoryId) -> bool:
        """One target more, or at another place than the configuration says; False, and all as it was, if it is not there."""
        before, reason, absent = self.specs.get(spec.name), self.failures.pop(spec.name, None), set(self.absent)
        self._try(spec, repository)
        if spec.name in self._stores or before is None:
            self.specs = dict(sorted((self.specs | {spec.name: spec}).items()))
        elif reason is not None:
            self.failures[spec.name], self.absent = reason, absent
        return spec.name in self._stores

    def _try(self, spec: TargetSpec, repository: RepositoryId | None) -> None:
        try:
            self._stores[spec.name], self.markers[spec.name] = self._connect(spec, repository)
        except ObjectMissing:
            self.absent.add(spec.name)
            self.failures[spec.name] = "it holds no repository (an unmounted disk looks like this)"
        except TargetOffline as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                self.absent.add(spec.name)
            self.failures[spec.name] = error.message
        except DrtoolError as error:
            self.failures[spec.name] = error.message

    def _connect(self, spec: TargetSpec, repository: RepositoryId | None) -> tuple[VoterStore, Marker]:
        store = self._opener(spec)
        try:
            marker = Marker.read(store)
            if marker.target != spec.name:
                raise FormatError(f"it is target {marker.target} of a repository, not {spec.name}")
            if repository is not None and marker.repository_id != repository:
                raise FormatError(f"it belongs to another repository, {marker.repository}")
        except BaseException:
            store.close()
            raise
        return store, marker

    def keep_only(self, authentic: Callable[[Marker], bool]) -> None:
        """Drops targets whose marker was not written by this repository."""
        for name in [n for n, marker in self.markers.items() if not authentic(marker)]:
            self.drop(name, f"its {MARKER_OBJECT} was not written by this repository")

    def drop(self, name: TargetName, reason: str) -> None:
        """Treats a target that was reached as one that was not."""
        self._stores.pop(name).close()
        del self.markers[name]
        self.failures[name] = reason

    def reopen(self) -> "Targets":
        """The same targets through descriptors of their own, for a forked worker; one that was swapped since is offline."""
        fresh = Targets(self.specs, self._opener)
        fresh.failures = dict(self.failures)
        fresh.lost, fresh._arbiters, fresh._named = self.lost, self._arbiters, self._named
        for name in self._stores:
            fresh._try(self.specs[name], self.markers[name].repository_id)
            if name in fresh.markers and fresh.markers[name] != self.markers[name]:
                fresh._stores.pop(name).close()
                del fresh.markers[name]
                fresh.failures[name] = f"its {MARKER_OBJECT} is not the one that was read before"
        return fresh

    def store(self, name: TargetName) -> VoterStore:
        """TargetOffline if this run cannot reach it."""
        try:
            return self._stores[name]
        except KeyError:
            reason = self.failures.get(name, UNNAMED)
            raise TargetOffline(f"target {name} is offline: {reason}", target=name) from None

    def online(self) -> list[TargetName]:
        return list(self._stores)

    def reachable(self, name: TargetName) -> bool:
        return name in self._stores

    def writable(self, name: TargetName) -> bool:
        return name in self._stores and name not in self.failures

    def sites(self) -> list[SiteName]:
        """Every site, sorted."""
        return sorted({site_of(name) for name in self.specs})

    def fail(self, name: TargetName, reason: str) -> None:
        """No further writes go there in this run; the first reason stands."""
        self.failures.setdefault(name, reason)

    def learn(self, rows: Iterable[Target]) -> None:
        """What each target is for, the manifest says, whatever the configuration does."""
        known = list(rows)
        self.lost = {row.name for row in known if row.state == "lost"}
        self._arbiters = {row.name for row in known if row.votes_only}
        self._named = frozenset(row.name for row in known)

    def storing(self) -> list[TargetName]:
        """The targets that objects are counted on, sorted: neither arbiters', nor lost or removed ones that may still be read."""
        given_up = self._arbiters | self.lost
        return [name for name in self.specs if name not in given_up and (self._named is None or name in self._named)]

    def reason_for(self, site: SiteName) -> str | None:
        """Why none of a site's targets is reached; None if one is, or this host knows none."""
        names = list(self.of_site(site))
        if not names or any(map(self.reachable, names)):
            return None
        return "; ".join(dict.fromkeys(self.failures.get(name, UNNAMED) for name in names))

    def of_site(self, site: SiteName) -> Iterator[TargetName]:
        return (name for name in self.specs if site_of(name) == site)

    def close(self) -> None:
        for store in self._stores.values():
            with suppress(StoreError):  # closing gives descriptors back; there is nothing that a failure could lose
                store.close()
        self._stores.clear()


class Unreached:
    """Stands for the register of a site that this host did not reach: every request is answered with the reason."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        raise self._offline()

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        raise self._offline()

    def read_tagged(self, name: str) -> NoReturn:
        raise self._offline()

    def put(self, name: str, data: bytes) -> None:
        raise self._offline()

    def put_if_absent(self, name: str, data: bytes) -> bool:
        raise self._offline()

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> NoReturn:
        raise self._offline()

    def delete(self, name: str) -> None:
        raise self._offline()

    def _offline(self) -> TargetOffline:
        return TargetOffline(self._reason)


def registers_of(targets: Targets) -> dict[SiteName, SitePort]:
    """Each site's register: on its first target, by name, that holds one; the reason, where none was reached."""
    return {site: register_at(targets, site) for site in targets.sites()}


def register_at(targets: Targets, site: SiteName) -> SitePort:
    """The register of one site; of several targets without one, the first by name."""
    reached = [name for name in targets.of_site(site) if targets.reachable(name)]
    if not reached:
        return Unreached(targets.reason_for(site) or UNNAMED)
    holding = reached if len(reached) == 1 else [name for name in reached if holds_register(targets.store(name))]
    return targets.store((holding or reached)[0])


def holds_register(store: VoterStore) -> bool:
    """Whether a voter's register has begun there."""
    try:
        return next(iter(store.list(ACCEPTOR_PREFIX)), None) is not None
    except StoreError:
        return False
