"""The keys of the manifest on a site.

`manifest/acc/g0001/c000001/v-000000000042`        version 42 of the acceptor of generation 1, configuration 1
`manifest/acc/g0001/c000001/state`                 the acceptor's register where a site can compare and swap
`manifest/acc/g0001/c000001/z-sealed`              this configuration has ended (sorts after every version, so that a
                                                   listing that starts late still shows it)
`manifest/acc/g0002-<32 hex>/c000001/v-…`          after a forced recovery, whose id is part of the name, so that two
                                                   recoveries to one generation never share a register
`manifest/obj/<64 hex>`                            an immutable object: checkpoint, log page, snapshot page
`manifest/inbox/<session, 32 hex>.<counter>`       a change set that waits for the next committer
`manifest/mirror/g0001-c000001-s000000000042-<64 hex>`
                                                   a copy of the head at change 42, at a target without a register
                                                   (sorts by age, and ends with the BLAKE3 of its bytes) `keys/<id, 16
                                                   hex>`                                a key slot, which a site holds
                                                   before it accepts a head
"""

import re

from msgspec import Struct

from drtool.model import SessionId

ROOT = "manifest/"
ACCEPTORS = "manifest/acc/"
OBJECTS = "manifest/obj/"
INBOX = "manifest/inbox/"
MIRRORS = "manifest/mirror/"
SLOTS = "keys/"
MARKER = "drtool.json"
RECORD_READ_BYTES = 2 << 20
OBJECT_READ_BYTES = 512 << 20
_VERSION_DIGITS = 12
_INBOX = re.compile(r"manifest/inbox/([0-9a-f]{32})\.(0|[1-9][0-9]{0,17})")
_OBJECT = re.compile(r"manifest/obj/([0-9a-f]{64})")
_MIRROR = re.compile(r"manifest/mirror/g(\d{4})-c(\d{6})-s(\d{12})-([0-9a-f]{64})")
_ACCEPTOR = re.compile(r"manifest/acc/g(\d{4})(?:-([0-9a-f]{32}))?/c(\d{6})/")


class Life(Struct, frozen=True, order=True):
    """One configuration as encoded in names on a site: generation, number within it, id of the recovery."""

    generation: int
    number: int
    recovery: bytes = b""

    @property
    def prefix(self) -> str:
        return acceptor_prefix(self.generation, self.number, self.recovery)


def acceptor_prefix(generation: int, config_number: int, recovery: bytes = b"") -> str:
    mark = f"-{recovery.hex()}" if recovery else ""
    return f"{ACCEPTORS}g{generation:04d}{mark}/c{config_number:06d}/"


def life_of(name: str) -> Life | None:
    """Return the configuration that an acceptor's object belongs to, or None for any other name."""
    match = _ACCEPTOR.match(name)
    return Life(int(match[1]), int(match[3]), bytes.fromhex(match[2] or "")) if match else None


def version_name(prefix: str, version: int) -> str:
    return f"{prefix}v-{version:0{_VERSION_DIGITS}d}"


def state_name(prefix: str) -> str:
    return f"{prefix}state"


def sealed_name(prefix: str) -> str:
    return f"{prefix}z-sealed"


def version_of(prefix: str, name: str) -> int | None:
    """Return the version in an object's name, or None for any other name."""
    digits = name.removeprefix(f"{prefix}v-")
    plain = len(digits) == _VERSION_DIGITS and digits.isascii() and digits.isdigit()
    return int(digits) if plain and digits != name else None


def object_key(name: bytes) -> str:
    return f"{OBJECTS}{name.hex()}"


def name_in(key: str) -> bytes | None:
    """Return the hash in an object's key, or None for any other key."""
    match = _OBJECT.fullmatch(key)
    return bytes.fromhex(match[1]) if match else None


class MirrorName(Struct, frozen=True, order=True):
    """The name of a mirror, which includes its claimed version and its hash. The newest sorts last."""

    generation: int
    number: int
    sequence: int
    hash: bytes

    @property
    def version(self) -> tuple[int, int, int]:
        """Return generation, configuration and change. Two mirrors of one version are copies of one head."""
        return self.generation, self.number, self.sequence

    @property
    def key(self) -> str:
        """Return the name as a site has it."""
        version = f"g{self.generation:04d}-c{self.number:06d}-s{self.sequence:012d}"
        return f"{MIRRORS}{version}-{self.hash.hex()}"


def mirror_name_of(key: str) -> MirrorName | None:
    """Return the parts of a mirror's name, or None for any other name."""
    match = _MIRROR.fullmatch(key)
    return MirrorName(int(match[1]), int(match[2]), int(match[3]), bytes.fromhex(match[4])) if match else None


def slot_key(id_: bytes) -> str:
    return f"{SLOTS}{id_.hex()}"


def inbox_key(session: SessionId, counter: int) -> str:
    return f"{INBOX}{session.hex()}.{counter}"


def op_id_of(name: str) -> tuple[SessionId, int] | None:
    """Return the session and counter of the last change in an inbox entry, or None for any other name."""
    match = _INBOX.fullmatch(name)
    return (SessionId(bytes.fromhex(match[1])), int(match[2])) if match else None


def read_limit(name: str) -> int:
    """Return how much of an object is ever read. It is more than any valid one has, so a truncated read is never valid."""
    return OBJECT_READ_BYTES if name.startswith(OBJECTS) else RECORD_READ_BYTES


def is_catalogue(name: str) -> bool:
    """Return whether an object is the catalogue's own: neither a pack nor an index segment."""
    return name.startswith((ROOT, SLOTS)) or name == MARKER
