"""Changing the targets of a test's repository, and listing their objects by a plain look at the directories."""

from collections import Counter
from collections.abc import Callable

from blake3 import blake3
from three_sites import World, fill, noise

from drtool.events import Event, ignore
from drtool.model import TargetName
from drtool.operations.placing import TargetChange, add_target, drain_target, remove_target, set_target
from drtool.operations.rebalance import (
    PreviewRequest,
    RebalanceRequest,
    RebalanceResult,
    RingPreview,
    preview,
    rebalance,
)
from drtool.repository import TargetSpec

D = TargetName("d/main")


def add(world: World, name: str = "d/main", weight: int | None = None, *, dry_run: bool = False) -> TargetChange:
    """A target at the directory that the world gives its name."""
    with world.open() as repository:
        spec = TargetSpec(name=TargetName(name), url=f"file://{world.directory(name)}")
        return add_target(repository, spec, weight, dry_run=dry_run, emit=ignore)


def set_to(world: World, name: str, **more) -> TargetChange:
    with world.open() as repository:
        return set_target(repository, TargetName(name), emit=ignore, **{"dry_run": False, **more})


def drain(world: World, name: str, *, dry_run: bool = False) -> TargetChange:
    with world.open() as repository:
        return drain_target(repository, TargetName(name), dry_run=dry_run, emit=ignore)


def remove(world: World, name: str, *, gone: bool = False, dry_run: bool = False) -> TargetChange:
    with world.open() as repository:
        return remove_target(repository, TargetName(name), gone_for_good=gone, dry_run=dry_run, emit=world.heard.append)


def move(world: World, emit: Callable[[Event], None] | None = None, **more) -> RebalanceResult:
    with world.open() as repository:
        return rebalance(repository, RebalanceRequest(**more), emit or world.heard.append)


def foresee(world: World, **more) -> RingPreview:
    with world.open() as repository:
        return preview(repository, PreviewRequest(**more), ignore)


def stock(world: World, backups: int = 4, file_bytes: int = 150_000) -> None:
    """So many snapshots of one source, each with files of its own: packs, trees and index segments."""
    for number in range(backups):
        fill(world.root / "source", {f"{number}/{i}": noise(file_bytes, 10 * number + i) for i in range(2)})
        world.backup(world.root / "source")


def good_copies(world: World, *targets: str) -> Counter[str]:
    """By the bytes in the directories: on how many targets each object is whole."""
    found: Counter[str] = Counter()
    for target in targets:
        for path in (*world.objects(target), *world.objects(target, "index")):
            whole = blake3(path.read_bytes()).hexdigest() == path.name
            found[str(path.relative_to(world.directory(target)))] += whole
    return found


def live(world: World) -> set[str]:
    """The objects that the catalogue refers to."""
    from drtool.model import pack_object, segment_object

    with world.open() as repository:
        packs = {pack_object(pack.pack) for pack in repository.index.packs()}
        return packs | {segment_object(ref.id) for ref in repository.view.state.segments}
