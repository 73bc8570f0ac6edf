"""Where this host keeps what the repository consists of: nothing of a user's, and nothing to back up or to clean away."""

import os

from drtool.model import TargetName
from drtool.repository.places import is_directory
from drtool.repository.repository import Repository
from drtool.repository.spec import local_path


def targets_here(repository: Repository) -> dict[TargetName, bytes]:
    """The targets that are directories of this host: name → real path."""
    return {
        name: _real(local_path(spec.url)) for name, spec in repository.targets.specs.items() if is_directory(spec.url)
    }


def lived_in(repository: Repository) -> frozenset[bytes]:
    """The real paths of all that: targets, state and cache."""
    spec = repository.spec
    return frozenset((*targets_here(repository).values(), *map(_real, (spec.state_dir, spec.cache_dir))))


def _real(path: "os.PathLike[str]") -> bytes:
    return os.path.realpath(os.fsencode(path))
