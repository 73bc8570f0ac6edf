"""The places that hold copies: the content of each, and its intended share by the ring."""

from msgspec import Struct

from drtool.manifest.records import Target
from drtool.model import site_of
from drtool.repository import Repository
from drtool.repository.inventory import take_inventory
from drtool.ring import expected_shares, shares


class TargetReport(Struct, frozen=True, kw_only=True):
    """One target. Counts come from a listing taken now, and are None where it could not be listed."""

    name: str
    site: str
    url: str
    weight: int
    state: str
    reachable: bool
    problem: str | None
    objects: int | None
    bytes: int | None
    share: float | None
    """Of everything that the listed targets hold."""
    expected_share: float
    """Of all copies of packs, by weight."""


class TargetsResult(Struct, frozen=True, kw_only=True):
    epoch: int
    targets: list[TargetReport]


class RingShare(Struct, frozen=True, kw_only=True):
    """One target's share of the ring: measured on a sample of imaginary packs, and expected from its weight."""

    name: str
    site: str
    weight: int
    state: str
    share: float
    expected_share: float


class RingResult(Struct, frozen=True, kw_only=True):
    epoch: int
    copies: int
    targets: list[RingShare]


def targets(repository: Repository) -> TargetsResult:
    """List every reachable target and count its objects."""
    inventory = take_inventory(repository.targets)
    held = {name: sum(objects.values()) for name, objects in inventory.objects.items()}
    total = sum(held.values())
    ring = repository.view.state.ring
    expected = expected_shares(ring)
    reports = [
        TargetReport(
            name=row.name,
            site=row.site,
            url=repository.target_rows()[row.name].url,
            weight=row.weight,
            state=row.state,
            reachable=row.name in held,
            problem=inventory.unlisted.get(row.name) or repository.targets.failures.get(row.name),
            objects=len(inventory.objects[row.name]) if row.name in held else None,
            bytes=held.get(row.name),
            share=(held[row.name] / total if total else 0.0) if row.name in held else None,
            expected_share=expected.get(row.name, 0.0),
        )
        for row in ring.targets
    ]
    arbiters = [_arbiter(repository, row) for row in repository.view.state.targets if row.votes_only]
    return TargetsResult(epoch=ring.epoch, targets=[*reports, *arbiters])


def _arbiter(repository: Repository, row: Target) -> TargetReport:
    """Return the report of an arbiter, which holds no packs and has no share."""
    return TargetReport(
        name=row.name,
        site=site_of(row.name),
        url=row.url,
        weight=0,
        state="arbiter" if row.state == "active" else row.state,
        reachable=repository.targets.reachable(row.name),
        problem=repository.targets.failures.get(row.name),
        objects=0,
        bytes=0,
        share=0.0,
        expected_share=0.0,
    )


def ring(repository: Repository) -> RingResult:
    """Return the current placement."""
    placed = repository.view.state.ring
    measured, expected = shares(repository.placement), expected_shares(placed)
    rows = [
        RingShare(
            name=row.name,
            site=row.site,
            weight=row.weight,
            state=row.state,
            share=measured.get(row.name, 0.0),
            expected_share=expected.get(row.name, 0.0),
        )
        for row in placed.targets
    ]
    return RingResult(epoch=placed.epoch, copies=placed.copies, targets=rows)
