"""The register of every voter as its site alone presents it: every record is read, and this host's memory is not used.

Invariants
    Nothing is written. A record counts as whole only if this repository's key made it for this very register.
    This host's memory only answers whether the register went back in time.
"""

from collections.abc import Mapping, Sequence

import msgspec

from drtool.errors import DrtoolError, FormatError
from drtool.manifest.acceptor import Place, SiteView, Trouble, read_site
from drtool.manifest.audit import Newest
from drtool.manifest.head import Head, open_head
from drtool.manifest.names import sealed_name, state_name, version_name, version_of
from drtool.manifest.ports import Failed, Gather, List, Read, Talk, never
from drtool.manifest.witness import went_back
from drtool.model import SiteName


class RegisterFault(msgspec.Struct, frozen=True):
    """A missing or faulty record. `name` is the name of its object."""

    name: str
    reason: str
    missing: bool = False


class RegisterReport(msgspec.Struct, frozen=True):
    """One voter's register. `records`: the objects that were read. `head`: the accepted head, or None if unreadable.

    `silent`: why the site could not be read. Its register is then unknown, not faulty.
    """

    records: tuple[str, ...] = ()
    head: Head | None = None
    faults: tuple[RegisterFault, ...] = ()
    silent: str = ""


def check_registers(newest: Newest) -> Talk[dict[SiteName, RegisterReport]]:
    """Read every register of the current configuration."""
    context, _ = yield from newest()
    replies: Mapping[SiteName, RegisterReport | Failed] = yield Gather(
        {site: _check(place) for site, place in context.places.items()}, never
    )
    return {
        site: RegisterReport(silent=reply.reason) if isinstance(reply, Failed) else reply
        for site, reply in replies.items()
    }


def _check(place: Place) -> Talk[RegisterReport]:
    names = yield List(place.site, place.prefix)
    if isinstance(names, Failed):
        return RegisterReport(silent=names.reason)
    reading = yield from read_site(msgspec.structs.replace(place, seen=None))
    newest = _newest_name(place, names)
    if isinstance(reading, Trouble):
        return _troubled(place, newest, reading)
    faults = yield from _older(place, names, newest)
    head, fault = _head_in(place, newest, reading)
    records = tuple(name for name in names if _is_record(place, name))
    return RegisterReport(records, head, (*faults, *([fault] if fault else ())))


def _troubled(place: Place, newest: str, trouble: Trouble) -> RegisterReport:
    if trouble.kind in ("unreachable", "unknown"):
        return RegisterReport(silent=trouble.reason)
    name = sealed_name(place.prefix) if trouble.kind == "sealed" else newest
    fault = RegisterFault(name, f"the register does not count: {trouble.reason}", trouble.kind == "absent")
    return RegisterReport((name,), None, (fault,))


def _head_in(place: Place, newest: str, view: SiteView) -> tuple[Head | None, RegisterFault | None]:
    try:
        head = open_head(place.keys, view.record.value)
    except DrtoolError as error:
        return None, RegisterFault(newest, error.message)
    if went_back(place.seen, view.record, view.record_hash):
        return head, RegisterFault(newest, "it went back in time: this host saw a newer record there")
    return head, None


def _older(place: Place, names: Sequence[str], newest: str) -> Talk[list[RegisterFault]]:
    """Return the faults of older records of a chain: those that this repository's key did not make for this register."""
    faults: list[RegisterFault] = []
    for name in names:
        version = version_of(place.prefix, name) if place.mode == "chain" else None
        if version is None or name == newest:
            continue
        data = yield Read(place.site, name)
        if isinstance(data, bytes) and (reason := _why_bad(place, version, data)):
            faults.append(RegisterFault(name, reason))
    return faults


def _why_bad(place: Place, version: int, data: bytes) -> str:
    try:
        record = place.decode(data)
    except FormatError as error:
        return error.message
    return "" if record.version == version else f"it holds version {record.version}"


def _newest_name(place: Place, names: Sequence[str]) -> str:
    if place.mode == "cas":
        return state_name(place.prefix)
    versions = [version for name in names if (version := version_of(place.prefix, name)) is not None]
    return version_name(place.prefix, max(versions, default=1))


def _is_record(place: Place, name: str) -> bool:
    if place.mode == "cas":
        return name == state_name(place.prefix)
    return version_of(place.prefix, name) is not None
