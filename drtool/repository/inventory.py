"""The observed objects: every target's own listing.

Only a listing is proof, while hints and the ring only say where to look.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from drtool.errors import StoreError
from drtool.model import TargetName
from drtool.repository.targets import Targets


class Inventory(Struct, frozen=True):
    """Object sizes by name for each target that could be listed, and why the others could not."""

    objects: dict[TargetName, dict[str, int]]
    unlisted: dict[TargetName, str]

    def holders(self, name: str, size_bytes: int | None) -> Iterator[TargetName]:
        """Yield the targets that list `name`, with that size if one is given."""
        for target, objects in self.objects.items():
            listed = objects.get(name)
            if listed is not None and size_bytes in (None, listed):
                yield target


def take_inventory(
    targets: Targets,
    prefixes: tuple[str, ...] = ("packs/", "index/"),
    *,
    of: Iterable[TargetName] | None = None,
    waits_s: float | None = None,
) -> Inventory:
    """List every reachable storing target, or those in `of`, concurrently.

    Servers that stop answering are waited for. `waits_s`: the limit for that if other targets answer.
    """
    objects: dict[TargetName, dict[str, int]] = {}
    unlisted: dict[TargetName, str] = {}

    def list_one(target: TargetName) -> dict[str, int]:
        def call() -> dict[str, int]:
            return _listed(targets, target, prefixes)

        return targets.patiently(target, call, waits_s if len(names) > 1 else None)

    names = sorted(targets.storing() if of is None else of)
    with ThreadPoolExecutor(max(1, len(names)), "list") as threads:
        listings = {target: threads.submit(list_one, target) for target in names}
    for target, listing in listings.items():
        try:
            objects[target] = listing.result()
        except StoreError as error:
            unlisted[target] = targets.failures.get(target, error.message)
    return Inventory(objects, unlisted)


def _listed(targets: Targets, target: TargetName, prefixes: tuple[str, ...]) -> dict[str, int]:
    store = targets.store(target)
    return {info.name: info.size_bytes for prefix in prefixes for info in store.list(prefix)}
