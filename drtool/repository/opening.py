"""Opening a repository from this host's configuration, and what the manifest adds to it.

Invariants
    A target is used only if its marker was written with this repository's key for this repository and target, or if it
    is recognised by its contents (`recognition`).
    Registers outside the configuration are looked for where the manifest names them, before a quorum is given up.
    Nothing is read without a quorum unless the caller requests it. Then its tentative state is reported.
    If servers that this host reached before do not answer and there is no quorum without them, opening waits: for a
    busy one as long as for any outage, for an unreachable one `UNREACHABLE_S` at most.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

from msgspec import Struct

from drtool.crypto import Keyring
from drtool.errors import DrtoolError, Forked, KeyMissing, NoQuorum, NoRepository, StoreError, UsageError, WrongPassword
from drtool.events import Emit, Stage, Warned
from drtool.manifest.facade import Manifest, View
from drtool.manifest.local import DirectoryState
from drtool.manifest.ports import Note
from drtool.manifest.records import Target
from drtool.model import RepositoryId, SiteName, TargetName, site_of
from drtool.repository.beyond import reach_known, reach_more, stale_words
from drtool.repository.cache import Cache
from drtool.repository.doubles import tell_apart
from drtool.repository.identity import author
from drtool.repository.keys import check_kept, unlock, unlock_kept
from drtool.repository.known_targets import Known, recall, remember, repository_at
from drtool.repository.mirrors import source_words
from drtool.repository.overlays import Overlays, warnings
from drtool.repository.places import open_read_only
from drtool.repository.recognition import confirm, keep_recognised, repository_of, set_aside_all, take_in_all
from drtool.repository.registers import mirror_stores, register_at, registers_of
from drtool.repository.rehearsals import Rehearsals
from drtool.repository.repository import Repository
from drtool.repository.spec import RepositorySpec
from drtool.repository.targets import UNNAMED, Targets
from drtool.repository.twins import Binding, Twin, refusal, use_catalogued
from drtool.stores.patience import Patience, waiting_words

ANY_SITE = "any"
UNREACHABLE_S = 45.0
"""A server that restarts is back by then. One that is gone should not delay the error for longer."""
KEPT_UNREAD = (
    "no target returned a key slot for this password, but not all could be read, so the copy on this host was used"
)
KEPT = "no target has a valid key slot for this password, but this host has a copy: drtool repair restores it"


class _Parts(Struct, frozen=True):
    """The parts of an opening. `known`: the targets as this host last saw them."""

    spec: RepositorySpec
    targets: Targets
    keyring: Keyring
    manifest: Manifest
    known: Known | None
    recalled: list[TargetName] = []
    """The targets that were reached only because this host recorded them earlier."""


def open_repository(spec: RepositorySpec, emit: Emit) -> Repository:
    """Reach the targets, unlock the keys, read the manifest."""
    emit(Stage(name="opening"))
    overlays = Overlays(spec.faults_dir or spec.state_dir)
    for line in warnings(overlays.sweep()) if not spec.read_only else ():
        emit(Warned(message=line))
    patience = Patience(spec.patience_s)
    for attempt in count():
        targets = _targets(spec, overlays, emit)
        try:
            targets.connect(None)
            return _opened(spec, targets, emit)
        except NoQuorum as error:
            targets.close()
            if not _may_pass(spec, targets, patience):
                raise
            patience.begin(error.message)
            if text := patience.news():
                emit(Warned(message=waiting_words(text, _limit_s(spec, targets))))
            patience.wait(attempt, error.message)
        except BaseException:
            targets.close()
            raise
    raise AssertionError("unreachable")


def _targets(spec: RepositorySpec, overlays: Overlays, emit: Emit) -> Targets:
    targets = Targets(
        {target.name: target for target in spec.targets},
        *([open_read_only] if spec.read_only else []),  # otherwise the default way of opening
        rates=spec.rates,
        patience_s=spec.patience_s,
        rehearsals=Rehearsals(spec.cache_dir / "openings"),
        overlays=overlays,
    )
    targets.tell = lambda text: emit(Warned(message=text))
    return targets


def _may_pass(spec: RepositorySpec, targets: Targets, patience: Patience) -> bool:
    """Return whether opening again may help, because servers do not answer that this host reached at these places
    before.
    """
    if spec.manifest_from or not targets.unanswered or not spec.patience_s:
        return False
    if not patience.may_wait(_limit_s(spec, targets) / spec.patience_s):
        return False
    silent = [target for target in targets.specs.values() if target.name in targets.unanswered]
    return any(repository_at(spec.state_dir, [target]) is not None for target in silent)


def _limit_s(spec: RepositorySpec, targets: Targets) -> float:
    return spec.patience_s if targets.busy else min(spec.patience_s, UNREACHABLE_S)


def _opened(spec: RepositorySpec, targets: Targets, emit: Emit) -> Repository:
    keyring, by_kept = _keyring(targets, _repository_of(targets) or _recalled(targets, spec, emit), spec, emit)
    repository_id = keyring.repository
    local = DirectoryState(_state_dir(spec, repository_id))
    known = recall(spec.state_dir, repository_id)
    set_aside_all(targets)
    keep_recognised(targets, keyring)
    cache = Cache(spec.cache_dir / repository_id.hex())
    binding = Binding(spec, targets, repository_id, _state_dir(spec, repository_id))
    if known is not None and not spec.manifest_from:
        binding.bind(known.targets)
    manifest = Manifest(
        registers_of(targets),
        keyring,
        local,
        cache=cache.pages,
        author=author(spec.state_dir, spec.host),
        trace=_told(spec, emit),
        reach=lambda rows: {**reach_more(spec, targets, keyring, rows, known), **binding.bind(rows)},
        outage=_VoterOutage(targets),
        keyless=[target.name for target in spec.targets if not target.keys],
        stores=partial(mirror_stores, targets),
    )
    parts = _Parts(spec, targets, keyring, manifest, known)
    view, uncertain = _view(parts, emit)
    if parts.recalled:
        emit(Warned(message=stale_words(spec, targets, parts.recalled)))
    targets.learn(view.state.targets)
    if by_kept:
        check_kept(_state_dir(spec, repository_id), view.state.keys)
        emit(Warned(message=KEPT_UNREAD if targets.failures else KEPT))
    if not (spec.read_only or view.tentative) and (
        double := tell_apart(spec.state_dir, _state_dir(spec, repository_id), view)
    ):
        emit(Warned(message=double))
    for site, register in binding.release().items():
        manifest.add_site(site, register)
    twins = binding.twins(view.state.targets)
    if twins:
        uncertain = _told_apart(parts, twins, view, emit) or uncertain
    _use_key_in_force(keyring, view, emit)
    for problem in view.problems:
        emit(Warned(message=problem))
    targets.settle()
    repository = Repository(spec, targets, keyring, manifest, cache, view, uncertain, twins)
    confirm(repository, emit)
    if not spec.read_only:
        remember(spec, repository_id, view, targets)
    return repository


class _VoterOutage:
    """Waits for voters on servers if the manifest has no quorum without them."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._silent: set[TargetName] = set()

    def wait(self, away: Mapping[SiteName, StoreError], why: str, attempt: int) -> bool:
        targets = self._targets
        silent = {name for name in targets.online() if (e := away.get(site_of(name))) and targets.may_return(name, e)}
        self._silent |= silent
        return bool(silent) and targets.wait_for(silent, attempt, why)

    def over(self) -> None:
        for name in self._silent:
            self._targets.answered(name)
        self._silent.clear()


def _keyring(targets: Targets, repository: RepositoryId, spec: RepositorySpec, emit: Emit) -> tuple[Keyring, bool]:
    """Return the keyring, and whether only the key slot that this host keeps opened it."""
    try:
        return _unlocked(targets, repository, spec, emit), False
    except (NoQuorum, WrongPassword):
        keyring = unlock_kept(repository, spec.password, _state_dir(spec, repository))
        if keyring is None:
            raise
        return keyring, True


def _state_dir(spec: RepositorySpec, repository_id: RepositoryId) -> Path:
    return spec.state_dir / "repositories" / repository_id.hex()


def _told_apart(parts: _Parts, twins: Sequence[Twin], view: View, emit: Emit) -> DrtoolError | None:
    """Return `Refused`, since a target exists twice. A caller that selects a copy, or only reads, gets the catalogue's
    copy.

    A caller that reads the data of single sites gets the configured copy.
    """
    error, spec, targets = refusal(twins), parts.spec, parts.targets
    if not (spec.declares or spec.anyhow or view.tentative):
        raise error
    if view.tentative or not spec.declares:
        emit(Warned(message=error.message))
    if view.tentative:
        return None
    for site, register in use_catalogued(targets, twins, parts.keyring.repository).items():
        parts.manifest.add_site(site, register)
    return error if spec.anyhow else None


def _told(spec: RepositorySpec, emit: Emit) -> Callable[[Note], None]:
    """Return the receiver of the manifest's notes: warnings go to the user, the rest to the trace."""

    def tell(note: Note) -> None:
        if note.phase == "warning":
            emit(Warned(message=note.text))
        elif spec.trace is not None:
            spec.trace(note)

    return tell


def _use_key_in_force(keyring: Keyring, view: View, emit: Emit) -> None:
    """Seal under the current key.

    A key slot from before a rotation only opens older data, which suffices as a last resort.
    """
    try:
        keyring.seal_under(view.state.keys.generation)
    except KeyMissing as error:
        if not view.tentative:
            raise
        emit(Warned(message=f"data newer than the last key rotation does not open: {error.message}"))


def _unlocked(targets: Targets, repository: RepositoryId, spec: RepositorySpec, emit: Emit) -> Keyring:
    """Open a key slot.

    If no configured target has one, try the other targets that this host has recorded, and then places without a valid
    marker.
    """
    known = recall(spec.state_dir, repository)
    try:
        return _unlock(targets, repository, spec, emit)
    except NoQuorum:
        if known is not None and reach_known(spec, targets, known):
            return _unlock(targets, repository, spec, emit)
        by_slots = repository_of(targets)
        if by_slots is None:
            raise
    targets.keep_only(lambda marker: marker.repository_id == by_slots)
    take_in_all(targets, by_slots)
    return _unlock(targets, by_slots, spec, emit)


def _unlock(targets: Targets, repository: RepositoryId, spec: RepositorySpec, emit: Emit) -> Keyring:
    for name, marker in targets.markers.items():
        if marker.repository_id != repository:
            emit(Warned(message=f"target {name} belongs to another repository, {marker.repository}, and is not used"))
    targets.keep_only(lambda marker: marker.repository_id == repository)
    if not targets.online():
        take_in_all(targets, repository)
    return unlock(targets, repository, spec.password, _state_dir(spec, repository))


def _recalled(targets: Targets, spec: RepositorySpec, emit: Emit) -> RepositoryId:
    """Return the repository that this host reached at the configured places before, through another recorded target."""
    known = repository_at(spec.state_dir, spec.targets)
    reached = reach_known(spec, targets, known) if known is not None else []
    if known is None or not reached:
        raise _nothing_reached(targets, spec, known)
    emit(Warned(message=stale_words(spec, targets, reached)))
    return known.repository_id


def _repository_of(targets: Targets) -> RepositoryId | None:
    """Return the repository of most of the configured places, or None if none is reached.

    Where markers do not name it, key slots do. UsageError if several repositories have equally many places.
    """
    found = Counter(marker.repository_id for marker in targets.markers.values())
    if found:
        (first, count), *others = found.most_common(2)
        if not others or others[0][1] < count:
            return first
    by_slots = repository_of(targets)
    if found and by_slots is None:
        raise _ambiguous(targets)
    return by_slots


def _nothing_reached(targets: Targets, spec: RepositorySpec, known: Known | None) -> DrtoolError:
    untried = {row.name for row in known.targets if row.state != "lost"} - targets.specs.keys() if known else set()
    places = ", ".join(f"{name} ({target.url})" for name, target in targets.specs.items())
    if set(targets.specs) <= targets.absent and not untried:
        return NoRepository(f"there is no repository at {places}", hint=_hint_for_nothing(spec))
    reasons = "; ".join(f"{name}: {why}" for name, why in targets.failures.items())
    reasons += "".join(f"; {name}: {UNNAMED}" for name in sorted(untried))
    return NoQuorum(f"no target of the repository can be reached ({reasons})", hint=f"then run: {spec.rerun}")


def _ambiguous(targets: Targets) -> UsageError:
    whose = "; ".join(f"{name}: {marker.repository}" for name, marker in targets.markers.items())
    return UsageError(
        f"the configuration's sites belong to several repositories ({whose})", hint="leave those of one under `sites:`"
    )


def _hint_for_nothing(spec: RepositorySpec) -> str:
    """Return the hint.

    On a host that opened these places before, the disks may not be mounted. Another may never have had any.
    """
    if any((spec.state_dir / "repositories").glob("*")):
        return "mount the disks of the configuration's `sites`, or correct their URLs (this host has opened a repository before)"
    return "mount them, or correct the configuration's `sites` (`drtool init` creates a new repository)"


def _view(parts: _Parts, emit: Emit) -> tuple[View, DrtoolError | None]:
    """Return the view to work with, and why it is not certain if the caller accepts that."""
    spec = parts.spec
    if spec.manifest_from:
        return _offline(parts, spec.manifest_from, emit), None
    try:
        return _certain(parts), None
    except (NoQuorum, Forked) as error:
        if spec.anyhow:
            return _anyhow(parts, error, emit), error
        if isinstance(error, Forked):
            raise
        raise NoQuorum(error.message, hint=f"to read the data of single sites: {spec.reading}") from None


def _anyhow(parts: _Parts, error: DrtoolError, emit: Emit) -> View:
    """Return the view of any site. For a manifest that was recovered twice, it is that of the first site that answers."""
    for asked in (ANY_SITE, *parts.targets.sites()):
        with suppress(NoQuorum, Forked):
            return _offline(parts, (asked,), emit)
    raise error


def _certain(parts: _Parts) -> View:
    """Return the view that a quorum confirms, after looking for voters that only the manifest names if there is none."""
    try:
        view = parts.manifest.read()
    except (NoQuorum, NoRepository):
        if not _learn_more(parts):
            raise
        view = parts.manifest.read()
    _reach(parts, view.state.targets)
    return view


def _learn_more(parts: _Parts) -> bool:
    """Return whether the data of any site, or of this host, led to a site that was not reached before."""
    gained = reach_known(parts.spec, parts.targets, parts.known) if parts.known is not None else []
    parts.recalled.extend(gained)
    keep_recognised(parts.targets, parts.keyring)
    for site in {site_of(name) for name in gained if parts.targets.reachable(name)}:
        parts.manifest.add_site(site, register_at(parts.targets, site))
    try:
        rows = parts.manifest.read_offline(None).state.targets
    except DrtoolError:
        return bool(gained)
    return _reach(parts, rows) or bool(gained)


def _offline(parts: _Parts, asked: tuple[str, ...], emit: Emit) -> View:
    """Return the newest head at the requested sites."""
    if ANY_SITE in asked or not set(asked) <= set(parts.targets.sites()):
        _learn_more(parts)
    unknown = sorted(set(asked) - {ANY_SITE, *parts.targets.sites()})
    if unknown:
        names = ", ".join(parts.targets.sites())
        raise UsageError(
            f"--manifest-from {unknown[0]}: there is no such site",
            hint=f"there are {names}, or any, for the first that answer",
        )
    sites = parts.targets.sites() if ANY_SITE in asked else [SiteName(site) for site in dict.fromkeys(asked)]
    view = _newest(parts, sites, emit)
    _reach(parts, view.state.targets)
    return view


def _newest(parts: _Parts, sites: list[SiteName], emit: Emit) -> View:
    """Return the newest authentic head at these sites, and report which change each of them has."""
    try:
        view = parts.manifest.read_offline(*sites)
    except NoQuorum as error:
        others = " (`--manifest-from any` asks every site)" if len(sites) < len(parts.targets.sites()) else ""
        raise NoQuorum(error.message, hint=f"bring one of them back{others}") from None
    for site in sites:
        if site not in view.found:
            why = parts.targets.reason_for(site) or "it holds no authentic head"
            emit(Warned(message=f"site {site} has no manifest: {why}"))
    emit(Warned(message=tentative_words(view)))
    return view


def tentative_words(view: View) -> str:
    """Return how much of a view that no quorum confirmed is certain."""
    by_site = ", ".join(f"{site} has change {sequence}" for site, sequence in sorted(view.found.items()))
    if not view.confirmed_sequence:
        certain = "this host never saw any of it confirmed"
    elif view.sequence > view.confirmed_sequence:
        certain = f"this host saw change {view.confirmed_sequence} confirmed, and nothing later"
    else:
        certain = f"this host saw change {view.confirmed_sequence} confirmed, and there may be newer ones elsewhere"
    return f"reading without a quorum, so this is tentative: change {view.sequence} ({by_site}); {certain}{source_words(view)}"


def _reach(parts: _Parts, rows: Iterable[Target]) -> bool:
    """Add the sites that `reach_more` gains to the manifest, and return whether it gained any."""
    gained = reach_more(parts.spec, parts.targets, parts.keyring, list(rows), parts.known)
    for site, register in gained.items():
        parts.manifest.add_site(site, register)
    return bool(gained)
