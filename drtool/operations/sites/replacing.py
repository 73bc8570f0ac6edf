"""`site replace`: another place takes a site's vote and its share, and the old one's copies are given up."""

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
    """Plan it, and carry it out unless it is a dry run.

    What is refused is refused before anything is written. Then the copies are judged again while no mover takes any away:
    `Rejected`, with the session in the way, if one goes on for long.
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
