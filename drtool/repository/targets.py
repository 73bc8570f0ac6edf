"""The targets that this host knows: reached or offline, and what went wrong with each since.

Invariants
    A target that failed a write gets no further writes in this run; what it misses is owed to it.
    Reads may always be tried: a full or read-only target still gives what it has.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from drtool.errors import DrtoolError, FormatError, ObjectMissing, StoreError, TargetOffline
from drtool.model import RepositoryId, SiteName, TargetName, site_of
from drtool.repository.marker import MARKER_OBJECT, Marker
from drtool.repository.spec import TargetSpec, local_path
from drtool.stores import LocalStore, VoterStore

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

    def connect(self, repository: RepositoryId | None) -> None:
        """Opens every target's store; one that is not this repository's, or another target, stays offline."""
        for spec in self.specs.values():
            self._try(spec, repository)

    def extend(self, spec: TargetSpec, repository: RepositoryId) -> None:
        """One target more, that the configuration does not name."""
        self.specs = dict(sorted((self.specs | {spec.name: spec}).items()))
        self._try(spec, repository)

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
            self._stores.pop(name).close()
            del self.markers[name]
            self.failures[name] = f"its {MARKER_OBJECT} was not written by this repository"

    def reopen(self) -> "Targets":
        """The same targets through descriptors of their own, for a forked worker; one that was swapped since is offline."""
        fresh = Targets(self.specs, self._opener)
        fresh.failures = dict(self.failures)
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
            reason = self.failures.get(name, "this host's configuration does not say how to reach it")
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

    def of_site(self, site: SiteName) -> Iterator[TargetName]:
        return (name for name in self.specs if site_of(name) == site)

    def close(self) -> None:
        for store in self._stores.values():
            with suppress(StoreError):  # closing gives descriptors back; there is nothing that a failure could lose
                store.close()
        self._stores.clear()
