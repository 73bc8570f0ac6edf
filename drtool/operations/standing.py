"""The voters after a recovery beyond the surviving registers: survivors that did not vote before, and new arbiters.

Invariants
    A survivor without a register votes only if its medium supports it and the configuration allows it.
    An arbiter's place holds its marker and the key slots before the catalogue names it.
"""

from collections.abc import Mapping, Sequence

from drtool.errors import UsageError
from drtool.manifest.ops import Op, SetRing
from drtool.manifest.recovery import Standing, Survivors
from drtool.manifest.state import State
from drtool.model import SiteName, TargetName, site_of
from drtool.repository import Repository, TargetSpec
from drtool.repository.admitting import admit, look_at_place
from drtool.repository.founding import row_of
from drtool.repository.places import vote_verdict
from drtool.repository.registers import register_at
from drtool.repository.voters import why_no_vote

ABLE_PLACE = "name an empty directory on a local file system, or on a server that can: --arbiter NAME=URL"


def voters_after(
    repository: Repository, found: Survivors, arbiters: Sequence[TargetSpec]
) -> dict[SiteName, TargetName | None]:
    """Return the sites that would vote: the target where a new register begins, or None where one exists.

    `UsageError` if there are none, or if an arbiter's place or name is unsuitable.
    """
    voters: dict[SiteName, TargetName | None] = dict.fromkeys(found.with_register())
    reasons: list[str] = []
    for site in found.sightings.keys() - voters.keys():
        able, why = _able_target(repository, site)
        reasons += why
        if able is not None:
            voters[site] = able
    for spec in arbiters:
        _check_arbiter(repository, found.learned.state, spec)
        voters[spec.site] = spec.name
    if not voters:
        raise UsageError(
            f"no remaining place can vote ({'; '.join(sorted(reasons))}), so nothing was changed", hint=ABLE_PLACE
        )
    return dict(sorted(voters.items()))


def _able_target(repository: Repository, site: SiteName) -> tuple[TargetName | None, list[str]]:
    """Return the first target of a site that can hold a register, or else the reasons why none can."""
    reasons: list[str] = []
    for name in repository.targets.of_site(site):
        if not repository.targets.reachable(name):
            continue
        spec = repository.targets.specs[name]
        reason = why_no_vote(spec, vote_verdict(spec))
        if reason is None:
            return name, []
        reasons.append(f"{name}: {reason}")
    return None, reasons


def _check_arbiter(repository: Repository, state: State, spec: TargetSpec) -> None:
    if any(site_of(row.name) == spec.site and row.state != "lost" for row in state.targets):
        raise UsageError(
            f"--arbiter {spec.site}: site {spec.site} already exists", hint="give the arbiter another name"
        )
    look_at_place(repository, spec, may_hold_register=True)  # of a recovery that was killed
    reason = why_no_vote(spec, vote_verdict(spec))
    if reason is not None:
        raise UsageError(f"{spec.url} cannot vote: {reason}", hint=ABLE_PLACE)


def stand(
    repository: Repository, voters: Mapping[SiteName, TargetName | None], arbiters: Sequence[TargetSpec]
) -> Standing:
    """Prepare the arbiters' places, and return what the recovery needs to start the new voters."""
    for spec in arbiters:
        admit(repository, spec, may_hold_register=True)
        repository.manifest.add_site(spec.site, register_at(repository.targets, spec.site))
    begins = {site: name for site, name in voters.items() if name is not None}
    for site, name in begins.items():
        repository.manifest.add_site(site, repository.targets.register(name))
    modes = {site: (name, repository.targets.register(name).mode) for site, name in begins.items()}

    def ops(state: State) -> Sequence[Op]:
        rows = [row_of(spec, repository.spec.host) for spec in arbiters]
        known = [row for row in state.targets if row.name not in {new.name for new in rows}]
        return [SetRing(state.ring_epoch + 1, (*known, *rows))] if rows else []

    return Standing(modes, ops)
