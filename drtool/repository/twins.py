"""Twins: targets that exist twice, at the place in this host's configuration and at the place in the catalogue.

A directory that was copied (rsync to a new disk, a virtual machine cloned) holds one voter's register twice. Hosts that use
different copies would each find a quorum, and the quorums would not meet.

Invariants
    A configured place other than the catalogue's is used only if the catalogue's does not answer, or is the same place.
    Two places are the same if they are one directory, or if an object written at one can be read at the other.
    Different addresses prove nothing, since bind mounts, links, endpoints and server paths have many names.
"""

import json
import os
import secrets
import shlex
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from drtool.config.urls import NO_ACCESS, Access, scheme_of
from drtool.errors import DrtoolError, ObjectMissing, Refused, StoreError
from drtool.manifest.ports import SitePort
from drtool.manifest.records import Target
from drtool.model import RepositoryId, SiteName, TargetName
from drtool.repository.cache import write_atomically
from drtool.repository.marker import Marker
from drtool.repository.places import OPEN_TIMEOUT_S, full_url, is_directory, open_in_time
from drtool.repository.registers import register_at
from drtool.repository.spec import RepositorySpec, TargetSpec, local_path
from drtool.repository.targets import Targets
from drtool.stores import Errand, Medium
from drtool.stores.scratch import Scratch

FRESH_S = 3600
_FILE = "places.json"


class Twin(Struct, frozen=True, kw_only=True):
    """A target that answers at two places: the one in this host's configuration, and the catalogue's."""

    name: TargetName
    configured: str
    catalogued: str
    access: Access = NO_ACCESS
    """The access to the catalogue's place."""

    @property
    def reason(self) -> str:
        return (
            f"it exists twice: at {self.configured}, according to this host's configuration,"
            f" and at {self.catalogued}, according to the catalogue"
        )

    @property
    def remedy(self) -> str:
        """Return how to choose one of the two, in words."""
        return (
            f"to use the configured copy: drtool target set {self.name} --url {shlex.quote(self.configured)} --gone. "
            "To use the other one, correct the configuration, or move the outdated copy away"
        )


def refusal(twins: Iterable[Twin]) -> Refused:
    """Return the error of a command that would use one of two copies."""
    first, *others = sorted(twins, key=lambda twin: twin.name)
    more = f" (and {', '.join(twin.name for twin in others)})" if others else ""
    return Refused(
        f"target {first.name}{more}: {first.reason}. Hosts that use different copies would lose each other's changes",
        hint=first.remedy,
    )


def use_catalogued(targets: Targets, twins: Iterable[Twin], repository: RepositoryId) -> dict[SiteName, SitePort]:
    """Switch to the catalogue's copy of each, and return the present registers of these sites."""
    changed = set()
    for twin in twins:
        configured = targets.specs[twin.name]
        targets.drop(twin.name, twin.reason)
        targets.extend(replace(configured, url=twin.catalogued, access=twin.access), repository)
        changed.add(configured.site)
    return {site: register_at(targets, site) for site in changed}


class Binding:
    """Keeps a run's registers at the places in the catalogue while the catalogue is being read.

    A read may finish a change that another host began. A copy must not take part in that, so it is set aside before.
    """

    def __init__(self, spec: RepositorySpec, targets: Targets, repository: RepositoryId, state_dir: Path) -> None:
        self._spec, self._targets, self._repository, self._state_dir = spec, targets, repository, state_dir
        self._configured: dict[TargetName, TargetSpec] = {}

    def bind(self, rows: Iterable[Target]) -> dict[SiteName, SitePort]:
        """Switch from the configured copies of targets that exist twice to those at the places in `rows`."""
        twins = self.twins(rows)
        self._configured = {twin.name: self._targets.specs[twin.name] for twin in twins} | self._configured
        return use_catalogued(self._targets, twins, self._repository)

    def release(self) -> dict[SiteName, SitePort]:
        """Go back to the configured copies, to be judged by the newest catalogue."""
        for name, spec in self._configured.items():
            if self._targets.reachable(name):
                self._targets.drop(name, "its configured place is tried again")
            self._targets.extend(spec, self._repository)
        return {spec.site: register_at(self._targets, spec.site) for spec in self._configured.values()}

    def twins(self, rows: Iterable[Target]) -> list[Twin]:
        """Return those targets in `rows` that exist twice."""
        return find_twins(self._spec, self._targets, rows, self._state_dir)


def find_twins(spec: RepositorySpec, targets: Targets, rows: Iterable[Target], state_dir: Path) -> list[Twin]:
    """Return the targets that answer at a configured place and, as another copy, at the catalogue's place."""
    known = _Known(state_dir / _FILE, keep=not spec.read_only)
    asked = [row for row in rows if row.state != "lost" and _differs(targets, row) and not known.says_one(targets, row)]
    errands = {row: Errand(partial(_is_twin, spec, targets, row)) for row in asked}
    ends_at = time.monotonic() + OPEN_TIMEOUT_S
    found: list[Twin] = []
    for row, errand in errands.items():
        with suppress(DrtoolError):  # a place that does not answer in time cannot be compared
            if errand.result(ends_at - time.monotonic(), row.url):
                found.append(_twin(targets, row))
                continue
        known.note_one(targets, row)
    known.close()
    return found


def _twin(targets: Targets, row: Target) -> Twin:
    here = targets.specs[row.name]
    return Twin(name=row.name, configured=full_url(here.url), catalogued=row.url, access=_access(here, row))


def _access(here: TargetSpec, row: Target) -> Access:
    """Return the configured access if both places are of one kind."""
    return here.access if scheme_of(here.url) == scheme_of(row.url) else NO_ACCESS


def _differs(targets: Targets, row: Target) -> bool:
    return targets.reachable(row.name) and full_url(targets.specs[row.name].url) != row.url


def _is_twin(spec: RepositorySpec, targets: Targets, row: Target) -> bool:
    """Return whether the catalogue's place holds this very target, and is not the same place as the configured one."""
    here = targets.specs[row.name]
    if is_directory(here.url) and is_directory(row.url) and _is_one_directory(here.url, row.url):
        return False
    there = TargetSpec(name=row.name, url=row.url, access=_access(here, row))
    try:
        medium = open_in_time(there, overlays=targets.overlays)
    except DrtoolError:
        return False
    with closing(medium):
        try:
            marker = Marker.read(medium)
        except DrtoolError:
            return False
        return _is_same_target(marker, targets.markers.get(row.name), row) and not _is_one_place(
            spec, targets, row, medium
        )


def _is_same_target(there: Marker, here: Marker | None, row: Target) -> bool:
    """Return whether it is the same target. A configured place without a valid marker was recognised by its contents."""
    return there == here if here is not None else there.target == row.name


def _is_one_directory(one: str, other: str) -> bool:
    try:
        return os.path.samestat(os.stat(local_path(one)), os.stat(local_path(other)))
    except OSError:
        return False


def _is_one_place(spec: RepositorySpec, targets: Targets, row: Target, there: Medium) -> bool:
    """Test by writing at the configured place and reading at the other, or compare registers if writing is not allowed."""
    with closing(open_in_time(targets.specs[row.name])) as here:
        if not spec.read_only:
            with suppress(StoreError):  # it accepts no writes, so neither does a register there
                return _is_seen_there(here, there)
        if is_directory(row.url) and targets.near(row.name):
            return False
        return _registers(here) == _registers(there)


def _is_seen_there(here: Medium, there: Medium) -> bool:
    scratch, token = Scratch(here), secrets.token_bytes(16)
    name = scratch.name("same-place")
    try:
        here.put(name, token)
        try:
            return there.get(name) == token
        except ObjectMissing:
            return False
    finally:
        with suppress(StoreError):  # the next test there removes the leftovers
            scratch.clear()


def _registers(store: Medium) -> list[str]:
    return [info.name for info in store.list("manifest/acc/")]


class _Known:
    """The servers' addresses that were found to be one place, or unreachable, less than an hour ago."""

    def __init__(self, path: Path, *, keep: bool) -> None:
        self._path, self._keep = path, keep
        self._rows: dict[str, float] = dict(_read(path))
        self._changed = False

    def says_one(self, targets: Targets, row: Target) -> bool:
        since = self._rows.get(_key(targets, row))
        return since is not None and 0 <= time.time() - since < FRESH_S

    def note_one(self, targets: Targets, row: Target) -> None:
        if not is_directory(row.url):  # a directory is checked every time at no cost
            self._rows[_key(targets, row)] = time.time()
            self._changed = True

    def close(self) -> None:
        if self._changed and self._keep:
            with suppress(OSError):  # it only saves time
                write_atomically(self._path, json.dumps(self._rows).encode())


def _key(targets: Targets, row: Target) -> str:
    return f"{row.name} {full_url(targets.specs[row.name].url)} {row.url}"


def _read(path: Path) -> Iterator[tuple[str, float]]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return
    if isinstance(document, dict):
        yield from ((key, since) for key, since in document.items() if isinstance(since, int | float))
