"""The record of a captured system: one JSON file in the snapshot, which a rebuilt host is compared with.

Invariants
    The same host, unchanged, gives the same bytes: no counts, measurements or dates are recorded, and everything is sorted.
    The first key, `drtool`, is `system`, and `format` is 1. A reader refuses an unknown format.
    Facts that could not be determined are listed in `lacking`: an empty list means none, never unknown.
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
"""A key of `lacking`: there are kernel settings that this user may not read."""


class Package(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One installed package."""

    manager: str
    """`dpkg`, `rpm`, `pip` or `npm`."""
    name: str
    """The name within the manager. dpkg's has `:ARCHITECTURE` if there may be several."""
    version: str
    architecture: str = ""
    manual: bool = False
    """Installed on request, not as a dependency of another package."""
    held: bool = False
    """Held at this version."""


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
    """A host, as far as words describe it. Its files are beside this record in the snapshot."""

    drtool: str = KIND
    format: int = FORMAT
    hostname: str = ""
    os: dict[str, str] = {}
    """The fields of os-release."""
    kernel: str = ""
    architecture: str = ""
    firmware: str = ""
    """`uefi` or `bios`."""
    command_line: str = ""
    """The kernel's command line."""
    packages: tuple[Package, ...] = ()
    repositories: dict[str, tuple[str, ...]] = {}
    """By file: its lines without comments. User names and passwords in URLs are left out."""
    units: dict[str, str] = {}
    """By name: `enabled`, `masked`, or `alias of X`. Names of user units begin with `user/`."""
    crontabs: tuple[str, ...] = ()
    users: tuple[User, ...] = ()
    groups: tuple[Group, ...] = ()
    sysctl: dict[str, str] = {}
    storage: Any = None
    """Block devices as listed by lsblk: sizes in bytes, file systems, UUIDs, mount points."""
    network: Any = None
    """`{addresses, routes}` as listed by ip."""
    lacking: dict[str, str] = {}
    """Facts that could not be determined, with the reasons."""

    def encoded(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2) + b"\n"


def read_system(text: bytes) -> System:
    """Parse a record. Raises FormatError."""
    try:
        system = msgspec.json.decode(text, type=System)
    except msgspec.MsgspecError as error:
        raise FormatError(f"{NAME} of the snapshot is invalid: {error}") from None
    if system.format != FORMAT:
        raise FormatError(f"{NAME} of the snapshot has the format {system.format}, but this version reads {FORMAT}")
    if system.drtool != KIND:
        raise FormatError(f"{NAME} of the snapshot is of {system.drtool}, not of a system")
    return system
