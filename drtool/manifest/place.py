"""An acceptor seen from here: where it is, whose memory it must be, what was found there, and what ailed it.

Invariants
    A record counts only if this repository's key made it for this very acceptor: site, incarnation, configuration.
    A site that has forgotten something which this host saw there went back in time, and is marked so.
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
    """Where an acceptor is, whose memory it must be, what this host last saw of it, and how its register moves on."""

    site: SiteName
    prefix: str
    chain: Chain
    keys: Keys
    seen: SiteWitness | None = None
    mode: Mode = "chain"

    def encode(self, record: Record) -> bytes:
        return encode_record(record, lambda data: self.keys.mac(MAC_PURPOSE, data))

    def decode(self, data: bytes) -> Record:
        """The record; `FormatError` unless it is authentic and of this acceptor."""
        record = decode_record(data, lambda body, tag: self.keys.mac_matches(MAC_PURPOSE, body, tag))
        if record.chain != self.chain:
            raise FormatError(f"a record of another acceptor ({record.chain.site}) lies at {self.site}")
        return record

    def is_built_on(self, data: bytes, before_hash: bytes) -> bool:
        """Whether `data` is this acceptor's next version after the one with that hash."""
        try:
            return self.decode(data).prev == before_hash
        except FormatError:
            return False


class SiteView(msgspec.Struct, frozen=True):
    """An acceptor's memory as it was at some moment of our reading. `rolled_back`: this host saw a newer one before.

    `tag`: what a swap must name to replace it; empty in chain mode, and where it has been replaced already.
    """

    record: Record
    record_hash: bytes
    rolled_back: bool = False
    tag: str = ""

    def witness(self) -> SiteWitness:
        record = self.record
        return SiteWitness(record.chain.incarnation, record.version, record.promised, self.record_hash)


class Written(msgspec.Struct, frozen=True):
    """Our record took its place; `tag` as in `SiteView`."""

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
    """An authentic record, compared with what this host saw at the site before."""
    return SiteView(record, own_hash, went_back(place.seen, record, own_hash), tag)
