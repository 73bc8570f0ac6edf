"""`site replace`: another place takes over a site's vote and share, and the old copies are given up."""

from drtool.events import Emit, ignore
from drtool.model import SiteName
from drtool.operations.sites.applying import carry_out
from drtool.operations.sites.change import Change
from drtool.operations.sites.planning import plan_replacement
from drtool.repository import Repository, TargetSpec
from drtool.repository.movers import movers_away


def replace_site(
    repository: Repository, old: SiteName, target: TargetSpec, *, gone_for_good: bool, dry_run: bool, emit: Emit
) -> Change:
    """Plan the replacement, and carry it out unless it is a dry run.

    Refusals come before anything is written. Then the copies are checked again under a mover session, while no other
    mover removes any: `Rejected`, naming the session in the way, if one stays open for long.
    """

    def plan(emit: Emit) -> Change:
        return plan_replacement(repository, old, target, gone_for_good=gone_for_good, dry_run=dry_run, emit=emit)

    change = plan(emit if dry_run else ignore)
    if dry_run:
        return change
    if change.changes_nothing:
        carry_out(repository, change, target, emit)
        return change
    with movers_away(repository) as session:
        change = plan(emit)
        carry_out(repository, change, target, emit, session)
    return change
