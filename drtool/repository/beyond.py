"""Targets that the configuration does not lead to, and that are tried before a quorum is given up.

Invariants
    A place is used only if its marker names this repository and this target, and was written with its key; or if it is
    recognised without one (recognition).
    Of directories only this host's own are tried, unless the caller asked for any whose marker proves it.
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
    """Tries targets of the manifest that the configuration does not lead to; the registers of the sites gained by that.

    Of directories only this host's own, unless the caller asked for any whose marker proves it.
    """
    _drop_replaced(targets, rows)
    tried = [row for row in rows if _worth_trying(row, targets, spec)]
    for row in tried:
        place = TargetSpec(name=row.name, url=row.url, access=_access(row, known), weight=row.weight)
        targets.extend(place, keyring.repository)
    _drop_replaced(targets, rows)  # the earlier one may be back at the very place of its successor
    keep_recognised(targets, keyring)
    gained = {site_of(row.name) for row in tried if targets.reachable(row.name)}
    return {site: register_at(targets, site) for site in gained}


def reach_known(spec: RepositorySpec, targets: Targets, known: Known) -> list[TargetName]:
    """Try the targets that this host knows beside its configuration; return those that were reached.

    Each is tried where this host last reached it, then where the catalogue says, if that is a place of this host or a server.
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
    """How this host got in when it last reached the target at the catalogue's own address."""
    found = (each for each in known.reached if each.name == row.name) if known is not None else iter(())
    return next((each.access for each in found if each.url == full_url(row.url)), NO_ACCESS)


def _places(row: Target, spec: RepositorySpec, known: Known, configured: TargetSpec | None) -> Iterator[TargetSpec]:
    """Where else a target may be. A configured place overrides others, unless the target is known to have left it.

    The directory that it was copied from may still be there, and its register is out of date.
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
    """Return what is to be changed in a configuration that does not lead to targets which were reached all the same."""
    lines = ", ".join(f"{name} at {targets.specs[name].url}" for name in names)
    words = shlex.join(("drtool", "connect", targets.specs[names[0]].url, "--write-config", f"{spec.config}.new"))
    return (
        f"{spec.config} does not lead to targets that this host knows from before, and that answer: {lines}. "
        f"Correct it under `sites:`; `{words}` writes a whole one"
    )


def _drop_replaced(targets: Targets, rows: Iterable[Target]) -> None:
    """A disk whose place was given to another one is not written to when it comes back."""
    for row in rows:
        marker = targets.markers.get(row.name)
        if marker is not None and row.id and marker.target_id != row.id and row.name not in targets.unmarked:
            targets.drop(row.name, f"it is an earlier {row.name}, which was replaced by {row.url}")


def _worth_trying(row: Target, targets: Targets, spec: RepositorySpec) -> bool:
    """The configuration overrides by name, except for a target that was replaced since: it may still name the earlier one."""
    return row.state != "lost" and _may_be_tried(row, targets, spec)


def reach_given_up(repository: Repository) -> None:
    """Tries the lost targets that this host does not reach yet, for one who reads whatever is left.

    Nothing is written there. A lost target whose name another place has taken is known no more.
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
