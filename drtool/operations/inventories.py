"""The inventory that a snapshot of a database records, read back from the snapshot itself.

Invariants
    A snapshot is of a database only if it holds an inventory that says so, regardless of its source and name.
"""

import os

from drtool.manifest.records import Snapshot
from drtool.repository import Repository
from drtool.sources.inventory import NAME, Inventory, read_inventory
from drtool.trees import FileType, find_entry, read_content, read_directory

KINDS = ("sqlite", "postgresql", "mysql", "redis")
_INVENTORY_BYTES_MAX = 64 << 20


def recorded(repository: Repository, snapshot: Snapshot) -> Inventory | None:
    """Return the inventory of a snapshot of a database, or None for any other snapshot.

    Raises DrtoolError, FormatError.
    """
    here = {os.fsdecode(entry.name) for entry in read_directory(snapshot.root, repository.trees)}
    for kind in KINDS:
        if kind not in here:
            continue
        entry = find_entry(snapshot.root, f"/{kind}/{NAME}".encode(), repository.trees)
        if entry is None or entry.type != FileType.FILE or entry.size_bytes > _INVENTORY_BYTES_MAX:
            continue
        inventory = read_inventory(b"".join(map(repository.chunks, read_content(entry, repository.trees))))
        if inventory.drtool == kind:
            return inventory
    return None
