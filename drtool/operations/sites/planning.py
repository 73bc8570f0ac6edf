"""Plans of `site add`, `site remove` and `site replace`: their effect, and the reasons to refuse them.

Invariants
    The last voter is never removed, and no change is started that leaves voters without a quorum.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from drtool.config.urls import NO_ACCESS, Access
from drtool.errors import DrtoolError, Refused, UsageError
from drtool.events import Emit, Stage, Warned, ignore
from drtool.manifest.records import Target
from drtool.manifest.switching import quorum_of
from drtool.model import SiteName, TargetName, counted
from drtool.operations.sites.change import Change, change_of, known_rows, rows_of, voter_of
from drtool.repository import Repository, TargetSpec
from drtool.repository.admitting import look_at_place
from drtool.repository.holdings import Holdings, holdings
from drtool.repository.readiness import medium_mismatch
from drtool.repository.trials import tried_vote
from drtool.repository.voters import VOTERS_MAX, why_no_vote

ABLE_PLACE = "choose a directory on a local file system, or another server"


def plan_addition(repository: Repository, site: SiteName, *, dry_run: bool, emit: Emit = ignore) -> Change:
    """Plan a vote for a storing site, or a new incarnation of a register that is lost or damaged."""
    known_rows(repository, site)
    voters = repository.view.config.voters
    fresh = [site] if voter_of(repository, site) is None or _is_unsound(repository, site) else []
    if voter_of(repository, site) is None:
        emit(Stage(name="testing the target"))
        register_place(repository, site, emit)
        _check_room(repository)
    after = sorted({voter.site for voter in voters} | {site})
    return change_of(repository, "add", site, after, fresh=fresh, dry_run=dry_run)


def plan_arbiter(repository: Repository, target: TargetSpec, *, dry_run: bool, emit: Emit = ignore) -> Change:
    """Plan a new site that only votes, at an empty directory."""
    if any(row.state != "lost" for row in rows_of(repository, target.site)):
        raise UsageError(
            f"site {target.site} already exists",
            hint="name the arbiter's own site: drtool site add NAME --arbiter URL",
        )
    _check_room(repository)
    look_at_place(repository, target)
    emit(Stage(name="testing the target"))
    reason = why_no_vote(target, tried_vote(target, emit))
    if reason is not None:
        raise UsageError(f"{target.url} cannot vote: {reason}", hint=ABLE_PLACE)
    after = sorted([*(voter.site for voter in repository.view.config.voters), target.site])
    return change_of(
        repository,
        "add",
        target.site,
        after,
        fresh=[target.site],
        new_target=target.name,
        url=target.url,
        weight=0,
        dry_run=dry_run,
    )


def _check_room(repository: Repository) -> None:
    if len(repository.view.config.voters) >= VOTERS_MAX:
        raise UsageError(
            f"{VOTERS_MAX} sites vote already, and more would make commits slower without adding safety",
            hint="drtool site remove SITE first",
        )


def plan_removal(repository: Repository, site: SiteName, *, dry_run: bool) -> Change:
    """Plan a site without a vote. Its data and its place in the ring remain. An arbiter's place is given up."""
    known_rows(repository, site)
    voters = repository.view.config.voters
    if voter_of(repository, site) is None:
        names = ", ".join(voter.site for voter in voters)
        raise UsageError(f"site {site} does not vote", hint=f"the voters are {names}")
    rest = [voter.site for voter in voters if voter.site != site]
    _check_rest(repository, site, rest)
    rows = [row for row in rows_of(repository, site) if row.state != "lost"]
    return change_of(
        repository,
        "remove",
        site,
        rest,
        lost=[row.name for row in rows if row.votes_only],
        stays=[row.name for row in rows if not row.votes_only],
        dry_run=dry_run,
    )


def plan_replacement(
    repository: Repository, old: SiteName, target: TargetSpec, *, gone_for_good: bool, dry_run: bool, emit: Emit
) -> Change:
    """Plan the replacement of all targets of `old`, and of its vote if it has one, by `target`, on either site's name.

    `Refused` if `old` has, or may have, the only copy of anything, unless it is `gone_for_good`.
    """
    rows = known_rows(repository, old)
    if _is_replaced(repository, old, target):
        voters = [voter.site for voter in repository.view.config.voters]
        fresh = [target.site] if target.site in voters and _is_unsound(repository, target.site) else []
        return change_of(repository, "replace", old, voters, fresh=fresh, url=target.url, dry_run=dry_run)
    _check_name_is_free(repository, old, target)
    voter = voter_of(repository, old)
    spec = successor(rows, target)
    look_at_place(repository, spec)
    if voter is not None:
        reason = why_no_vote(spec, tried_vote(spec, emit))
        if reason is not None:
            raise UsageError(
                f"{target.url} cannot take the vote of {old}: {reason}",
                hint=ABLE_PLACE,
            )
        if target.site == old:
            _check_others_decide(repository, old)
    given_up = [row.name for row in rows if row.state != "lost" and not row.votes_only]
    held = _held_there(repository, old, given_up, gone_for_good=gone_for_good, emit=emit)
    after = sorted(target.site if voter_.site == old else voter_.site for voter_ in repository.view.config.voters)
    return change_of(
        repository,
        "replace",
        old,
        after,
        fresh=[target.site] if voter is not None else [],
        lost=[row.name for row in rows if row.state != "lost" and row.name != target.name],
        new_target=target.name,
        url=spec.url,
        weight=0 if spec.vote == "only" else spec.weight,
        only_there=held.only.objects,
        below_copies=held.below,
        dry_run=dry_run,
    )


def _held_there(
    repository: Repository, site: SiteName, names: Sequence[TargetName], *, gone_for_good: bool, emit: Emit
) -> Holdings:
    """Return what the old targets hold.

    `Refused` if some of it may be nowhere else, or a warning if they are gone for good.
    """
    if not names:
        return Holdings()
    emit(Stage(name="listing"))
    try:
        held = holdings(repository, names)
    except Refused as error:
        if not gone_for_good:
            raise
        emit(Warned(message=f"the data that only {site} had cannot be determined: {error.message}"))
        return Holdings()
    if held.only.objects and gone_for_good:
        emit(
            Warned(
                message=f"{counted(held.only.objects, 'object')} may have been only on {site}: "
                "drtool verify lists the missing ones"
            )
        )
    elif held.only.objects:
        raise _only_there(repository, site, names, held)
    return held


def _only_there(repository: Repository, site: SiteName, names: Sequence[TargetName], held: Holdings) -> Refused:
    what = f"{counted(held.only.objects, 'object')} ({held.only.bytes} bytes)"
    if not all(map(repository.targets.reachable, names)):
        return Refused(
            f"{site} cannot be reached, and may have the only copy of {what}, so nothing was changed",
            hint="bring it back, or add --gone to give up the site and those copies for good",
        )
    several = repository.view.state.policy.copies > 1
    emptied = f"drtool target add NEW URL && drtool target drain {names[0]} && drtool rebalance"
    return Refused(
        f"{site} has the only good copy of {what}, so nothing was changed",
        hint=f"{'drtool repair' if several else emptied} copies them elsewhere; then repeat the command, or add --gone to"
        " give them up",
    )


def successor(rows: Sequence[Target], target: TargetSpec) -> TargetSpec:
    """Return the new target with the inherited weight of all that it replaces, and whether it only votes or has slots."""
    present = [row for row in rows if row.state != "lost"] or list(rows)
    if not present:
        return target
    return replace(
        target,
        weight=max(1, sum(row.weight for row in present)),
        vote="only" if all(row.votes_only for row in present) else target.vote,
        keys=any(row.keys for row in present),
    )


def place_for(
    repository: Repository,
    old: SiteName,
    site: SiteName,
    name: str | None,
    url: str,
    access: Access = NO_ACCESS,
) -> TargetSpec:
    """Return the replacement's target. An unnamed one at a site that keeps its name also keeps its only target's name."""
    present = [row.name for row in rows_of(repository, old) if row.state != "lost"]
    kept = present[0] if name is None and site == old and len(present) == 1 else TargetName(f"{site}/{name or 'main'}")
    known = repository.targets.specs.get(kept)
    return TargetSpec(name=kept, url=url, access=access, vote=known.vote if known is not None else "auto")


def _is_replaced(repository: Repository, old: SiteName, target: TargetSpec) -> bool:
    """Return whether an earlier run that died before it could report has already made this change."""
    there = repository.target_rows().get(target.name)
    given_up = all(row.state == "lost" for row in rows_of(repository, old)) and voter_of(repository, old) is None
    return target.site != old and given_up and there is not None and there.state == "active" and there.url == target.url


def _check_name_is_free(repository: Repository, old: SiteName, target: TargetSpec) -> None:
    if target.site != old and any(row.state != "lost" for row in rows_of(repository, target.site)):
        raise UsageError(
            f"site {target.site} already exists, and cannot also replace {old}",
            hint="give the new site a name of its own: drtool site replace OLD NEW=URL",
        )


def _reachable_voters(repository: Repository, but: SiteName) -> int:
    rows = repository.manifest.status().acceptors
    return sum(row.reachable and row.problem is None and row.site != but for row in rows)


def _check_rest(repository: Repository, site: SiteName, rest: Sequence[SiteName]) -> None:
    if not rest:
        raise Refused(
            f"site {site} is the only voter: without it the manifest cannot be read or written",
            hint="give another site a vote first: drtool site add SITE",
        )
    reachable = _reachable_voters(repository, site)
    if reachable < quorum_of(len(rest), repository.view.config.liars):
        raise Refused(
            f"without {site} the voters would be {', '.join(rest)}, and only {reachable} of them can be reached: "
            "they would not be a quorum",
            hint="bring them back, or first remove or replace the lost ones",
        )


def _check_others_decide(repository: Repository, site: SiteName) -> None:
    """Refuse unless the others form a quorum: a site that keeps its name gives up its old register before they agree."""
    config = repository.view.config
    if _reachable_voters(repository, site) < config.quorum:
        raise Refused(
            f"the other voters are no quorum without {site}, and the new place would hide the old one under its name",
            hint=f"give the new place another name: drtool site replace {site} NEW=URL",
        )


def _is_unsound(repository: Repository, site: SiteName) -> bool:
    """Return whether a voter's register answers but went back, is damaged, or is on a medium of another kind than
    before.
    """
    rows = {row.site: row for row in repository.manifest.status().acceptors}
    row = rows.get(site)
    if row is not None and not row.reachable:
        raise DrtoolError(
            f"site {site} already votes but cannot be reached: {row.problem}",
            hint="bring it back, or replace it: drtool site replace",
        )
    return row is not None and (row.problem is not None or medium_mismatch(repository, site) is not None)


def register_place(repository: Repository, site: SiteName, emit: Emit) -> TargetName:
    """Return the target for the site's register: its present one, or else the first suitable one by name."""
    reasons: list[str] = []
    voter = voter_of(repository, site)
    here = voter.target if voter else None
    for row in sorted(rows_of(repository, site), key=lambda row: (row.name != here, not row.votes_only, row.name)):
        if row.state == "lost" or not repository.targets.reachable(row.name):
            reasons.append(f"{row.name}: {repository.targets.failures.get(row.name, 'it is lost')}")
            continue
        spec = repository.targets.specs[row.name]
        wanted = replace(spec, vote="auto" if spec.vote == "false" else spec.vote)  # `site add` is explicit
        reason = why_no_vote(wanted, tried_vote(spec, emit))
        if reason is None:
            return row.name
        reasons.append(f"{row.name}: {reason}")
    raise UsageError(
        f"site {site} cannot vote ({'; '.join(reasons)})", hint="`vote: true` in the configuration overrides this"
    )
