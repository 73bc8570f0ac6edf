"""The local paths of the repository itself: data that is neither the user's, nor to be backed up or cleaned away."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from drtool.model import TargetName
from drtool.repository.places import is_directory
from drtool.repository.repository import Repository
from drtool.repository.spec import local_path


def targets_here(repository: Repository) -> dict[TargetName, bytes]:
    """Return the targets that are directories of this host, by name, with their real paths.

    For an unreachable one it is the configured path, since resolving a path on a hung mount would hang.
    """
    targets = repository.targets
    places = {name: local_path(spec.url) for name, spec in targets.specs.items() if is_directory(spec.url)}
    return {
        name: _real(place) if targets.reachable(name) else os.path.abspath(os.fsencode(place))
        for name, place in places.items()
    }


class Lodging(NamedTuple):
    """The directories of targets, state and cache."""

    paths: frozenset[bytes]
    """Real paths."""
    identities: frozenset[tuple[int, int]]
    """Device and inode of those that can be inspected, since another path may lead to them through a mount."""


def lived_in(repository: Repository) -> Lodging:
    """Return where targets, state and cache are."""
    spec = repository.spec
    targets = targets_here(repository)
    own = [_real(spec.state_dir), _real(spec.cache_dir)]
    reachable = [path for name, path in targets.items() if repository.targets.reachable(name)]
    return Lodging(frozenset((*targets.values(), *own)), frozenset(_identities([*reachable, *own])))


def _identities(paths: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    for path in paths:
        with suppress(OSError):  # it is not there
            found = os.stat(path)
            yield found.st_dev, found.st_ino


def _real(path: "os.PathLike[str]") -> bytes:
    return os.path.realpath(os.fsencode(path))
