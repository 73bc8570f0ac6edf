"""An acceptor as seen from this host: its place and identity, its last known record, and its troubles.

Invariants
    A record counts only if this repository's key made it for this very acceptor: site, incarnation, configuration.
    A site whose record is older than one that this host saw there went back in time, and is marked so.
"""

from typing import Literal, TypeAlias

import msgspec

from drtool.errors import FormatError
from drtool.manifest.ports import Failed, Keys
from drtool.manifest.records import Mode
from drtool.manifest.witness import SiteWitness, went_back
from drtool.model import SiteName
from drtool.paxos import Chain, Preempted, Record, decode_record, encode_record

MAC_PURPOSE = "acceptor"


class Place(msgspec.Struct, frozen=True):
    """An acceptor's location, identity and update mode, and its last record that this host saw."""

    site: SiteName
    prefix: str
    chain: Chain
    keys: Keys
    seen: SiteWitness | None = None
    mode: Mode = "chain"

    def encode(self, record: Record) -> bytes:
        return encode_record(record, lambda data: self.keys.mac(MAC_PURPOSE, data))

    def decode(self, data: bytes) -> Record:
        """Return the record. `FormatError` unless it is authentic and of this acceptor."""
        record = decode_record(data, lambda body, tag: self.keys.mac_matches(MAC_PURPOSE, body, tag))
        if record.chain != self.chain:
            raise FormatError(f"a record of another acceptor ({record.chain.site}) lies at {self.site}")
        return record

    def is_built_on(self, data: bytes, before_hash: bytes) -> bool:
        """Return whether `data` is this acceptor's next version after the one with that hash."""
        try:
            return self.decode(data).prev == before_hash
        except FormatError:
            return False


class SiteView(msgspec.Struct, frozen=True):
    """An acceptor's record at some moment of the read. `rolled_back`: this host saw a newer one before.

    `tag`: the tag that a swap must name to replace it. Empty in chain mode, and if it has been replaced already.
    """

    record: Record
    record_hash: bytes
    rolled_back: bool = False
    tag: str = ""

    def witness(self) -> SiteWitness:
        record = self.record
        return SiteWitness(record.chain.incarnation, record.version, record.promised, self.record_hash)


class Written(msgspec.Struct, frozen=True):
    """Our record was written. `tag` as in `SiteView`."""

    tag: str = ""


class Trouble(msgspec.Struct, frozen=True):
    """Why a site does not count."""

    kind: Literal["unreachable", "absent", "broken", "sealed", "rolled-back", "unknown"]
    reason: str
    definite: bool = True


Reading: TypeAlias = SiteView | Trouble
Changing: TypeAlias = SiteView | Preempted | Trouble
Writing: TypeAlias = Written | Trouble | None
"""None: another record was first, so the rule must be applied to that one."""


def unreachable(failed: Failed) -> Trouble:
    return Trouble("unreachable", failed.reason, failed.definite)


def absent() -> Trouble:
    return Trouble("absent", "it holds no acceptor of this configuration")


def sealed() -> Trouble:
    return Trouble("sealed", "its configuration has been replaced by a newer one")


def view_of(place: Place, record: Record, own_hash: bytes, tag: str = "") -> SiteView:
    """Return an authentic record, compared with the one that this host saw at the site before."""
    return SiteView(record, own_hash, went_back(place.seen, record, own_hash), tag)
