"""The set of targets, and its changes, as functions from rows of the manifest to rows.

Invariants
    Promised copies keep their places: targets that accept new copies stay on as many sites as there are copies.
    A target that holds a voter's register stays.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from drtool.errors import Refused, UsageError
from drtool.manifest.records import Config, Target
from drtool.model import SiteName, TargetName, site_of

Rows = tuple[Target, ...]


def row_named(rows: Sequence[Target], name: TargetName) -> Target:
    """Return the target of that name. `UsageError` lists the existing ones."""
    for row in rows:
        if row.name == name:
            return row
    names = ", ".join(row.name for row in rows)
    raise UsageError(f"there is no target {name}", hint=f"there are {names}")


def storing_row(rows: Sequence[Target], name: TargetName) -> Target:
    """Return the same, for a target that can hold copies."""
    row = row_named(rows, name)
    if row.votes_only:
        raise UsageError(f"{name} only votes: it holds no copies and has no part in the ring")
    if row.state == "lost":
        raise UsageError(
            f"{name} is lost: it was given up",
            hint=f"drtool target remove {name} forgets it, and target add can reuse its name",
        )
    return row


def with_row(rows: Rows, row: Target) -> Rows:
    """Return the rows with one added, or in place of the one of its name."""
    return (*(other for other in rows if other.name != row.name), row)


def reweighted(rows: Rows, name: TargetName, weight: int) -> Rows:
    return with_row(rows, replace(storing_row(rows, name), weight=weight))


def drained(rows: Rows, name: TargetName, copies: int) -> Rows:
    """Return the rows with a draining target: it gets nothing new, and its objects are desired elsewhere."""
    after = with_row(rows, replace(storing_row(rows, name), state="draining"))
    _check_room(rows, after, name, copies)
    return after


def without(rows: Rows, name: TargetName, copies: int) -> Rows:
    """Return the rows without the target. The caller has checked whether anything is lost with it."""
    row = row_named(rows, name)
    after = tuple(other for other in rows if other.name != name)
    if row.state == "active" and not row.votes_only:
        _check_room(rows, after, name, copies)
    return after


def check_register(config: Config, name: TargetName) -> None:
    """Raise `Refused` if a voter's register is there."""
    site = next((voter.site for voter in config.voters if voter.target == name), None)
    if site is not None:
        raise Refused(
            f"{name} holds the register through which site {site} votes",
            hint=f"remove the vote first (drtool site remove {site}), "
            f"or replace the site (drtool site replace {site} NEW=URL)",
        )


def _check_room(before: Rows, after: Rows, name: TargetName, copies: int) -> None:
    sites = len(_taking(after))
    if sites < copies and sites < len(_taking(before)):
        raise Refused(
            f"without {name}, {sites} site{'' if sites == 1 else 's'} would be left for {copies} copies of everything",
            hint="add a target on another site first: drtool target add SITE URL",
        )


def _taking(rows: Rows) -> set[SiteName]:
    """Return the sites on which new objects can be placed."""
    return {site_of(row.name) for row in rows if row.state == "active" and not row.votes_only}
