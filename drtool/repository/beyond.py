"""Targets outside the configuration, which are tried before a quorum is given up.

Invariants
    A place is used only if its marker was written with this repository's key for this repository and target, or if it
    is recognised without a marker (`recognition`).
    Of directories only this host's own are tried, unless the caller requests any whose marker proves it.
"""

import shlex
from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from drtool.config.urls import NO_ACCESS, Access
from drtool.crypto import Keyring
from drtool.manifest.ports import SitePort
from drtool.manifest.records import Target
from drtool.model import SiteName, TargetName, site_of
from drtool.repository.known_targets import Known, has_left
from drtool.repository.places import full_url, is_directory
from drtool.repository.recognition import keep_recognised
from drtool.repository.registers import register_at
from drtool.repository.repository import Repository
from drtool.repository.spec import RepositorySpec, TargetSpec
from drtool.repository.targets import Targets


def reach_more(
    spec: RepositorySpec, targets: Targets, keyring: Keyring, rows: Sequence[Target], known: Known | None
) -> dict[SiteName, SitePort]:
    """Try the manifest's targets that the configuration does not reach, and return the registers of the sites gained.

    Of directories only this host's own are tried, unless the caller requests any whose marker proves it.
    """
    _drop_replaced(targets, rows)
    tried = [row for row in rows if _worth_trying(row, targets, spec)]
    for row in tried:
        place = TargetSpec(name=row.name, url=row.url, access=_access(row, known), weight=row.weight)
        targets.extend(place, keyring.repository)
    _drop_replaced(targets, rows)  # the earlier one may be back at the place of its successor
    keep_recognised(targets, keyring)
    gained = {site_of(row.name) for row in tried if targets.reachable(row.name)}
    return {site: register_at(targets, site) for site in gained}


def reach_known(spec: RepositorySpec, targets: Targets, known: Known) -> list[TargetName]:
    """Try the targets that this host has recorded besides its configuration, and return those that were reached.

    Each is tried where this host last reached it, and then at the catalogue's address, if that is on this host or a
    server.
    """
    rows = [row for row in known.targets if row.state != "lost" and not targets.reachable(row.name)]
    configured = dict(targets.specs)
    for row in rows:
        for place in _places(row, spec, known, configured.get(row.name)):
            if targets.extend(place, known.repository_id):
                break
    _drop_replaced(targets, known.targets)
    return [row.name for row in rows if targets.reachable(row.name)]


def _access(row: Target, known: Known | None) -> Access:
    """Return the access that this host last used to reach the target at the catalogue's own address."""
    found = (each for each in known.reached if each.name == row.name) if known is not None else iter(())
    return next((each.access for each in found if each.url == full_url(row.url)), NO_ACCESS)


def _places(row: Target, spec: RepositorySpec, known: Known, configured: TargetSpec | None) -> Iterator[TargetSpec]:
    """Yield the other possible places of a target. A configured place has priority, unless the target is known to have
    left it.

    The directory that it was copied from may still exist, with an outdated register.
    """
    at = None if configured is None else full_url(configured.url)
    one = TargetSpec(name=row.name, url=full_url(row.url), weight=max(1, row.weight), keys=row.keys)
    found = next((each for each in known.reached if each.name == row.name), None)
    if found is not None and has_left(known, found, row, at):
        yield replace(one, url=found.url, access=found.access)
    ours = spec.anywhere or row.host == spec.host or not is_directory(row.url)
    if ours and one.url != at and (at is None or row.id):
        yield one


def stale_words(spec: RepositorySpec, targets: Targets, names: Sequence[TargetName]) -> str:
    """Return the corrections for a configuration that does not name the places where targets were reached."""
    lines = ", ".join(f"{name} at {targets.specs[name].url}" for name in names)
    words = shlex.join(("drtool", "connect", targets.specs[names[0]].url, "--write-config", f"{spec.config}.new"))
    return (
        f"{spec.config} does not name the places of targets that this host recorded earlier and can reach: {lines}. "
        f"Correct it under `sites:` (`{words}` writes a whole file)"
    )


def _drop_replaced(targets: Targets, rows: Iterable[Target]) -> None:
    """Drop a disk whose place was given to another one, so that it is not written to when it comes back."""
    for row in rows:
        marker = targets.markers.get(row.name)
        if marker is not None and row.id and marker.target_id != row.id and row.name not in targets.unmarked:
            targets.drop(row.name, f"it is an earlier {row.name}, which was replaced by {row.url}")


def _worth_trying(row: Target, targets: Targets, spec: RepositorySpec) -> bool:
    """Return whether to try a target. A configured name has priority, unless the target was replaced since."""
    return row.state != "lost" and _may_be_tried(row, targets, spec)


def reach_given_up(repository: Repository) -> None:
    """Try the lost targets that this host has not reached yet, for a caller that reads all that is left.

    Nothing is written there. A lost target whose name was reused is not known any more.
    """
    targets, spec = repository.targets, repository.spec
    for row in repository.view.state.targets:
        if row.state == "lost" and not row.votes_only and _may_be_tried(row, targets, spec):
            targets.extend(TargetSpec(name=row.name, url=row.url, weight=row.weight), repository.id)
    targets.keep_only(lambda marker: marker.authentic(repository.keyring))


def _may_be_tried(row: Target, targets: Targets, spec: RepositorySpec) -> bool:
    if targets.reachable(row.name):
        return False
    ours = spec.anywhere or row.host == spec.host or not is_directory(row.url)
    return ours and (row.name not in targets.specs or bool(row.id))
