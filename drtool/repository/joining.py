"""Joining a repository from the URL of one of its places, before this host knows anything else.

Invariants
    The marker is only a guide until its MAC was checked with the key that the password opened.
"""

from collections.abc import Iterable, Sequence
from contextlib import closing

from msgspec import Struct
from msgspec.structs import replace

from drtool.config.urls import NO_ACCESS, Access
from drtool.errors import DrtoolError, FormatError, NoQuorum, NoRepository, ObjectMissing, Refused, TargetOffline
from drtool.model import RepositoryId, TargetName
from drtool.repository.marker import Marker
from drtool.repository.overlays import NO_OVERLAYS, Overlays
from drtool.repository.places import is_absent, open_in_time
from drtool.repository.recognition import UNKNOWN
from drtool.repository.slots import slot_repositories
from drtool.repository.spec import TargetSpec
from drtool.repository.targets import Targets


def target_at(
    url: str, access: Access = NO_ACCESS, *, overlays: Overlays = NO_OVERLAYS
) -> tuple[TargetSpec, RepositoryId]:
    """Return the target at `url` and its repository, according to its own marker.

    Without a valid marker the target is `UNKNOWN`, and its key slots name the repository. `NoRepository` if there is
    none, `NoQuorum` if the place does not answer, `FormatError` if neither can be parsed.
    """
    unnamed = TargetSpec(name=UNKNOWN, url=url, access=access)
    try:
        store = open_in_time(unnamed, overlays=overlays)
    except TargetOffline as error:
        if is_absent(error):
            raise _nothing(url, error.message) from None
        raise NoQuorum(error.message, hint=error.hint or "bring it back, or connect from another target") from None
    with closing(store):
        try:
            marker = Marker.read(store)
        except (ObjectMissing, FormatError) as error:
            repository_id = next(slot_repositories(store), None)
            if repository_id is None and isinstance(error, ObjectMissing):
                raise _nothing(url, "it holds no drtool.json") from None
            if repository_id is None:
                raise
            return unnamed, repository_id  # its register will identify the target
    return replace(unnamed, name=marker.target), marker.repository_id


class Joined(Struct, frozen=True):
    """The places of one repository that answered, each target once, and those that did not, with the reason."""

    repository: RepositoryId
    targets: tuple[TargetSpec, ...]
    silent: tuple[tuple[str, str], ...]


def targets_at(places: Sequence[tuple[str, Access]], *, overlays: Overlays = NO_OVERLAYS) -> Joined:
    """Return the targets at the places. If none answers, raise the first error. `Refused` for two repositories."""
    found: dict[RepositoryId, dict[TargetName, TargetSpec]] = {}
    failed: list[tuple[str, DrtoolError]] = []
    for url, access in places:
        try:
            target, repository = target_at(url, access, overlays=overlays)
        except DrtoolError as error:
            failed.append((url, error))
        else:
            found.setdefault(repository, {}).setdefault(target.name, target)
    if not found:
        raise failed[0][1]
    if len(found) > 1:
        one, other = (next(iter(targets.values())).url for targets in list(found.values())[:2])
        raise Refused(f"{one} and {other} are places of two repositories", hint="connect to one of them")
    ((repository, targets),) = found.items()
    return Joined(repository, tuple(targets.values()), tuple((url, error.message) for url, error in failed))


def repositories_at(specs: Iterable[TargetSpec]) -> set[RepositoryId]:
    """Return the repositories at these places, as far as they can be reached."""
    targets = Targets({spec.name: spec for spec in specs})
    targets.connect(None)
    try:
        return {marker.repository_id for marker in targets.markers.values()}
    finally:
        targets.close()


def _nothing(url: str, why: str) -> NoRepository:
    return NoRepository(
        f"there is no repository at {url}: {why}",
        hint="name the place that holds drtool.json, packs and manifest (an unmounted disk looks empty)",
    )
