"""The test whether the next backup can be stored: each target stores a small object, each voter its own record once
more.

Invariants
    All targets and voters are tested concurrently. None is waited for longer than `TRIAL_TIMEOUT_S`.
    A test leaves nothing behind except the directory `probe`, and on a medium that cannot delete, one small object in
    it.
    A test changes no record of a voter. A repository that was opened read-only, or from single sites, is not tested.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TypeAlias

from msgspec import Struct

from drtool.errors import DrtoolError, StoreError, TargetFull, TargetOffline
from drtool.manifest.inspect import ManifestStatus
from drtool.manifest.records import Voter
from drtool.model import SiteName, TargetName, site_of
from drtool.repository.repository import Repository
from drtool.stores import Errand, Store
from drtool.stores.names import PROBE_DIRECTORY
from drtool.stores.scratch import new_label

TRIAL_TIMEOUT_S = 30.0
"""Longer than the 20 s after which a single call counts as hung, so that the target's own reason is reported first."""
AMPLE_BYTES = 64 << 20
TRIAL = b"drtool tried whether this target takes an object\n"

_Trial: TypeAlias = Errand[TargetFull | None]
_Errors: TypeAlias = dict[TargetName, DrtoolError]


class Readiness(Struct, frozen=True, kw_only=True):
    """`tried`: targets that were asked to store an object.

    `refusals`: those that did not. `cramped`: those that did, but have no space for more. `voters`: sites whose
    register cannot be written, or is not sound.
    """

    tried: frozenset[TargetName]
    refusals: Mapping[TargetName, DrtoolError]
    cramped: Mapping[TargetName, DrtoolError]
    voters: Mapping[SiteName, str]
    manifest: ManifestStatus

    def messages(self) -> Iterator[str]:
        """Yield one sentence for each fault."""
        for target, error in self.refusals.items():
            yield f"target {target} cannot be written: {reason_of(error)}"
        for site, why in self.voters.items():
            yield f"voter {site} cannot vote: {why}"


def readiness(
    repository: Repository, room_bytes: Mapping[TargetName, int] | None = None, *, site: str | None = None
) -> Readiness:
    """Test every target to be written, and every voter. `room_bytes`: the space that a target must have.

    `site`: nothing is written at other sites, so voters are only read.
    """
    tried = not repository.spec.read_only and not repository.spec.manifest_from
    trials = _begun(repository, room_bytes or {}, site) if tried else {}
    ends_at = time.monotonic() + TRIAL_TIMEOUT_S
    manifest = repository.manifest.status(tried=tried and site is None)
    refusals, cramped = _outcomes(trials, ends_at)
    return Readiness(
        tried=frozenset(trials),
        refusals=refusals,
        cramped=cramped,
        voters=dict(_unable(repository, manifest)),
        manifest=manifest,
    )


def reason_of(error: DrtoolError) -> str:
    """Return the fault, and what to do next."""
    return f"{error.message}; {error.hint}" if error.hint else error.message


def _begun(repository: Repository, room_bytes: Mapping[TargetName, int], site: str | None) -> dict[TargetName, _Trial]:
    targets = repository.targets
    rows = [row for row in repository.view.state.targets if row.state == "active"]
    written = [row.name for row in rows if site in (None, site_of(row.name))]
    return {
        name: Errand(partial(_try, targets.store(name), room_bytes.get(name, 0)))
        for name in written
        if targets.writable(name)
    }


def _outcomes(trials: Mapping[TargetName, _Trial], ends_at: float) -> tuple[_Errors, _Errors]:
    """Return the targets that refuse an object, and the targets without space for more."""
    refusals: _Errors = {}
    cramped: _Errors = {}
    for name, errand in trials.items():
        try:
            full = errand.result(ends_at - time.monotonic(), "it")
        except DrtoolError as error:
            refusals[name] = error
        else:
            cramped |= {name: full} if full else {}
    return refusals, cramped


def _try(store: Store, room_bytes: int) -> TargetFull | None:
    """Store a small object and remove it. Then return why there is no space for more, if so. Raises StoreError."""
    name = f"{PROBE_DIRECTORY}/{new_label(time.time())}"
    try:
        store.put(name, TRIAL)
    except TargetOffline:
        raise  # a target that does not answer is not asked to delete either
    except StoreError as error:
        _remove(store, name)
        raise type(error)(error.message.replace(f"/{name}", ""), hint=_advice(store, error, 0)) from error
    _remove(store, name)
    return _without_room(store, room_bytes) if room_bytes else None


def _without_room(store: Store, room_bytes: int) -> TargetFull | None:
    try:
        store.try_room(room_bytes)
    except TargetFull as error:
        return TargetFull(error.message, hint=_advice(store, error, room_bytes))
    return None


def _remove(store: Store, name: str) -> None:
    with suppress(StoreError):  # a medium that cannot delete keeps it below `probe/`, which is never searched
        store.delete(name)


def _advice(store: Store, error: StoreError, room_bytes: int) -> str | None:
    """Return what to do. If a target is full although it has space, name other limits."""
    free_bytes = store.free_bytes() if isinstance(error, TargetFull) else None
    if free_bytes is not None and free_bytes > room_bytes + AMPLE_BYTES:
        return f"{free_bytes >> 20} MiB are free there, so a quota or the number of files is used up (quota, df -i)"
    return error.hint


def _unable(repository: Repository, manifest: ManifestStatus) -> Iterable[tuple[SiteName, str]]:
    """Yield the voters at sites that answer, and why they do not count. An offline site is reported elsewhere."""
    for row in manifest.acceptors:
        if row.refusal:
            yield row.site, f"its register cannot be written: {medium_mismatch(repository, row.site) or row.refusal}"
        elif row.problem and (row.reachable or repository.targets.reason_for(row.site) is None):
            yield row.site, f"{row.problem} (drtool repair gives it a new register if it has no sound one)"


def medium_mismatch(repository: Repository, site: SiteName) -> str | None:
    """Return why a voter's register does not suit its medium, after a copy from another kind of medium, or None."""
    config = repository.view.config
    voter = config.voter(site)
    if _suits(repository, voter):
        return None
    others = sum(_suits(repository, row) for row in config.voters)
    remedy = f"site add {site}" if others >= config.quorum else f"manifest recover --from {site} --i-accept-lost-writes"
    return (
        f"it was made for a bucket with compare-and-swap, but {voter.target} is another kind of medium:"
        f" drtool {remedy} starts a suitable one"
    )


def _suits(repository: Repository, voter: Voter) -> bool:
    """Return whether it suits. For an unreachable target this is unknown, and True is returned."""
    targets = repository.targets
    return not targets.reachable(voter.target) or voter.suits(targets.register(voter.target).mode)
