"""The keys of the manifest on a site.

`manifest/acc/g0001/c000001/v-000000000042`   version 42 of the acceptor of generation 1, configuration 1
`manifest/acc/g0001/c000001/state`            the acceptor's memory where a site can compare and swap
`manifest/acc/g0001/c000001/z-sealed`         this configuration has ended; sorts after every version, so that a listing
                                              that starts late still shows it
`manifest/obj/<64 hex>`                       an immutable object: checkpoint, log page, snapshot page
"""

ROOT = "manifest/"
OBJECTS = "manifest/obj/"
_VERSION_DIGITS = 12


def acceptor_prefix(generation: int, config_number: int) -> str:
    return f"{ROOT}acc/g{generation:04d}/c{config_number:06d}/"


def version_name(prefix: str, version: int) -> str:
    return f"{prefix}v-{version:0{_VERSION_DIGITS}d}"


def state_name(prefix: str) -> str:
    return f"{prefix}state"


def sealed_name(prefix: str) -> str:
    return f"{prefix}z-sealed"


def version_of(prefix: str, name: str) -> int | None:
    """The version in an object's name; None for any other name."""
    digits = name.removeprefix(f"{prefix}v-")
    plain = len(digits) == _VERSION_DIGITS and digits.isascii() and digits.isdigit()
    return int(digits) if plain and digits != name else None


def object_key(name: bytes) -> str:
    return f"{OBJECTS}{name.hex()}"
