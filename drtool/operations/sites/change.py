"""A change of the voters as a value: `--dry-run` shows it, and a real run carries out the same value."""

from collections.abc import Sequence

from msgspec import Struct

from drtool.errors import UsageError
from drtool.manifest.records import Target, Voter
from drtool.manifest.switching import quorum_of
from drtool.model import SiteName, TargetName, site_of
from drtool.repository import Repository
from drtool.repository.voters import even_number


class Change(Struct, frozen=True, kw_only=True):
    """The effect of a change of the voters. `fresh`: sites that get a new register.

    For a replacement: `only_there` counts the objects that may exist only at the old site, and `below_copies` those
    that are on fewer sites than promised without it.
    """

    verb: str
    site: SiteName
    voters_before: list[SiteName]
    voters: list[SiteName]
    fresh: list[SiteName]
    new_target: TargetName | None = None
    url: str | None = None
    weight: int | None = None
    lost: list[TargetName] = []
    stays: list[TargetName] = []
    only_there: int = 0
    below_copies: int = 0
    needed: int
    tolerates: int
    advice: str | None
    dry_run: bool = False

    @property
    def changes_nothing(self) -> bool:
        return self.voters == self.voters_before and not self.fresh and not self.lost and self.new_target is None


def change_of(
    repository: Repository,
    verb: str,
    site: SiteName,
    voters: Sequence[SiteName],
    *,
    fresh: Sequence[SiteName] = (),
    lost: Sequence[TargetName] = (),
    stays: Sequence[TargetName] = (),
    new_target: TargetName | None = None,
    url: str | None = None,
    weight: int | None = None,
    only_there: int = 0,
    below_copies: int = 0,
    dry_run: bool,
) -> Change:
    needed = quorum_of(len(voters), repository.view.config.liars)
    return Change(
        verb=verb,
        site=site,
        voters_before=[voter.site for voter in repository.view.config.voters],
        voters=list(voters),
        fresh=list(fresh),
        new_target=new_target,
        url=url,
        weight=weight,
        lost=list(lost),
        stays=list(stays),
        only_there=only_there,
        below_copies=below_copies,
        needed=needed,
        tolerates=len(voters) - needed,
        advice=even_number(len(voters)),
        dry_run=dry_run,
    )


def rows_of(repository: Repository, site: SiteName) -> list[Target]:
    return [row for row in repository.view.state.targets if site_of(row.name) == site]


def known_rows(repository: Repository, site: SiteName) -> list[Target]:
    """Return the targets of a site. `UsageError` if there is no such site."""
    rows = rows_of(repository, site)
    if not rows:
        names = ", ".join(sorted({site_of(row.name) for row in repository.view.state.targets}))
        raise UsageError(
            f"there is no site {site}",
            hint=f"there are {names} (drtool target add creates a new one)",
        )
    return rows


def voter_of(repository: Repository, site: SiteName) -> Voter | None:
    return next((voter for voter in repository.view.config.voters if voter.site == site), None)
