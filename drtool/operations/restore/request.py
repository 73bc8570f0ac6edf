"""The request and the result of `restore`."""

from typing import Literal

from msgspec import Struct

from drtool.manifest.records import Snapshot
from drtool.sources.filesystem import OwnerIds

Overwrite = Literal["always", "if-changed", "never"]


class RestoreRequest(Struct, frozen=True, kw_only=True):
    snapshot: Snapshot
    path: bytes | None = None
    """Puts the contents of this path into `to`. None recreates the absolute paths below `to`."""
    to: bytes
    in_place: bool = False
    """`to` is the original place: no symlink is followed on the way there, except those that were there then."""
    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    overwrite: Overwrite | None = None
    delete: bool = False
    """Names that the snapshot does not have are removed, within the selection. A non-empty directory may be replaced.
    """
    numeric_owners: bool = False
    map_users: dict[str, int] = {}
    """Owner in the snapshot, by name or number → its number on this host."""
    map_groups: dict[str, int] = {}
    from_sites: tuple[str, ...] = ()
    dry_run: bool = False
    names_items: bool = False
    """Emit an `item_changed` for each item that is new, changed or removed."""
    workers: int = 2

    @property
    def replacing(self) -> Overwrite | None:
        """Return what happens to a taken name, or None if the destination was empty, so that none can be taken."""
        return self.overwrite or ("always" if self.delete else None)

    @property
    def owners(self) -> OwnerIds:
        return OwnerIds(numeric_ids=self.numeric_owners, users=self.map_users, groups=self.map_groups)


class RestoreError(Struct, frozen=True):
    """`restored`: the item exists with its content, and only the attributes in `message` are missing.

    `captured` is false if the backup could not read these attributes, so that no restore has them.
    """

    path: str
    message: str
    restored: bool = False
    captured: bool = True


class RestoreResult(Struct, frozen=True, kw_only=True):
    """`files` and `bytes`: items that now match the snapshot. `written_bytes`: what had to be written for that.

    `attributes_not_set` also counts labels that this host's policy refused, which are not errors.
    """

    snapshot: str
    files: int
    bytes: int
    written_bytes: int
    skipped: int
    deleted: int
    errors: list[RestoreError]
    wall_seconds: float
    attributes_not_set: int = 0
    tentative: bool = False
