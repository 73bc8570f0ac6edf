"""Single losses, of one site or of this machine, that take the quorum or every copy of the catalogue.

Invariants
    A voter on this machine's own disk is lost with the machine, and so is an arbiter there. Together they count as one
    loss.
    A copy of the catalogue counts only if it is whole. One that lags counts, since the next commit brings it up to
    date.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from drtool.errors import TargetHung
from drtool.manifest.records import Config
from drtool.model import SiteName, TargetName, site_of
from drtool.repository.places import is_directory
from drtool.repository.spec import TargetSpec, local_path
from drtool.stores import Errand

STAT_TIMEOUT_S = 2.0
REMEDY = "drtool site add NAME --arbiter URL adds a voter on another machine"


class Exposure(Struct, frozen=True):
    """One loss: its effect, and the remedy. `holders`: the sites that would still have the whole catalogue."""

    holders: tuple[SiteName, ...]
    message: str
    remedy: str = REMEDY

    @property
    def text(self) -> str:
        return f"{self.message}; {self.remedy}"


def own_targets(specs: Iterable[TargetSpec]) -> frozenset[TargetName]:
    """Return the targets that are directories on the file systems of this machine's root or of this user's home."""
    devices = {device for path in (Path("/"), Path.home()) if (device := _device(path)) is not None}
    local = [spec for spec in specs if is_directory(spec.url)]
    return frozenset(spec.name for spec in local if _device(Path(local_path(spec.url))) in devices)


def mount_point_of(path: Path) -> Path:
    """Return the mount point of the file system that a path is on, or would be on."""
    place = Path(os.path.abspath(path))
    while not os.path.ismount(place) and place != place.parent:
        place = place.parent
    return place


def shared_disk(specs: Iterable[TargetSpec]) -> Path | None:
    """Return the mount point of the one file system that has all targets that store, or None if there are several."""
    storing = [spec for spec in specs if spec.vote != "only"]
    if not all(is_directory(spec.url) for spec in storing):
        return None
    paths = [Path(local_path(spec.url)) for spec in storing]
    devices = {_device(path) for path in paths}
    return mount_point_of(paths[0]) if len(devices) == 1 and None not in devices else None


def _device(path: Path) -> int | None:
    """Return the device of a path, or None if it does not exist or its file system does not answer."""
    try:
        return Errand(lambda: os.stat(path).st_dev).result(STAT_TIMEOUT_S, str(path))
    except (OSError, TargetHung):
        return None


def exposures(
    voters: Mapping[SiteName, TargetName],
    quorum: int,
    storing: Collection[TargetName],
    holding: Collection[TargetName],
    own: Collection[TargetName],
    away: Collection[TargetName] = (),
) -> Iterator[Exposure]:
    """Yield the losses that take the quorum although data is left elsewhere.

    `holding`: targets with a whole catalogue, even if not the newest. `own`: targets that are lost with this machine.
    `away`: unreachable targets, whose machine is unknown.
    """
    if len(voters) == 1:
        (site,) = voters
        if {site_of(name) for name in storing} - {site}:
            yield _only_voter(site, _sites(name for name in holding if site_of(name) != site))
        return
    local = sorted(name for name in voters.values() if name in own)
    if len(local) < 2 or len(voters) - len(local) >= quorum or set(storing) <= {*own, *away}:
        return
    holders = _sites(name for name in holding if name not in own)
    them = " and ".join(local)
    yield Exposure(
        holders,
        f"the registers at {them} are on this machine's own disk and are lost with it: {_then(holders)}",
        f"an arbiter belongs on another machine: drtool site replace {site_of(local[-1])} NEW=URL",
    )


def _only_voter(site: SiteName, holders: tuple[SiteName, ...]) -> Exposure:
    if not holders:
        text = f"site {site} is the only voter, so it alone has the catalogue, and without it all snapshots are lost: {REMEDY}"
        return Exposure(holders, text)
    return Exposure(holders, f"site {site} is the only voter: without it {_then(holders)}; {REMEDY}")


def _then(holders: tuple[SiteName, ...]) -> str:
    if not holders:
        return "no other site has a whole copy of the catalogue, and all snapshots are lost"
    return (
        "nothing can be written until `drtool manifest recover`, and the catalogue is read from the"
        f" {'copy' if len(holders) == 1 else 'copies'} at {' and '.join(holders)}"
    )


def voters_of(config: Config) -> dict[SiteName, TargetName]:
    """Return the target of each voter's register."""
    return {voter.site: voter.target for voter in config.voters}


def _sites(targets: Iterable[TargetName]) -> tuple[SiteName, ...]:
    return tuple(sorted({site_of(name) for name in targets}))
