"""What this host last saw confirmed: the means to notice that a site, or a quorum, went back in time.

Invariants
    A witness only moves forward; a new configuration begins with the versions of its own registers.
    An alarm needs a fault: a site whose record is older than the one seen there, or a head that is not a descendant.
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
        """Which of two configurations came later: the greater one."""
        return self.generation, self.config_number

    def merged(self, newer: "Witness") -> "Witness":
        """`newer` where it is newer, this one elsewhere."""
        if newer.place > self.place:
            return newer
        if newer.place < self.place or _recovery(newer) != _recovery(self):
            return self  # a run that began before the voters changed: its versions are of other registers
        head = newer if newer.sequence >= self.sequence else self
        return msgspec.structs.replace(head, sites=self.sites | newer.sites, config=head.config or self.config)


def _recovery(witness: Witness) -> bytes:
    return witness.config.recovery if witness.config is not None else b""


class Outstanding(msgspec.Struct, frozen=True):
    """Changes that were sent and not yet known to be in the manifest; all of one session."""

    changes: tuple[Change, ...]

    @property
    def name(self) -> str:
        """What identifies it in the journal: writer and counter."""
        first = self.changes[0]
        return f"{first.session.hex()}.{first.counter}"


class Made(msgspec.Struct, frozen=True):
    """Changes of this host that a quorum confirmed, and where: they come back if a forced recovery gave them up."""

    generation: int
    sequence: int
    changes: tuple[Change, ...]

    @property
    def name(self) -> str:
        """What identifies it in the journal: sorts by generation and sequence."""
        first = self.changes[0]
        return f"{self.generation:04d}-{self.sequence:012d}-{first.session.hex()}.{first.counter}"


def went_back(seen: SiteWitness | None, record: Record, record_hash: bytes) -> bool:
    """Whether a site's newest record is older than the one that this host saw there, or takes or denies its place.

    That alone is no proof: a rolled-back site that has since accepted a ballot above all that it had forgotten is whole
    again. A promise is not enough for that: it would report an acceptance from before as the newest.
    """
    if seen is None or seen.incarnation != record.chain.incarnation:
        return False
    if not 0 <= record.version - seen.version <= 1:
        forgot = record.version < seen.version
    else:  # of this version, or of the one that it was built on, this host knows the hash
        known = record_hash if record.version == seen.version else record.prev
        forgot = seen.record_hash not in {b"", known}
    return forgot and record.accepted <= seen.promised
