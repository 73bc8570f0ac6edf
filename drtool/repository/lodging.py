"""Where this host keeps what the repository consists of: nothing of a user's, and nothing to back up or to clean away."""

import os

from drtool.model import TargetName
from drtool.repository.places import is_directory
from drtool.repository.repository import Repository
from drtool.repository.spec import local_path


def targets_here(repository: Repository) -> dict[TargetName, bytes]:
    """The targets that are directories of this host: name → real path.

    One that cannot be reached goes by the path that is configured: a mount that hangs would hang whoever looks at it.
    """
    targets = repository.targets
    places = {name: local_path(spec.url) for name, spec in targets.specs.items() if is_directory(spec.url)}
    return {
        name: _real(place) if targets.reachable(name) else os.path.abspath(os.fsencode(place))
        for name, place in places.items()
    }


def lived_in(repository: Repository) -> frozenset[bytes]:
    """The real paths of all that: targets, state and cache."""
    spec = repository.spec
    return frozenset((*targets_here(repository).values(), *map(_real, (spec.state_dir, spec.cache_dir))))


def _real(path: "os.PathLike[str]") -> bytes:
    return os.path.realpath(os.fsencode(path))
