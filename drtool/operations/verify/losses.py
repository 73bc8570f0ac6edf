"""Classification of the findings: what is lost, and what is not needed any more."""

import os
from collections.abc import Collection
from itertools import islice

from msgspec import Struct

from drtool.manifest.records import Snapshot
from drtool.model import PackId, pack_object
from drtool.operations.verify.request import Affected, Damaged, Missing, VerifyRequest
from drtool.repository import Repository
from drtool.repository.expected import Standing
from drtool.repository.inventory import Inventory
from drtool.repository.losses import Losses, LossReport, Nowhere, make_report, sorted_out

AFFECTED_MAX = 10_000


class Found(Struct, frozen=True):
    """The result of listings and reads. `nowhere`: objects without a good copy in any look."""

    standings: list[Standing]
    missing: list[Missing]
    damaged: list[Damaged]
    nowhere: Collection[str]


class Verdict(Struct, frozen=True):
    """The same without packs that are not needed any more, and the losses. `lost`: names of objects."""

    standings: list[Standing]
    missing: list[Missing]
    damaged: list[Damaged]
    lost: frozenset[str]
    affected: list[Affected]
    report: LossReport


def judged(repository: Repository, request: VerifyRequest, found: Found, inventory: Inventory) -> Verdict:
    """Return the losses and the snapshots that they affect. One site alone proves no loss."""
    nowhere = Nowhere() if request.site is not None else _nowhere(repository, found.standings, inventory)
    lost = {pack_object(pack) for pack in nowhere.lost} & set(found.nowhere)
    if request.site is None and not inventory.unlisted:
        lost |= {name for name in found.nowhere if name.startswith("index/")}
    rows, complete = _affected(repository, request, nowhere) if lost else ([], True)
    if complete and not rows:
        nowhere = nowhere.without_need()
    unneeded = {pack_object(pack) for pack in nowhere.unneeded}
    return Verdict(
        standings=[row for row in found.standings if row.expected.name not in unneeded],
        missing=[row for row in found.missing if row.object not in unneeded],
        damaged=[row for row in found.damaged if row.object not in unneeded],
        lost=frozenset(lost - unneeded),
        affected=[Affected(row.id.hex(), os.fsdecode(path)) for row, paths in rows for path in paths],
        report=make_report(repository, nowhere, rows, complete=complete),
    )


def _nowhere(repository: Repository, standings: list[Standing], inventory: Inventory) -> Nowhere:
    names = [row.expected.name for row in standings if not row.holders and row.expected.name.startswith("packs/")]
    return sorted_out(repository, inventory, {PackId(bytes.fromhex(name.rpartition("/")[2])) for name in names})


def _affected(
    repository: Repository, request: VerifyRequest, nowhere: Nowhere
) -> tuple[list[tuple[Snapshot, list[bytes]]], bool]:
    """Return the paths that need lost data, snapshot by snapshot, and whether the list is complete."""
    losses, left = Losses(repository, nowhere), AFFECTED_MAX
    rows: list[tuple[Snapshot, list[bytes]]] = []
    for snapshot in [request.snapshot] if request.snapshot else list(repository.view.state.snapshots):
        paths = list(islice(losses.paths(snapshot), left))
        left -= len(paths)
        rows += [(snapshot, paths)] if paths else []
    return rows, left > 0
