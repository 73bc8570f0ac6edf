"""The copy of the catalogue at a target without a register: its audit and repair.

Invariants
    A mirror is damaged if its content does not match its name, or this repository's key did not seal it.
    A copy that lags is owed, not damaged. Pages of the newest head are missing only if the mirror names them.
    A damaged mirror is replaced under another name before it is deleted.
"""

from collections.abc import Collection, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from msgspec import Struct, field

from drtool.errors import DrtoolError, ObjectMissing, StoreError
from drtool.manifest.head import Head
from drtool.manifest.library import references
from drtool.manifest.mirror import READS_LIMIT, mirror_names, open_mirror
from drtool.manifest.names import MIRRORS, OBJECTS, object_key
from drtool.model import TargetName
from drtool.stores import Store

if TYPE_CHECKING:
    from drtool.repository.repository import Repository


class CopyAudit(Struct):
    """The copies at one target. `head`: of its newest valid mirror. `damaged`: invalid mirrors, and why."""

    looked_at: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    head: Head | None = None


def audit_copy(repository: "Repository", store: Store) -> CopyAudit:
    """Audit the newest mirrors at a target."""
    audit = CopyAudit()
    for name in islice(reversed(mirror_names(info.name for info in store.list(MIRRORS))), READS_LIMIT):
        try:
            held = open_mirror(repository.keyring, name, store.get(name.key))
        except ObjectMissing:  # replaced since it was listed
            continue
        except StoreError:
            raise
        except DrtoolError as error:
            audit.damaged[name.key] = error.message
        else:
            audit.head = audit.head or held.head
        audit.looked_at.append(name.key)
    return audit


def mend_copies(repository: "Repository", damaged: Mapping[TargetName, Collection[str]]) -> dict[TargetName, str]:
    """Bring every copy up to date and replace damaged mirrors. Return the reason for each target where it failed."""
    before: set[TargetName] = set()
    while True:
        failed = repository.manifest.mirror(damaged)
        if not failed or failed.keys() <= before:  # a target may need several calls, as long as each gets further
            return failed
        before = set(failed)


def is_unneeded_page(repository: "Repository", name: str) -> bool:
    """Return whether the newest head does not name this page."""
    return name.startswith(OBJECTS) and name not in {
        object_key(row.name) for row in references(repository.view.learned)
    }
