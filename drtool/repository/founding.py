"""Founding a repository on empty targets.

Invariants
    Founding never touches a directory that holds something else; it and `site` commands are all that creates a root.
    An interrupted founding can be repeated; a repository that exists is never founded over.
"""

import os
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from drtool.crypto import Keyring, seal_slot
from drtool.errors import FormatError, ObjectMissing, Refused, UsageError
from drtool.events import Emit, Stage, Warned
from drtool.manifest.facade import Manifest
from drtool.manifest.local import DirectoryState
from drtool.manifest.ports import SitePort
from drtool.manifest.records import Founding, KeyTable, Policy, Target
from drtool.model import RepositoryId, SiteName, TargetName
from drtool.paxos import majority
from drtool.repository.identity import author
from drtool.repository.marker import MARKER_OBJECT, Marker
from drtool.repository.slots import KEYS_PREFIX, slot_row
from drtool.repository.spec import FILE_SCHEME, RepositorySpec, TargetSpec, local_path
from drtool.repository.targets import check_answers, holds_register, open_store
from drtool.repository.voters import choose_voters, even_number
from drtool.stores import LocalStore
from drtool.stores.names import TEMPORARY_PREFIX


class InitResult(Struct, frozen=True, kw_only=True):
    """`init`'s document. `sites` are those that store; `arbiters` only vote."""

    repository_id: str
    sites: dict[SiteName, list[TargetName]]
    copies: int
    arbiters: list[TargetName] = []
    config: str | None = None


def found(spec: RepositorySpec, copies: int | None, minimum: int, emit: Emit) -> InitResult:
    """Founds a repository on empty targets; Refused if one is there already."""
    sites = _sites(spec.targets)
    wanted = min(2, len(sites)) if copies is None else copies
    _check_policy(wanted, minimum, sites)
    emit(Stage(name="founding"))
    stores = _empty_roots(spec.targets)
    try:
        voters = _found_on(stores, spec, wanted, minimum)
    finally:
        for store in stores.values():
            store.close()
    _advise(sites, wanted, len(voters), emit)
    marker = open_store(spec.targets[0])
    try:
        repository = Marker.read(marker).repository
    finally:
        marker.close()
    arbiters = [target.name for target in spec.targets if target.vote == "only"]
    return InitResult(repository_id=repository, sites=sites, copies=wanted, arbiters=sorted(arbiters))


def _found_on(
    stores: Mapping[TargetName, LocalStore], spec: RepositorySpec, copies: int, minimum: int
) -> dict[SiteName, TargetName]:
    """Writes slots, markers and registers; who votes."""
    repository_id = RepositoryId(os.urandom(16))
    keyring = Keyring.draw(repository_id)
    policy = Policy(copies=copies, minimum=minimum, timezone=spec.timezone)
    slot = seal_slot(keyring, spec.password(), f"password set at init on {spec.host}")
    for target in spec.targets:
        if target.keys:
            stores[target.name].put(KEYS_PREFIX + slot.id, slot.encode())
    for target in spec.targets:
        marker = Marker(
            repository=repository_id.hex(),
            site=target.site,
            target=target.name,
            target_id=os.urandom(16).hex(),
            average_chunk_bytes=policy.chunk_average_bytes,
        )
        stores[target.name].put(MARKER_OBJECT, marker.signed(keyring).encode())
    voters = _voters(spec.targets, stores)
    founding = Founding(
        repository=repository_id,
        label=spec.label,
        policy=policy,
        targets=tuple(row_of(target, spec.host) for target in spec.targets),
        voters=tuple(voters.items()),
        keys=KeyTable(epoch=1, slots=(slot_row(slot, spec.host),)),
    )
    local = DirectoryState(spec.state_dir / "repositories" / repository_id.hex())
    registers: dict[SiteName, SitePort] = {site: stores[target] for site, target in voters.items()}
    Manifest.found(registers, keyring, founding, local, author=author(spec.state_dir, spec.host), trace=spec.trace)
    return voters


def _voters(targets: Iterable[TargetSpec], stores: Mapping[TargetName, LocalStore]) -> dict[SiteName, TargetName]:
    return choose_voters(targets, {name: store.vote_verdict() for name, store in stores.items()})


def row_of(target: TargetSpec, host: str) -> Target:
    """A target as the manifest knows it."""
    url, only = FILE_SCHEME + str(local_path(target.url)), target.vote == "only"
    return Target(target.name, 0 if only else target.weight, "active", url, host, votes_only=only, keys=target.keys)


def _sites(targets: Iterable[TargetSpec]) -> dict[SiteName, list[TargetName]]:
    """The sites that store, with their targets."""
    sites: dict[SiteName, list[TargetName]] = {}
    for target in sorted((target for target in targets if target.vote != "only"), key=lambda target: target.name):
        sites.setdefault(target.site, []).append(target.name)
    return sites


def _check_policy(copies: int, minimum: int, sites: Mapping[SiteName, object]) -> None:
    if not 1 <= copies <= len(sites):
        raise UsageError(
            f"{copies} copies need {copies} sites, and there {'is' if len(sites) == 1 else 'are'} {len(sites)}",
            hint=f"choose --copies from 1 to {len(sites)}, or name more sites",
        )
    if not 1 <= minimum <= copies:
        raise UsageError(f"redundancy.minimum is {minimum}; it must be from 1 to copies ({copies})")


def _empty_roots(targets: Sequence[TargetSpec]) -> dict[TargetName, LocalStore]:
    """An empty root for each target; nothing is made or cleared before all of them were looked at."""
    stores: dict[TargetName, LocalStore] = {}
    try:
        for target in targets:
            check_answers(target.url)
            if local_path(target.url).exists():
                stores[target.name] = LocalStore.open(local_path(target.url))
        _check_unused(targets, stores)
        _clear(stores)
        for target in targets:
            if target.name not in stores:
                stores[target.name] = LocalStore.create(local_path(target.url))
    except BaseException:
        for store in stores.values():
            store.close()
        raise
    return stores


def _check_unused(targets: Sequence[TargetSpec], stores: Mapping[TargetName, LocalStore]) -> None:
    halfway = _stopped_halfway(targets, stores)
    for target in targets:
        if target.name not in stores:
            continue
        kinds = _kinds(stores[target.name])
        if kinds & {"packs", "index"} or ("manifest" in kinds and not halfway):
            raise Refused(
                f"a repository exists already at {target.name} ({target.url})",
                hint="to use it, write a drtool.yaml that names it; to found another, name other directories",
            )
        foreign = sorted(name for name in os.listdir(local_path(target.url)) if not _left_by_init(name))
        if foreign:
            raise Refused(
                f"{target.url} for {target.name} is not empty: it holds {foreign[0]}",
                hint="name an empty or a new directory",
            )


def _kinds(store: LocalStore) -> set[str]:
    return {info.name.partition("/")[0] for info in store.list()}


def _left_by_init(name: str) -> bool:
    return name in (MARKER_OBJECT, "keys", "manifest") or name.startswith(TEMPORARY_PREFIX)


def _stopped_halfway(targets: Sequence[TargetSpec], stores: Mapping[TargetName, LocalStore]) -> bool:
    """Whether an earlier `init` with these targets wrote too few registers to have founded anything."""
    if len(stores) < len(targets):
        return False
    try:
        founders = {Marker.read(store).repository for store in stores.values()}
    except (ObjectMissing, FormatError):
        return False
    voters = _voters(targets, stores)
    begun = sum(holds_register(stores[target]) for target in voters.values())
    return len(founders) == 1 and begun < majority(len(voters))


def _clear(stores: Mapping[TargetName, LocalStore]) -> None:
    """Removes what an interrupted `init` left; markers last, so that this can be interrupted as well."""
    for kind in ("manifest/", KEYS_PREFIX, MARKER_OBJECT):
        for store in stores.values():
            for info in list(store.list(kind)):
                store.delete(info.name)


def _advise(sites: Mapping[SiteName, object], copies: int, voters: int, emit: Emit) -> None:
    if len(sites) == 1:
        emit(Warned(message="one site: nothing here survives its loss; name more sites to have that"))
    advice = even_number(voters)
    if advice:
        emit(Warned(message=advice))
    if copies == 1 and len(sites) > 1:
        emit(Warned(message="one copy of everything: the loss of any site loses data"))
