"""Joining a repository from one place of it: what lies at a URL, before this host knows anything else.

Invariants
    The marker only guides: it is believed when its MAC was checked with the key that the password opened.
"""

from collections.abc import Iterable

from drtool.errors import NoQuorum, NoRepository, ObjectMissing, TargetOffline
from drtool.model import RepositoryId
from drtool.repository.marker import Marker
from drtool.repository.spec import TargetSpec, local_path
from drtool.repository.targets import Targets, check_answers
from drtool.stores import LocalStore


def target_at(url: str) -> tuple[TargetSpec, RepositoryId]:
    """The target whose directory is at `url`, and its repository, by its own marker.

    `NoRepository` if there is none; `NoQuorum` if the place does not answer; `FormatError` if the marker makes no sense.
    """
    try:
        check_answers(url)
        store = LocalStore.open(local_path(url))
    except TargetOffline as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise _nothing(url, error.message) from None
        raise NoQuorum(error.message, hint="check that it is mounted, or connect from another target") from None
    try:
        marker = Marker.read(store)
        return TargetSpec(name=marker.target, url=url), marker.repository_id
    except ObjectMissing:
        raise _nothing(url, "there is no drtool.json in it") from None
    finally:
        store.close()


def repositories_at(specs: Iterable[TargetSpec]) -> set[RepositoryId]:
    """The repositories that lie at these places, as far as they can be reached."""
    targets = Targets({spec.name: spec for spec in specs})
    targets.connect(None)
    try:
        return {marker.repository_id for marker in targets.markers.values()}
    finally:
        targets.close()


def _nothing(url: str, why: str) -> NoRepository:
    return NoRepository(
        f"there is no repository at {url}: {why}",
        hint="name the directory that holds drtool.json, packs and manifest; an unmounted disk looks empty",
    )
