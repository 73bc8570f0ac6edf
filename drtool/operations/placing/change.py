"""A change of the targets as a value: `--dry-run` shows it, and a real run carries out the same value."""

from msgspec import Struct

from drtool.manifest.records import Target
from drtool.model import SiteName, TargetName, site_of
from drtool.repository import Repository
from drtool.repository.copying import Amount


class TargetChange(Struct, frozen=True, kw_only=True):
    """The effect of `target add|set|drain|remove`. `from_epoch` and `to_epoch` are epochs of the ring.

    `holds`: the contents of a target to be removed. `below_copies`: how many objects are on fewer sites than promised
    without it.
    """

    verb: str
    target: TargetName
    site: SiteName
    url: str
    weight: int
    state: str
    votes: bool
    from_epoch: int
    to_epoch: int
    changed: bool
    dry_run: bool
    holds: Amount | None = None
    below_copies: int = 0
    advice: list[str] = []


def change_of(
    repository: Repository,
    verb: str,
    row: Target,
    *,
    changed: bool,
    dry_run: bool,
    holds: Amount | None = None,
    below_copies: int = 0,
    advice: list[str] | None = None,
) -> TargetChange:
    """Return the change of one target, from the present ring to the next if anything is `changed`."""
    epoch = repository.view.state.ring_epoch
    return TargetChange(
        verb=verb,
        target=row.name,
        site=site_of(row.name),
        url=row.url,
        weight=row.weight,
        state=row.state,
        votes=any(voter.site == site_of(row.name) for voter in repository.view.config.voters),
        from_epoch=epoch,
        to_epoch=epoch + changed,
        changed=changed,
        dry_run=dry_run,
        holds=holds,
        below_copies=below_copies,
        advice=advice or [],
    )
