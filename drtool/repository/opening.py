"""Opening a repository from what this host's configuration says, and what the manifest adds to it.

Invariants
    A target is used only if its marker names this repository and this target, and was written with its key.
    A register that the configuration does not name is looked for where the manifest says, before a quorum is given up.
    Nothing is read without a quorum unless the caller asked for that, and then it is said how tentative it is.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from msgspec import Struct

from drtool.crypto import Keyring
from drtool.errors import DrtoolError, Forked, KeyMissing, NoQuorum, NoRepository, UsageError
from drtool.events import Emit, Stage, Warned
from drtool.manifest.facade import Manifest, View
from drtool.manifest.local import DirectoryState
from drtool.manifest.ports import Note, SitePort
from drtool.manifest.records import Target
from drtool.model import RepositoryId, SiteName, site_of
from drtool.repository.cache import Cache
from drtool.repository.identity import author
from drtool.repository.keys import unlock
from drtool.repository.overlays import Overlays, warnings
from drtool.repository.places import is_directory, open_read_only
from drtool.repository.rehearsals import Rehearsals
from drtool.repository.repository import Repository
from drtool.repository.spec import RepositorySpec, TargetSpec
from drtool.repository.targets import Targets, register_at, registers_of

ANY_SITE = "any"


class _Parts(Struct, frozen=True):
    """What opening works with."""

    spec: RepositorySpec
    targets: Targets
    keyring: Keyring
    manifest: Manifest


def open_repository(spec: RepositorySpec, emit: Emit) -> Repository:
    """Reaches the targets, unlocks the keys, reads the manifest."""
    emit(Stage(name="opening"))
    overlays = Overlays(spec.faults_dir or spec.state_dir)
    for line in warnings(overlays.sweep()) if not spec.read_only else ():
        emit(Warned(message=line))
    targets = Targets(
        {target.name: target for target in spec.targets},
        *([open_read_only] if spec.read_only else []),  # else as targets are opened everywhere
        rates=spec.rates,
        rehearsals=Rehearsals(spec.cache_dir / "openings"),
        overlays=overlays,
    )
    targets.connect(None)
    try:
        return _opened(spec, targets, emit)
    except BaseException:
        targets.close()
        raise


def _opened(spec: RepositorySpec, targets: Targets, emit: Emit) -> Repository:
    repository_id = _repository_of(targets, spec)
    for name, marker in targets.markers.items():
        if marker.repository_id != repository_id:
            emit(Warned(message=f"target {name} belongs to another repository, {marker.repository}, and is not used"))
    targets.keep_only(lambda marker: marker.repository_id == repository_id)
    state_dir = spec.state_dir / "repositories" / repository_id.hex()
    local = DirectoryState(state_dir)
    keyring = unlock(targets, repository_id, spec.password, state_dir)
    targets.keep_only(lambda marker: marker.authentic(keyring))
    cache = Cache(spec.cache_dir / repository_id.hex())
    manifest = Manifest(
        registers_of(targets),
        keyring,
        local,
        cache=cache.pages,
        author=author(spec.state_dir, spec.host),
        trace=_told(spec, emit),
        reach=lambda rows: reach_more(spec, targets, keyring, rows),
        keyless=[target.name for target in spec.targets if not target.keys],
    )
    view, uncertain = _view(_Parts(spec, targets, keyring, manifest), emit)
    targets.learn(view.state.targets)
    _use_key_in_force(keyring, view, emit)
    for problem in view.problems:
        emit(Warned(message=problem))
    targets.settle()
    return Repository(spec, targets, keyring, manifest, cache, view, uncertain)


def _told(spec: RepositorySpec, emit: Emit) -> Callable[[Note], None]:
    """Where the manifest's notes go: warnings to the user, the rest to whoever traces it."""

    def tell(note: Note) -> None:
        if note.phase == "warning":
            emit(Warned(message=note.text))
        elif spec.trace is not None:
            spec.trace(note)

    return tell


def _use_key_in_force(keyring: Keyring, view: View, emit: Emit) -> None:
    """An old key slot opens what is older than a rotation: enough for a last resort, and for nothing else."""
    try:
        keyring.seal_under(view.state.keys.generation)
    except KeyMissing as error:
        if not view.tentative:
            raise
        emit(Warned(message=f"what is newer than the last rotation of keys does not open: {error.message}"))


def _repository_of(targets: Targets, spec: RepositorySpec) -> RepositoryId:
    found = Counter(marker.repository_id for marker in targets.markers.values())
    if found:
        (first, count), *others = found.most_common(2)
        if others and others[0][1] == count:
            raise _ambiguous(targets)
        return first
    places = ", ".join(f"{name} ({target.url})" for name, target in targets.specs.items())
    if set(targets.specs) <= targets.absent:
        raise NoRepository(f"there is no repository at {places}", hint=_hint_for_nothing(spec))
    reasons = "; ".join(f"{name}: {why}" for name, why in targets.failures.items())
    raise NoQuorum(f"no target of the repository can be reached ({reasons})", hint=f"then run: {spec.rerun}")


def _ambiguous(targets: Targets) -> UsageError:
    whose = "; ".join(f"{name}: {marker.repository}" for name, marker in targets.markers.items())
    return UsageError(
        f"the configuration's sites belong to several repositories ({whose})", hint="leave those of one under `sites:`"
    )


def _hint_for_nothing(spec: RepositorySpec) -> str:
    """A host that opened these places before is one whose disks are not mounted; another one may never have had any."""
    if any((spec.state_dir / "repositories").glob("*")):
        return "mount the disks that the configuration's `sites` name, or correct their URLs; this host has seen a repository"
    return "mount them, or correct the configuration's `sites`; `drtool init` founds a repository where there is none"


def _view(parts: _Parts, emit: Emit) -> tuple[View, DrtoolError | None]:
    """The view to work with; and, if the caller takes what there is, why it is not certain."""
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
        raise NoQuorum(error.message, hint=f"to read what single sites know: {spec.reading}") from None


def _anyhow(parts: _Parts, error: DrtoolError, emit: Emit) -> View:
    """What any site knows; of a manifest that was recovered twice, the line of the first site that answers. `error` if none."""
    for asked in (ANY_SITE, *parts.targets.sites()):
        with suppress(NoQuorum, Forked):
            return _offline(parts, (asked,), emit)
    raise error


def _certain(parts: _Parts) -> View:
    """What a quorum confirms; voters that only the manifest names are looked for before there is none."""
    try:
        view = parts.manifest.read()
    except NoQuorum:
        if not _learn_more(parts):
            raise
        view = parts.manifest.read()
    _reach(parts, view.state.targets)
    return view


def _learn_more(parts: _Parts) -> bool:
    """Whether what any site knows led to a site that was not reached so far."""
    try:
        known = parts.manifest.read_offline(None)
    except DrtoolError:
        return False
    return _reach(parts, known.state.targets)


def _offline(parts: _Parts, asked: tuple[str, ...], emit: Emit) -> View:
    """The newest head at the sites that were asked for."""
    if ANY_SITE in asked or not set(asked) <= set(parts.targets.sites()):
        _learn_more(parts)
    unknown = sorted(set(asked) - {ANY_SITE, *parts.targets.sites()})
    if unknown:
        names = ", ".join(parts.targets.sites())
        raise UsageError(
            f"--manifest-from {unknown[0]}: there is no such site",
            hint=f"there are {names}; or any, for whoever answers",
        )
    sites = parts.targets.sites() if ANY_SITE in asked else [SiteName(site) for site in dict.fromkeys(asked)]
    view = _newest(parts, sites, emit)
    _reach(parts, view.state.targets)
    return view


def _newest(parts: _Parts, sites: list[SiteName], emit: Emit) -> View:
    """The newest authentic head at these sites; what each of them had is told."""
    try:
        view = parts.manifest.read_offline(*sites)
    except NoQuorum as error:
        others = "; `--manifest-from any` asks every site" if len(sites) < len(parts.targets.sites()) else ""
        raise NoQuorum(error.message, hint=f"bring one of them back{others}") from None
    for site in sites:
        if site not in view.found:
            why = parts.targets.reason_for(site) or "it holds no authentic head"
            emit(Warned(message=f"site {site} has no manifest to give: {why}"))
    emit(Warned(message=tentative_words(view)))
    return view


def tentative_words(view: View) -> str:
    """How much of a view that no quorum confirmed is certain."""
    by_site = ", ".join(f"{site} has change {sequence}" for site, sequence in sorted(view.found.items()))
    if not view.confirmed_sequence:
        certain = "this host never saw any of it confirmed"
    elif view.sequence > view.confirmed_sequence:
        certain = f"this host saw change {view.confirmed_sequence} confirmed, and nothing later"
    else:
        certain = f"this host saw change {view.confirmed_sequence} confirmed; there may be newer ones elsewhere"
    return f"reading without a quorum, so this is tentative: change {view.sequence} ({by_site}); {certain}"


def _reach(parts: _Parts, rows: Iterable[Target]) -> bool:
    """Makes what `reach_more` gains known to the manifest; whether it gained anything."""
    gained = reach_more(parts.spec, parts.targets, parts.keyring, list(rows))
    for site, register in gained.items():
        parts.manifest.add_site(site, register)
    return bool(gained)


def reach_more(
    spec: RepositorySpec, targets: Targets, keyring: Keyring, rows: Sequence[Target]
) -> dict[SiteName, SitePort]:
    """Tries targets of the manifest that the configuration does not lead to; the registers of the sites gained by that.

    Of directories only this host's own, unless the caller asked for any whose marker proves it.
    """
    _drop_replaced(targets, rows)
    tried = [row for row in rows if _worth_trying(row, targets, spec)]
    for row in tried:
        targets.extend(TargetSpec(name=row.name, url=row.url, weight=row.weight), keyring.repository)
    _drop_replaced(targets, rows)  # the earlier one may be back at the very place of its successor
    targets.keep_only(lambda marker: marker.authentic(keyring))
    gained = {site_of(row.name) for row in tried if targets.reachable(row.name)}
    return {site: register_at(targets, site) for site in gained}


def reach_given_up(repository: Repository) -> None:
    """Tries the lost targets that this host does not reach yet, for one who reads whatever is left.

    Nothing is written there. A lost target whose name another place has taken is known no more.
    """
    targets, spec = repository.targets, repository.spec
    for row in repository.view.state.targets:
        if row.state == "lost" and not row.votes_only and _may_be_tried(row, targets, spec):
            targets.extend(TargetSpec(name=row.name, url=row.url, weight=row.weight), repository.id)
    targets.keep_only(lambda marker: marker.authentic(repository.keyring))


def _drop_replaced(targets: Targets, rows: Iterable[Target]) -> None:
    """A disk whose place was given to another one is not written to when it comes back."""
    for row in rows:
        marker = targets.markers.get(row.name)
        if marker is not None and row.id and marker.target_id != row.id:
            targets.drop(row.name, f"it is an earlier {row.name}, which was replaced by {row.url}")


def _worth_trying(row: Target, targets: Targets, spec: RepositorySpec) -> bool:
    """The configuration overrides by name, except for a target that was replaced since: it may still name the earlier one."""
    return row.state != "lost" and _may_be_tried(row, targets, spec)


def _may_be_tried(row: Target, targets: Targets, spec: RepositorySpec) -> bool:
    if targets.reachable(row.name):
        return False
    ours = spec.anywhere or row.host == spec.host or not is_directory(row.url)
    return ours and (row.name not in targets.specs or bool(row.id))
