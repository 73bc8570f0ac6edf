"""The needed objects that some targets hold, and those that no other target has. Computed before targets are given up.

Invariants
    A copy that was found damaged does not count. A target that cannot be listed is assumed to hold everything written
    to it.
    Targets that were given up earlier do not count as holders, even if they still answer.
"""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from drtool.errors import Refused
from drtool.model import TargetName, pack_object
from drtool.repository.copying import Amount
from drtool.repository.expected import Expected, expected_objects
from drtool.repository.inventory import Inventory, take_inventory
from drtool.repository.placement import distinct_sites

if TYPE_CHECKING:
    from drtool.repository.repository import Repository


class Holdings(Struct, frozen=True):
    """The needed objects at these targets. `only`: those that no other target has.

    `below`: how many objects would be on fewer sites than promised without these targets. `condemned`: how many of
    `only` are condemned by prune, which no rebalance moves.
    """

    all: Amount = Amount()
    only: Amount = Amount()
    below: int = 0
    condemned: int = 0


def holdings(repository: "Repository", names: Collection[TargetName]) -> Holdings:
    """Return the holdings, from the listings.

    `Refused` if an index segment, which defines what is needed, is unreadable.
    """
    for segment, why in repository.load_index().items():
        raise Refused(
            f"index segment {segment.hex()[:16]}… cannot be read, so it is unknown what {_words(names)} is needed for: {why}",
            hint="drtool repair first",
        )
    inventory = take_inventory(repository.targets, of={*repository.targets.storing(), *names})
    damaged = repository.findings.all()
    copies = repository.view.state.policy.copies
    all_, only, below, condemned = Amount(), Amount(), 0, 0
    going = {pack_object(pack) for pack in repository.going_packs(repository.view, to_read=True)}
    for expected in _needed(repository):
        holders = {
            t for t in inventory.holders(expected.name, expected.size_bytes) if (t, expected.name) not in damaged
        }
        others = holders.difference(names)
        one = Amount(1, expected.size_bytes)
        all_ += one if holders != others else Amount()
        here = holders != others or _may_be_there(expected, names, inventory, others)
        alone = here and not others
        only += one if alone else Amount()
        condemned += alone and expected.name in going
        below += here and distinct_sites(others) < copies
    return Holdings(all_, only, below, condemned)


def _may_be_there(
    expected: Expected, names: Collection[TargetName], inventory: Inventory, others: Collection[TargetName]
) -> bool:
    """Return whether an unlisted target may have it: it was written there, or no other target has it."""
    unlisted = [name for name in names if name not in inventory.objects]
    return any(name in expected.written for name in unlisted) or bool(unlisted and not others)


def _needed(repository: "Repository") -> Iterator[Expected]:
    """Yield everything that the catalogue references. Condemned objects are included, since prune may take them back."""
    state = repository.view.state
    return expected_objects(repository.index.packs(), state.segments, repository.placement, state.policy.copies)


def _words(names: Collection[TargetName]) -> str:
    return ", ".join(sorted(names))
