"""Founding a repository, and opening one from what this host's configuration says.

Invariants
    Founding never touches a directory that holds something else; it is the only thing here that creates a root.
    A target is used only if its marker names this repository and this target, and was written with its key.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from drtool.crypto import Keyring, seal_slot
from drtool.errors import (
    DrtoolError,
    FormatError,
    NoQuorum,
    NoRepository,
    ObjectMissing,
    Refused,
    StoreError,
    UsageError,
)
from drtool.events import Emit, Stage, Warned
from drtool.manifest.facade import Author, Manifest, View
from drtool.manifest.local import DirectoryState
from drtool.manifest.ports import SitePort
from drtool.manifest.records import Founding, Policy, Target
from drtool.model import RepositoryId, SiteName, TargetName
from drtool.paxos import majority
from drtool.repository.cache import Cache
from drtool.repository.identity import identify
from drtool.repository.keys import KEYS_PREFIX, unlock
from drtool.repository.marker import MARKER_OBJECT, Marker
from drtool.repository.repository import Repository
from drtool.repository.spec import FILE_SCHEME, RepositorySpec, TargetSpec, local_path
from drtool.repository.targets import Targets, open_store
from drtool.stores import LocalStore, VoterStore
from drtool.stores.names import TEMPORARY_PREFIX

ACCEPTOR_PREFIX = "manifest/acc/"
ANY_SITE = "any"
VOTERS_MAX = 7
VOTERS_OF_MANY = 5


class InitResult(Struct, frozen=True, kw_only=True):
    """`init`'s document."""

    repository_id: str
    sites: dict[SiteName, list[TargetName]]
    copies: int
    config: str | None = None


def open_repository(spec: RepositorySpec, emit: Emit) -> Repository:
    """Reaches the targets, unlocks the keys, reads the manifest."""
    emit(Stage(name="opening"))
    targets = Targets({target.name: target for target in spec.targets})
    targets.connect(None)
    try:
        return _opened(spec, targets, emit)
    except BaseException:
        targets.close()
        raise


def _opened(spec: RepositorySpec, targets: Targets, emit: Emit) -> Repository:
    repository_id = _repository_of(targets, spec)
    _drop_foreign(targets, repository_id)
    state_dir = spec.state_dir / "repositories" / repository_id.hex()
    local = DirectoryState(state_dir)
    keyring = unlock(targets, repository_id, spec.password, state_dir)
    targets.keep_only(lambda marker: marker.authentic(keyring))
    cache = Cache(spec.cache_dir / repository_id.hex())
    manifest = _manifest(spec, targets, keyring, local, cache)
    view = _view(spec, manifest, emit)
    for problem in view.problems:
        emit(Warned(message=problem))
    _reach_more(spec, targets, view, keyring)
    return Repository(spec, targets, keyring, manifest, cache, view)


def _repository_of(targets: Targets, spec: RepositorySpec) -> RepositoryId:
    found = Counter(marker.repository_id for marker in targets.markers.values())
    if found:
        return found.most_common(1)[0][0]
    places = ", ".join(f"{name} ({target.url})" for name, target in targets.specs.items())
    if set(targets.specs) <= targets.absent:
        raise NoRepository(
            f"there is no repository at {places}", hint="`drtool init` founds one; or check the configuration's `sites`"
        )
    reasons = "; ".join(f"{name}: {why}" for name, why in targets.failures.items())
    raise NoQuorum(f"no target of the repository can be reached ({reasons})", hint=f"then run: {spec.rerun}")


def _drop_foreign(targets: Targets, repository: RepositoryId) -> None:
    targets.keep_only(lambda marker: marker.repository_id == repository)


def _manifest(
    spec: RepositorySpec, targets: Targets, keyring: Keyring, local: DirectoryState, cache: Cache
) -> Manifest:
    return Manifest(_registers(targets), keyring, local, cache=cache.pages, author=_author(spec), trace=spec.trace)


def _author(spec: RepositorySpec) -> Author:
    me = identify(spec.state_dir)
    return Author(
        host_id=me.host_id,
        host=spec.host,
        boot_id=me.boot_id,
        pid_namespace=me.pid_namespace,
        pid=me.pid,
        start_time=me.start_time,
    )


def _registers(targets: Targets) -> dict[SiteName, SitePort]:
    """Each site's register: on its first target, by name, that holds one."""
    registers: dict[SiteName, SitePort] = {}
    for site in targets.sites():
        names = [name for name in targets.of_site(site) if targets.reachable(name)]
        holding = names if len(names) == 1 else [name for name in names if _holds_register(targets.store(name))]
        if holding:
            registers[site] = targets.store(holding[0])
    return registers


def _holds_register(store: VoterStore) -> bool:
    try:
        return next(iter(store.list(ACCEPTOR_PREFIX)), None) is not None
    except StoreError:
        return False


def _view(spec: RepositorySpec, manifest: Manifest, emit: Emit) -> View:
    if not spec.manifest_from:
        try:
            return manifest.read()
        except NoQuorum as error:
            raise NoQuorum(
                error.message, hint=f"to read what one site knows: {spec.reading or spec.rerun} --manifest-from any"
            ) from None
    view = _newest(manifest, spec.manifest_from)
    emit(
        Warned(
            message=f"reading without a quorum: what one site knows up to change {view.sequence}; "
            f"this host last saw change {view.confirmed_sequence} confirmed, anything later is tentative"
        )
    )
    return view


def _newest(manifest: Manifest, sites: tuple[str, ...]) -> View:
    if ANY_SITE in sites:
        return manifest.read_offline(None)
    views, reasons = [], []
    for site in sites:
        try:
            views.append(manifest.read_offline(SiteName(site)))
        except DrtoolError as error:
            reasons.append(error.message)
    if not views:
        raise NoQuorum("; ".join(reasons), hint="`--manifest-from any` takes the newest that any reachable site knows")
    return max(views, key=lambda view: view.sequence)


def _reach_more(spec: RepositorySpec, targets: Targets, view: View, keyring: Keyring) -> None:
    """Targets that the manifest knows and the configuration does not name: this host's own directories can be reached."""
    for row in view.state.targets:
        if row.name not in targets.specs and row.host == spec.host and row.url.startswith(FILE_SCHEME):
            targets.extend(TargetSpec(name=row.name, url=row.url, weight=row.weight), keyring.repository)
    targets.keep_only(lambda marker: marker.authentic(keyring))


def found(spec: RepositorySpec, copies: int | None, minimum: int, emit: Emit) -> InitResult:
    """Founds a repository on empty targets; Refused if one is there already."""
    sites = _sites(spec.targets)
    wanted = min(2, len(sites)) if copies is None else copies
    _check_policy(wanted, minimum, sites)
    emit(Stage(name="founding"))
    stores = _empty_roots(spec.targets, sites)
    try:
        _found_on(stores, spec, sites, wanted, minimum)
    finally:
        for store in stores.values():
            store.close()
    _advise(sites, wanted, emit)
    marker = open_store(spec.targets[0])
    try:
        repository = Marker.read(marker).repository
    finally:
        marker.close()
    return InitResult(repository_id=repository, sites=sites, copies=wanted)


def _found_on(
    stores: Mapping[TargetName, LocalStore],
    spec: RepositorySpec,
    sites: Mapping[SiteName, list[TargetName]],
    copies: int,
    minimum: int,
) -> None:
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
    voters = _voters(sites, stores)
    founding = Founding(
        repository=repository_id,
        label=spec.label,
        policy=policy,
        targets=tuple(_row(target, spec.host) for target in spec.targets),
        voters=tuple(voters.items()),
    )
    local = DirectoryState(spec.state_dir / "repositories" / repository_id.hex())
    registers: dict[SiteName, SitePort] = {site: stores[target] for site, target in voters.items()}
    Manifest.found(registers, keyring, founding, local, author=_author(spec), trace=spec.trace)


def _voters(
    sites: Mapping[SiteName, list[TargetName]], stores: Mapping[TargetName, LocalStore]
) -> dict[SiteName, TargetName]:
    """All able sites up to seven vote, of more the first five; a register lies on its site's first able target by name.

    UsageError if no site is able.
    """
    verdicts = {name: store.vote_verdict() for name, store in stores.items()}
    able = {site: [name for name in names if verdicts[name].can_vote] for site, names in sites.items()}
    voting = sorted(site for site, names in able.items() if names)
    if not voting:
        reasons = "; ".join(f"{name}: {verdict.reason}" for name, verdict in sorted(verdicts.items()))
        raise UsageError(f"no site can hold the manifest ({reasons})", hint="use a directory on a local file system")
    if len(voting) > VOTERS_MAX:
        voting = voting[:VOTERS_OF_MANY]
    return {site: min(able[site]) for site in voting}


def _row(target: TargetSpec, host: str) -> Target:
    return Target(target.name, target.weight, "active", FILE_SCHEME + str(local_path(target.url)), host)


def _sites(targets: Iterable[TargetSpec]) -> dict[SiteName, list[TargetName]]:
    sites: dict[SiteName, list[TargetName]] = {}
    for target in sorted(targets, key=lambda target: target.name):
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


def _empty_roots(
    targets: Sequence[TargetSpec], sites: Mapping[SiteName, list[TargetName]]
) -> dict[TargetName, LocalStore]:
    """An empty root for each target; nothing is made or cleared before all of them were looked at."""
    stores: dict[TargetName, LocalStore] = {}
    try:
        for target in targets:
            if local_path(target.url).exists():
                stores[target.name] = LocalStore.open(local_path(target.url))
        _check_unused(targets, stores, sites)
        _clear(stores)
        for target in targets:
            if target.name not in stores:
                stores[target.name] = LocalStore.create(local_path(target.url))
    except BaseException:
        for store in stores.values():
            store.close()
        raise
    return stores


def _check_unused(
    targets: Sequence[TargetSpec], stores: Mapping[TargetName, LocalStore], sites: Mapping[SiteName, list[TargetName]]
) -> None:
    halfway = _stopped_halfway(targets, stores, sites)
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


def _stopped_halfway(
    targets: Sequence[TargetSpec], stores: Mapping[TargetName, LocalStore], sites: Mapping[SiteName, list[TargetName]]
) -> bool:
    """Whether an earlier `init` with these targets wrote too few registers to have founded anything."""
    if len(stores) < len(targets):
        return False
    try:
        founders = {Marker.read(store).repository for store in stores.values()}
    except (ObjectMissing, FormatError):
        return False
    voters = _voters(sites, stores)
    begun = sum(_holds_register(stores[target]) for target in voters.values())
    return len(founders) == 1 and begun < majority(len(voters))


def _clear(stores: Mapping[TargetName, LocalStore]) -> None:
    """Removes what an interrupted `init` left; markers last, so that this can be interrupted as well."""
    for kind in ("manifest/", KEYS_PREFIX, MARKER_OBJECT):
        for store in stores.values():
            for info in list(store.list(kind)):
                store.delete(info.name)


def _advise(sites: Mapping[SiteName, object], copies: int, emit: Emit) -> None:
    if len(sites) == 1:
        emit(Warned(message="one site: nothing here survives its loss; name more sites to have that"))
    elif len(sites) % 2 == 0:
        lost = (len(sites) - 1) // 2
        emit(Warned(message=f"{len(sites)} sites vote: writing goes on with {lost} of them lost, no more"))
    if copies == 1 and len(sites) > 1:
        emit(Warned(message="one copy of everything: the loss of any site loses data"))
