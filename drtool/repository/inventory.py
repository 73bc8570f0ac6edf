"""What is really where: every target's own listing. Only a listing is proof; hints and the ring say where to look."""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from drtool.errors import StoreError
from drtool.model import TargetName
from drtool.repository.targets import Targets


class Inventory(Struct, frozen=True):
    """Sizes by object name for each target that could be listed; why not for the others."""

    objects: dict[TargetName, dict[str, int]]
    unlisted: dict[TargetName, str]

    def holders(self, name: str, size_bytes: int | None) -> Iterator[TargetName]:
        """The targets that list `name`, with that size if one is given."""
        for target, objects in self.objects.items():
            listed = objects.get(name)
            if listed is not None and size_bytes in (None, listed):
                yield target


def take_inventory(
    targets: Targets, prefixes: tuple[str, ...] = ("packs/", "index/"), *, of: Iterable[TargetName] | None = None
) -> Inventory:
    """Lists every reachable target that stores, or those in `of`."""
    objects: dict[TargetName, dict[str, int]] = {}
    unlisted: dict[TargetName, str] = {}
    for target in sorted(targets.storing() if of is None else of):
        try:
            store = targets.store(target)
            objects[target] = {info.name: info.size_bytes for prefix in prefixes for info in store.list(prefix)}
        except StoreError as error:
            unlisted[target] = targets.failures.get(target, error.message)
    return Inventory(objects, unlisted)
