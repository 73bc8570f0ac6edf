"""Lists of objects that prune condemns or removes, stored on a quorum before a change names them.

Invariants
    If the voters change after a list was stored, the new voters get it before the commit that names it.
"""

from drtool.crypto import SealKind
from drtool.errors import NoQuorum
from drtool.manifest.context import Context
from drtool.manifest.head import reference_to, seal_row
from drtool.manifest.library import store_everywhere
from drtool.manifest.pages import NameList
from drtool.manifest.ports import Keys, Talk
from drtool.manifest.records import ObjectList

NAME_BYTES = 32


class KeptLists:
    """The lists that this run stored: their sealed bytes, and the configuration of the voters that hold them."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._lists: dict[bytes, tuple[bytes, tuple[int, int]]] = {}

    def keep(self, context: Context, names: NameList, size_bytes: int) -> Talk[ObjectList]:
        """Store a list of objects, of `size_bytes` in total. `NoQuorum` if too few voters accept it."""
        sealed = seal_row(self._keys, SealKind.OBJECT, names)
        reference = reference_to(sealed)
        yield from _store(context, {reference.name: sealed})
        self._lists[reference.name] = (sealed, context.config.place)
        count = (len(names.packs) + len(names.segments)) // NAME_BYTES
        return ObjectList(reference.name, reference.size_bytes, count, size_bytes)

    def keep_at(self, context: Context) -> Talk[None]:
        """Store at these voters the lists that were stored before a change of voters."""
        place = context.config.place
        late = {name: sealed for name, (sealed, at) in self._lists.items() if at != place}
        if late:
            yield from _store(context, late)
        self._lists |= {name: (sealed, place) for name, sealed in late.items()}


def _store(context: Context, objects: dict[bytes, bytes]) -> Talk[None]:
    if not (yield from store_everywhere(context.places, objects, context.quorum)):
        raise NoQuorum(
            "too few sites accepted the list of objects to remove", hint="free some space there and run it again"
        )
