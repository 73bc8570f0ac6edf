"""What is recorded of a database when it is captured: one JSON file in the snapshot, by which a restore is judged.

Invariants
    The first key, `drtool`, is the kind of the source; `format` is 1. A reader of an unknown format refuses.
    A hash of a schema depends on what is defined, never on the order in which the server tells it.
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
    """The file in the snapshot that it comes back from."""
    schema: str | None = None
    """The file that holds its definitions as text."""
    rows: dict[str, int | None] | None = None
    """By table; None: it could not be counted, or none were."""
    schema_sha256: str | None = None
    """Over the objects that are defined; see `digest`."""
    consistent_at: str | None = None
    """When the dump's transaction began, by the server's clock, in UTC."""
    checks: dict[str, str] = {}
    """What proved the copy: `integrity_check` of SQLite."""
    size_bytes: int | None = None
    objects: dict[str, dict[str, str]] | None = None
    """From the server's catalogue: by kind and name, the owner and the rights of each object."""
    properties: dict[str, str] | None = None
    """Of the database itself: owner, rights, settings, comment, encoding."""
    unsteady: tuple[str, ...] = ()
    """Objects that came, changed or went during the dump where dump and record cannot share a moment: not compared."""
    history: dict[str, int] = {}
    """Rows of system-versioned tables, with those that are history."""
    missing: tuple[str, ...] = ()
    """What the dump lacks against the catalogue; the backup was incomplete."""


class Inventory(Struct, frozen=True, kw_only=True):
    """What a snapshot of a database source holds."""

    drtool: str
    format: int = FORMAT
    server_version: str | None = None
    client_version: str | None = None
    globals: str | None = None
    """The file with what stands outside of single databases: roles, tablespaces."""
    databases: tuple[Database, ...] = ()
    roles: dict[str, str] | None = None
    """From the catalogue: each role or user, and what it may do and belongs to."""
    grants: dict[str, tuple[str, ...]] | None = None
    """From the catalogue of MariaDB: the rights of each user and role, as statements without passwords."""
    system: dict[str, dict[str, str]] | None = None
    """From the catalogue of MariaDB: by kind and name, what belongs to the server as a whole, such as plugins."""
    warnings: tuple[str, ...] = ()
    """Lines that the dump programs printed on stderr although they succeeded."""
    missing: tuple[str, ...] = ()
    """Databases and objects of the server that are not in this snapshot, and why."""

    def encoded(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def read_inventory(text: bytes) -> Inventory:
    """Raises FormatError."""
    try:
        inventory = msgspec.json.decode(text, type=Inventory)
    except msgspec.MsgspecError as error:
        raise FormatError(f"{NAME} of the snapshot cannot be understood: {error}") from None
    if inventory.format != FORMAT:
        raise FormatError(f"{NAME} of the snapshot has the format {inventory.format}, and this version knows {FORMAT}")
    return inventory


def digest(definitions: Iterable[str]) -> str:
    """Of what is defined, in whatever order."""
    text = "\0".join(sorted(definitions))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
