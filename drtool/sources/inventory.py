"""The record of a captured database: one JSON file in the snapshot, which restores are compared with.

Invariants
    The first key, `drtool`, is the kind of the source, and `format` is 1. A reader refuses an unknown format.
    The hash of a schema depends on the definitions, never on the order in which the server lists them.
"""

import hashlib
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from drtool.errors import FormatError

FORMAT = 1
NAME = "inventory.json"


class Database(Struct, frozen=True, kw_only=True):
    """One database as it was captured."""

    name: str
    dump: str
    """The file in the snapshot that it is restored from."""
    schema: str | None = None
    """The file with its definitions as text."""
    rows: dict[str, int | None] | None = None
    """By table. None: not counted, or counting was impossible."""
    schema_sha256: str | None = None
    """The hash of the defined objects; see `digest`."""
    consistent_at: str | None = None
    """The start of the dump's transaction, by the server's clock, in UTC."""
    checks: dict[str, str] = {}
    """The checks of the copy, such as SQLite's `integrity_check`."""
    size_bytes: int | None = None
    objects: dict[str, dict[str, str]] | None = None
    """From the server's catalogue: by kind and name, the owner and the rights of each object."""
    properties: dict[str, str] | None = None
    """The properties of the database itself: owner, rights, settings, comment, encoding."""
    unsteady: tuple[str, ...] = ()
    """Objects that appeared, changed or vanished during the dump, if dump and record cannot be simultaneous. Not compared."""
    history: dict[str, int] = {}
    """The rows of system-versioned tables, including history."""
    missing: tuple[str, ...] = ()
    """Objects of the catalogue that are missing from the dump; the backup was incomplete."""


class Inventory(Struct, frozen=True, kw_only=True):
    """The contents of a snapshot of a database source."""

    drtool: str
    format: int = FORMAT
    server_version: str | None = None
    client_version: str | None = None
    globals: str | None = None
    """The file with objects outside single databases: roles, tablespaces."""
    databases: tuple[Database, ...] = ()
    roles: dict[str, str] | None = None
    """From the catalogue: each role or user, with its rights and memberships."""
    grants: dict[str, tuple[str, ...]] | None = None
    """From MariaDB's catalogue: the rights of each user and role, as statements without passwords."""
    system: dict[str, dict[str, str]] | None = None
    """From MariaDB's catalogue: by kind and name, objects of the whole server, such as plugins."""
    warnings: tuple[str, ...] = ()
    """Lines that successful dump programs printed on stderr."""
    missing: tuple[str, ...] = ()
    """Databases and objects of the server that are not in this snapshot, with the reasons."""

    def encoded(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def read_inventory(text: bytes) -> Inventory:
    """Parse an inventory. Raises FormatError."""
    try:
        inventory = msgspec.json.decode(text, type=Inventory)
    except msgspec.MsgspecError as error:
        raise FormatError(f"{NAME} of the snapshot is invalid: {error}") from None
    if inventory.format != FORMAT:
        raise FormatError(f"{NAME} of the snapshot has the format {inventory.format}, but this version reads {FORMAT}")
    return inventory


def digest(definitions: Iterable[str]) -> str:
    """Return the hash of definitions, in any order."""
    text = "\0".join(sorted(definitions))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
