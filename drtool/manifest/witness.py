"""What this host last saw confirmed, used to detect that a site, or a quorum, went back in time.

Invariants
    A witness only moves forward. A new configuration begins with the versions of its own registers.
    There is no alarm without a fault: a site whose record is older than the one seen there, or a head that is not a
    descendant.
"""

import msgspec

from drtool.manifest.ops import Change
from drtool.manifest.records import Config
from drtool.model import SiteName
from drtool.paxos import NO_BALLOT, Ballot, Record


class SiteWitness(msgspec.Struct, frozen=True, array_like=True):
    """The newest record of one site that this host saw effective."""

    incarnation: bytes
    version: int
    promised: Ballot = NO_BALLOT
    record_hash: bytes = b""


class Witness(msgspec.Struct, frozen=True):
    """The newest head that was confirmed chosen, and each site's newest record."""

    generation: int = 1
    config_number: int = 1
    sequence: int = 0
    digest: bytes = b""
    sites: dict[SiteName, SiteWitness] = {}
    config: Config | None = None

    @property
    def place(self) -> tuple[int, int]:
        """Return the order of configurations: the later one is greater."""
        return self.generation, self.config_number

    def merged(self, newer: "Witness") -> "Witness":
        """Return `newer` where it is newer, and this one elsewhere."""
        if newer.place > self.place:
            return newer
        if newer.place < self.place or _recovery(newer) != _recovery(self):
            return self  # a run that began before the voters changed has versions of other registers
        head = newer if newer.sequence >= self.sequence else self
        return msgspec.structs.replace(head, sites=self.sites | newer.sites, config=head.config or self.config)


def _recovery(witness: Witness) -> bytes:
    return witness.config.recovery if witness.config is not None else b""


class Outstanding(msgspec.Struct, frozen=True):
    """Changes that were sent but are not yet known to be in the manifest. All are of one session."""

    changes: tuple[Change, ...]

    @property
    def name(self) -> str:
        """Return the key in the journal: writer and counter."""
        first = self.changes[0]
        return f"{first.session.hex()}.{first.counter}"


class Made(msgspec.Struct, frozen=True):
    """Changes of this host that a quorum confirmed, and where. They are added again if a forced recovery gave them up."""

    generation: int
    sequence: int
    changes: tuple[Change, ...]

    @property
    def name(self) -> str:
        """Return the key in the journal, which sorts by generation and sequence."""
        first = self.changes[0]
        return f"{self.generation:04d}-{self.sequence:012d}-{first.session.hex()}.{first.counter}"


def went_back(seen: SiteWitness | None, record: Record, record_hash: bytes) -> bool:
    """Return whether a site's newest record is older than the one that this host saw there, or contradicts it.

    That alone is no proof: a rolled-back site that has since accepted a ballot above all that it had lost is whole
    again. A promise does not suffice, since the site would report an older acceptance as the newest.
    """
    if seen is None or seen.incarnation != record.chain.incarnation:
        return False
    if not 0 <= record.version - seen.version <= 1:
        forgot = record.version < seen.version
    else:  # this host has the hash of this version or of its predecessor
        known = record_hash if record.version == seen.version else record.prev
        forgot = seen.record_hash not in {b"", known}
    return forgot and record.accepted <= seen.promised
