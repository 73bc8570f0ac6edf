"""Creation of a repository on empty targets.

Invariants
    Creation never touches a directory with other content. Only it and the `site` commands create a root.
    An interrupted creation can be repeated, and an existing repository is never overwritten. If this host knows a
    repository at a place where another directory is now, its disk may not be mounted, so only a caller with
    `replaces_known` may create one there.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

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
from drtool.repository.exposure import Exposure, exposures, own_targets, shared_disk
from drtool.repository.identity import author
from drtool.repository.known_targets import strange_root
from drtool.repository.marker import MARKER_OBJECT, Marker
from drtool.repository.places import EMPTY_PLACE, full_url, is_directory, open_if_there, open_in_time
from drtool.repository.registers import holds_register
from drtool.repository.slots import KEYS_PREFIX, slot_row
from drtool.repository.spec import RepositorySpec, TargetSpec, local_path
from drtool.repository.trials import try_all
from drtool.repository.voters import VOTERS_OF_MANY, choose_voters, even_number, why_no_vote
from drtool.stores import Medium, VoteVerdict
from drtool.stores.names import PROBE_DIRECTORY

"""Interval of progress events while a server is being tested."""


class InitResult(Struct, frozen=True, kw_only=True):
    """The result of `init`. `sites` are those that store. `arbiters` only vote."""

    repository_id: str
    sites: dict[SiteName, list[TargetName]]
    copies: int
    arbiters: list[TargetName] = []
    voters: list[TargetName] = []
    """The targets that hold a voter's register."""
    config: str | None = None


def found(
    spec: RepositorySpec,
    copies: int | None,
    minimum: int,
    emit: Emit,
    *,
    hides_sizes: bool = True,
    replaces_known: bool = False,
) -> InitResult:
    """Create a repository on empty targets. Refused if one exists there."""
    sites = _sites(spec.targets)
    wanted = min(2, len(sites)) if copies is None else copies
    _check_policy(wanted, minimum, sites)
    if not replaces_known:
        _check_mounted(spec)
    emit(Stage(name="testing the targets"))
    stores = _empty_roots(spec.targets, emit)
    try:
        verdicts = _verdicts(stores, emit)
        emit(Stage(name="founding"))
        voters = choose_voters(spec.targets, verdicts)
        policy = Policy(copies=wanted, minimum=minimum, timezone=spec.timezone, hides_sizes=hides_sizes)
        repository_id = _found_on(stores, voters, spec, policy)
    finally:
        for store in stores.values():
            store.close()
    _advise(sites, wanted, len(voters), shared_disk(spec.targets), emit)
    for loss in _losses(spec.targets, voters) if len(sites) > 1 else ():
        emit(Warned(message=loss.text))
    _tell_voteless(spec.targets, voters, verdicts, emit)
    arbiters = [target.name for target in spec.targets if target.vote == "only"]
    return InitResult(
        repository_id=repository_id.hex(),
        sites=sites,
        copies=wanted,
        arbiters=sorted(arbiters),
        voters=sorted(voters.values()),
    )


def _found_on(
    stores: Mapping[TargetName, Medium],
    voters: Mapping[SiteName, TargetName],
    spec: RepositorySpec,
    policy: Policy,
) -> RepositoryId:
    """Write slots, markers and registers."""
    repository_id = RepositoryId(os.urandom(16))
    keyring = Keyring.draw(repository_id)
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
    founding = Founding(
        repository=repository_id,
        label=spec.label,
        policy=policy,
        targets=tuple(row_of(target, spec.host) for target in spec.targets),
        voters=tuple(voters.items()),
        keys=KeyTable(epoch=1, slots=(slot_row(slot, spec.host),)),
        modes={site: stores[target].mode for site, target in voters.items()},
    )
    local = DirectoryState(spec.state_dir / "repositories" / repository_id.hex())
    registers: dict[SiteName, SitePort] = {site: stores[target] for site, target in voters.items()}
    by_target: dict[TargetName, SitePort] = {**stores}
    Manifest.found(
        registers,
        keyring,
        founding,
        local,
        author=author(spec.state_dir, spec.host),
        trace=spec.trace,
        stores=lambda: by_target,
    )
    return repository_id


def _verdicts(stores: Mapping[TargetName, Medium], emit: Emit) -> dict[TargetName, VoteVerdict]:
    """Return which targets may vote. All are tested at once with progress events, since a test may take half a minute."""
    return try_all({name: store.vote_verdict for name, store in stores.items()}, emit)


def row_of(target: TargetSpec, host: str) -> Target:
    """Return a target as a row of the manifest."""
    only, here = target.vote == "only", is_directory(target.url)
    url, host = full_url(target.url), host if here else ""
    weight = 0 if only else target.weight
    return Target(target.name, weight, "active", url, host, votes_only=only, keys=target.keys)


def _sites(targets: Iterable[TargetSpec]) -> dict[SiteName, list[TargetName]]:
    """Return the sites that store, with their targets."""
    sites: dict[SiteName, list[TargetName]] = {}
    for target in sorted((target for target in targets if target.vote != "only"), key=lambda target: target.name):
        sites.setdefault(target.site, []).append(target.name)
    return sites


def _check_policy(copies: int, minimum: int, sites: Mapping[SiteName, object]) -> None:
    if not 1 <= copies <= len(sites):
        raise UsageError(
            f"{copies} copies need {copies} sites, and there {'is' if len(sites) == 1 else 'are'} {len(sites)}",
            hint=f"name more sites, or choose --copies {'1' if len(sites) == 1 else f'from 1 to {len(sites)}'}",
        )
    if not 1 <= minimum <= copies:
        raise UsageError(f"redundancy.minimum is {minimum}, but must be from 1 to copies ({copies})")


def _check_mounted(spec: RepositorySpec) -> None:
    """Refuse places where a repository was on a disk that may not be mounted now."""
    for target in spec.targets:
        known = strange_root(spec.state_dir, target.url) if is_directory(target.url) else None
        if known is not None:
            raise Refused(
                f"{local_path(target.url)} for {target.name} is not the directory that repository {known.repository[:8]}…"
                " was in when this host last used it: its disk may not be mounted",
                hint="mount it, or add --replace-known to give that repository up and create another one here",
            )


def _empty_roots(targets: Sequence[TargetSpec], emit: Emit) -> dict[TargetName, Medium]:
    """Return an empty root for each target. Nothing is created or cleared before all of them were inspected."""
    stores: dict[TargetName, Medium] = {}
    try:
        for target in targets:
            store = open_if_there(target)
            if store is not None:
                stores[target.name] = store
        _check_unused(targets, stores, emit)
        _clear(stores)
        for target in targets:
            if target.name not in stores:
                stores[target.name] = open_in_time(target, create=True)
    except BaseException:
        for store in stores.values():
            store.close()
        raise
    return stores


def _check_unused(targets: Sequence[TargetSpec], stores: Mapping[TargetName, Medium], emit: Emit) -> None:
    halfway = _stopped_halfway(targets, stores, emit)
    for target in targets:
        if target.name not in stores:
            continue
        kinds = _kinds(stores[target.name])
        if kinds & {"packs", "index"} or ("manifest" in kinds and not halfway):
            raise Refused(
                f"a repository exists already at {target.name} ({target.url})",
                hint="to use it: drtool connect URL (to create another one, name other places)",
            )
        foreign = [name for name in stores[target.name].names() if name not in _LEFT_BY_INIT]
        if foreign:
            raise Refused(
                f"{target.url} for {target.name} is not empty: it holds {foreign[0]}",
                hint=EMPTY_PLACE,
            )


def _kinds(store: Medium) -> set[str]:
    return {info.name.partition("/")[0] for info in store.list()}


_LEFT_BY_INIT = frozenset({MARKER_OBJECT, "keys", "manifest", PROBE_DIRECTORY})


def _stopped_halfway(targets: Sequence[TargetSpec], stores: Mapping[TargetName, Medium], emit: Emit) -> bool:
    """Return whether an earlier `init` with these targets wrote too few registers to create a repository."""
    if len(stores) < len(targets):
        return False
    try:
        founders = {Marker.read(store).repository for store in stores.values()}
    except (ObjectMissing, FormatError):
        return False
    voters = choose_voters(targets, _verdicts(stores, emit))
    begun = sum(holds_register(stores[target]) for target in voters.values())
    return len(founders) == 1 and begun < majority(len(voters))


def _clear(stores: Mapping[TargetName, Medium]) -> None:
    """Delete the leftovers of an interrupted `init`, markers last, so that this can be interrupted as well."""
    for kind in ("manifest/", KEYS_PREFIX, MARKER_OBJECT):
        for store in stores.values():
            for info in list(store.list(kind)):
                store.delete(info.name)


def _advise(sites: Mapping[SiteName, object], copies: int, voters: int, disk: Path | None, emit: Emit) -> None:
    if len(sites) == 1:
        emit(Warned(message="one site: nothing survives its loss, so consider naming more sites"))
    elif disk is not None:
        emit(
            Warned(
                message=f"all {len(sites)} sites are on one file system, mounted at {disk}: a lost disk loses everything; "
                "place the sites on other disks, servers or buckets"
            )
        )
    advice = even_number(voters)
    if advice:
        emit(Warned(message=advice))
    if copies == 1 and len(sites) > 1:
        emit(Warned(message="one copy of everything: the loss of any site loses data"))


def _losses(targets: Sequence[TargetSpec], voters: Mapping[SiteName, TargetName]) -> Iterator[Exposure]:
    """Yield the losses that take the quorum. Each storing target has the catalogue, in a register or in a copy."""
    storing = [target.name for target in targets if target.vote != "only"]
    return exposures(voters, majority(len(voters)), storing, [*storing, *voters.values()], own_targets(targets))


def _tell_voteless(
    targets: Sequence[TargetSpec],
    voters: Mapping[SiteName, TargetName],
    verdicts: Mapping[TargetName, VoteVerdict],
    emit: Emit,
) -> None:
    """Report sites that store but do not vote, with the reason, unless there are enough voters without them."""
    if len(voters) >= VOTERS_OF_MANY:
        return
    for target in targets:
        reason = why_no_vote(target, verdicts[target.name])
        if target.site not in voters and reason is not None:
            emit(Warned(message=f"{target.name} stores but does not vote: {reason}"))
