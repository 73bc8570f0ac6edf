"""Each site's register for the manifest: on one of the targets that this run reached, or the reason why there is none."""

from collections.abc import Iterator
from typing import NoReturn

from drtool.errors import StoreError, TargetOffline
from drtool.manifest.names import ACCEPTORS
from drtool.manifest.ports import SitePort
from drtool.model import ObjectInfo, SiteName, TargetName
from drtool.repository.targets import UNNAMED, Targets
from drtool.stores import VoterStore


class Unreached:
    """A stand-in for the register of an unreached site. Every request is answered with the reason."""

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


def mirror_stores(targets: Targets) -> dict[TargetName, SitePort]:
    """Return each reached target, for the copies of the catalogue at those without a register. No retries."""
    return {name: targets.register(name) for name in targets.online()}


def registers_of(targets: Targets) -> dict[SiteName, SitePort]:
    """Return each site's register: on its first target by name that holds one, or the reason why none was reached."""
    return {site: register_at(targets, site) for site in targets.sites()}


def register_at(targets: Targets, site: SiteName) -> SitePort:
    """Return the register of one site. Of several targets without one, the first by name is used."""
    reached = [name for name in targets.of_site(site) if targets.reachable(name)]
    if not reached:
        return Unreached(targets.reason_for(site) or UNNAMED)
    holding = reached if len(reached) == 1 else [name for name in reached if holds_register(targets.store(name))]
    return targets.register((holding or reached)[0])


def holds_register(store: VoterStore) -> bool:
    """Return whether a voter's register has begun there."""
    try:
        return next(iter(store.list(ACCEPTORS)), None) is not None
    except StoreError:
        return False
