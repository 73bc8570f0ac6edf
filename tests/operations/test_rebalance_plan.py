"""The moves of a ring change, counted copy by copy over many packs: no more than necessary."""

import pytest
from blake3 import blake3

from drtool.model import PackId, TargetName
from drtool.operations.rebalance.plan import totals
from drtool.repository.copying import Amount
from drtool.repository.expected import Expected
from drtool.repository.reconciling import job_for
from drtool.ring import Placement, Ring, RingTarget, movement

PACKS = [PackId(blake3(i.to_bytes(4, "big")).digest()) for i in range(500)]


def placement_of(sites, copies, **states):
    rows = [RingTarget(name=TargetName(f"{s}/main"), weight=w, state=states.get(s, "active")) for s, w in sites.items()]
    return Placement(Ring(epoch=1, copies=copies, targets=tuple(rows)))


def counted(old, new):
    jobs = []
    for pack in PACKS:
        expected = Expected(pack.hex(), 1000, new.desired(pack), old.desired(pack), False)
        order = list(new.preference(pack))
        jobs.append(job_for(expected, list(old.desired(pack)), [], order, new.ring.copies, lambda _name: True))
    return totals(jobs)


@pytest.mark.parametrize("copies", [1, 2, 3])
@pytest.mark.parametrize("sites", [3, 4, 6])
@pytest.mark.spread(4)
def test_a_join_with_equal_weights_moves_no_more_than_it_must(sites, copies):
    before = dict.fromkeys("abcdefg"[:sites], 1)
    old, new = placement_of(before, copies), placement_of(before | {"z": 1}, copies)
    found = counted(old, new)
    assert found.moves.fraction <= 1.1 * found.minimum_fraction
    assert found.moves.fraction == pytest.approx(1 / (sites + 1), rel=0.2)
    assert found.moves.fraction == pytest.approx(movement(old, new).fraction, rel=0.2)
    assert [row.target for row in found.targets if row.gains.objects] == ["z/main"]


def test_a_drain_moves_all_copies_and_leaves_the_target_empty():
    before = dict.fromkeys("abcd", 1)
    found = counted(placement_of(before, 2), placement_of(before, 2, d="draining"))
    (gone,) = (row for row in found.targets if row.target == "d/main")
    assert gone.gains == Amount()
    assert gone.gives == found.copied == found.removed
    assert found.moves.fraction == found.minimum_fraction == pytest.approx(0.25, rel=0.2)


def test_with_unequal_weights_the_excess_over_the_least_is_reported():
    found = counted(
        placement_of({"a": 5, "b": 3, "c": 1, "d": 1}, 2), placement_of({"a": 5, "b": 3, "c": 1, "d": 1, "e": 2}, 2)
    )
    assert found.minimum_fraction < found.moves.fraction < 1.35 * found.minimum_fraction


def test_nothing_stored_is_nothing_to_move():
    found = totals([])
    assert (found.moves.objects, found.moves.fraction, found.minimum_fraction) == (0, 0.0, 0.0)
