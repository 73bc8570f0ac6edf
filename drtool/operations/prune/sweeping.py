"""Removal of the temporary files that killed writers left at the targets, once they are old enough."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from drtool.errors import StoreError
from drtool.events import Emit, TargetFailed
from drtool.model import TargetName
from drtool.repository import Repository

OLD_S = 24 * 3600.0
"""Longer than any write takes, with a margin for wrong clocks. A file removed too early only fails its writer."""
DIRECTORIES_AT_ONCE = 32


def sweep(repository: Repository, emit: Emit) -> int:
    """Return how many files were removed, over all writable targets."""
    targets = repository.targets
    names = [name for name in targets.online() if targets.writable(name)]
    with ThreadPoolExecutor(max(1, len(names)), "sweep") as threads:
        return sum(threads.map(lambda name: _sweep_at(repository, name, emit), names))


def _sweep_at(repository: Repository, target: TargetName, emit: Emit) -> int:
    removed, targets = 0, repository.targets
    try:
        store = targets.store(target)
        at_root = targets.patiently(target, lambda: store.sweep([""], OLD_S))
        if at_root is None:
            return 0
        names = targets.patiently(target, lambda: [info.name for info in store.list()])
        directories = sorted({_parent(name) for name in names} - {""})
        for start in range(0, len(directories), DIRECTORIES_AT_ONCE):
            some = directories[start : start + DIRECTORIES_AT_ONCE]
            removed += targets.patiently(target, partial(store.sweep, some, OLD_S)) or 0
    except StoreError as error:
        emit(TargetFailed(target=target, reason=targets.fail_by(target, error)))
        return removed
    return removed + at_root


def _parent(name: str) -> str:
    return name.rpartition("/")[0]
