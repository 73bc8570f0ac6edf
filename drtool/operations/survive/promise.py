"""The promise of the copies in words: how many sites restore everything.

Assessed in the same way as losses in `survive`.
"""

from collections.abc import Iterable

from msgspec import Struct

from drtool.manifest.records import Target
from drtool.model import SiteName, site_of
from drtool.operations.survive.judging import sites_that_suffice
from drtool.repository import TargetSpec
from drtool.ring import METADATA_SITES


class Promise(Struct, frozen=True, kw_only=True):
    """`needed`: any so many of the storing `sites` restore everything once every copy is made, or None if all do not."""

    sites: int
    needed: int | None

    def __str__(self) -> str:
        if self.needed is None:
            return "nothing can be restored without a site that keeps key slots"
        if self.sites == 1:
            return "the only site restores everything, and its loss is the loss of everything"
        if self.needed == 1:
            return f"any one of the {self.sites} sites that store restores everything"
        if self.needed == self.sites:
            return f"all {self.sites} sites are needed to restore everything, so the loss of any one loses data"
        return f"any {self.needed} of the {self.sites} sites that store restore everything; fewer restore a part"


def promise_of(rows: Iterable[Target], copies: int) -> Promise:
    """Return the promise for the catalogue's targets. Those that only vote, drain or are lost do not count."""
    active = [row for row in rows if row.state == "active" and not row.votes_only]
    slots = {site_of(row.name) for row in active if row.keys}
    return _promise({site_of(row.name) for row in active}, slots, copies)


def promise_of_new(specs: Iterable[TargetSpec], copies: int) -> Promise:
    """Return the promise for a repository to be created on these targets."""
    storing = [spec for spec in specs if spec.vote != "only"]
    slots = {spec.site for spec in storing if spec.keys}
    return _promise({spec.site for spec in storing}, slots, copies)


def _promise(storing: set[SiteName], opening: set[SiteName], copies: int) -> Promise:
    segments = 1 if copies == 1 else min(len(storing), METADATA_SITES)
    return Promise(sites=len(storing), needed=sites_that_suffice(storing, opening, copies, segments))
