"""What is recorded of a host when its system is captured: one JSON file in the snapshot, by which a rebuilt one is judged.

Invariants
    The same host, unchanged, gives the same bytes: nothing that counts, measures or dates is recorded, and all is sorted.
    The first key, `drtool`, is `system`; `format` is 1. A reader of an unknown format refuses.
    What could not be found out is named in `lacking`: an empty list means none, never unknown.
"""

from typing import Any

import msgspec
from msgspec import Struct

from drtool.errors import FormatError
from drtool.sources.inventory import FORMAT, NAME

KIND = "system"
INVENTORY = f"/{KIND}/{NAME}".encode()
INVENTORY_BYTES_MAX = 64 << 20
SETTINGS_OF_ROOT = "settings of root"
"""In `lacking`: there are kernel settings that this user may not read."""


class Package(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One installed package."""

    manager: str
    """`dpkg`, `rpm`, `pip` or `npm`."""
    name: str
    """As the manager tells it apart: dpkg's has `:ARCHITECTURE` where there may be several."""
    version: str
    architecture: str = ""
    manual: bool = False
    """Somebody asked for it; it is no other package's dependency."""
    held: bool = False
    """It stays at this version."""


class User(Struct, frozen=True, kw_only=True):
    name: str
    uid: int
    gid: int
    home: str
    shell: str
    comment: str = ""


class Group(Struct, frozen=True, kw_only=True):
    name: str
    gid: int
    members: tuple[str, ...] = ()


class System(Struct, frozen=True, kw_only=True):
    """A host, as far as it can be told in words; the files themselves lie beside this in the snapshot."""

    drtool: str = KIND
    format: int = FORMAT
    hostname: str = ""
    os: dict[str, str] = {}
    """Of os-release."""
    kernel: str = ""
    architecture: str = ""
    firmware: str = ""
    """`uefi` or `bios`."""
    command_line: str = ""
    """The kernel's."""
    packages: tuple[Package, ...] = ()
    repositories: dict[str, tuple[str, ...]] = {}
    """By file: its lines without comments; user names and passwords in URLs are left out."""
    units: dict[str, str] = {}
    """By name: `enabled`, `masked`, or `alias of X`; those of user managers begin with `user/`."""
    crontabs: tuple[str, ...] = ()
    users: tuple[User, ...] = ()
    groups: tuple[Group, ...] = ()
    sysctl: dict[str, str] = {}
    storage: Any = None
    """Block devices as lsblk has them: sizes in bytes, file systems, UUIDs, where they are mounted."""
    network: Any = None
    """`{addresses, routes}` as ip has them."""
    lacking: dict[str, str] = {}
    """What could not be found out, and why."""

    def encoded(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2) + b"\n"


def read_system(text: bytes) -> System:
    """Raises FormatError."""
    try:
        system = msgspec.json.decode(text, type=System)
    except msgspec.MsgspecError as error:
        raise FormatError(f"{NAME} of the snapshot cannot be understood: {error}") from None
    if system.format != FORMAT:
        raise FormatError(f"{NAME} of the snapshot has the format {system.format}, and this version knows {FORMAT}")
    if system.drtool != KIND:
        raise FormatError(f"{NAME} of the snapshot is of {system.drtool}, and not of a system")
    return system
