"""The placement of packs: properties of every ring and every pack."""

from itertools import islice

import msgspec
import pytest
from hypothesis import given, settings
from rings import named, pack, packs, ring_of, rings, with_target
from thoroughness import sample

from drtool.model import PackId, TargetName, site_of
from drtool.ring import METADATA_SITES, Placement, Ring, RingTarget
from drtool.ring.placement import node_positions, pack_places
from drtool.ring.reach import REACH_ONE, reaches

GOLDEN_NODES = (30910877, 413161607, 66730182, 649215761)
GOLDEN_PLACES = (1054934582, 974957393, 787363250, 409450706, 395348951, 116504786, 650689183, 351462910)
GOLDEN_REACHES_OF_TWO = [65536, 67669, 70652, 75332, 85433]
GOLDEN_REACHES_OF_THREE = [65536, 69181, 75024, 102902, 183329]
GOLDEN_PREFERENCES = [
    "wien/main oslo/main paris/main rome/main paris/nas",
    "paris/nas wien/main rome/main paris/main oslo/main",
    "wien/main paris/main oslo/main paris/nas rome/main",
    "wien/main oslo/main paris/nas rome/main paris/main",
    "paris/nas rome/main oslo/main wien/main paris/main",
    "paris/nas wien/main rome/main paris/main oslo/main",
]


@given(rings(states=True), packs)
def test_a_preference_list_has_every_active_target_once_and_no_other(ring: Ring, pack_id: PackId) -> None:
    met = list(Placement(ring).preference(pack_id))
    assert sorted(met) == [target.name for target in ring.active]
    assert not {t.name for t in ring.targets if t.state != "active"} & set(met)


@given(rings(states=True), packs)
def test_a_pack_belongs_on_the_first_distinct_sites_of_its_preference_list(ring: Ring, pack_id: PackId) -> None:
    placement = Placement(ring)
    desired = placement.desired(pack_id)
    firsts: dict[str, TargetName] = {}
    for target in placement.preference(pack_id):
        firsts.setdefault(site_of(target), target)
    assert list(desired) == list(islice(firsts.values(), ring.copies))
    assert len({site_of(target) for target in desired}) == len(desired) == min(ring.copies, len(ring.sites))


@given(rings(states=True), packs)
def test_metadata_belongs_on_every_site_up_to_five(ring: Ring, pack_id: PackId) -> None:
    held = Placement(ring).metadata(pack_id)
    assert len(held) == min(METADATA_SITES, len(ring.sites))
    assert len({site_of(target) for target in held}) == len(held)
    assert set(held) <= {target.name for target in ring.active}
    if ring.copies <= METADATA_SITES:
        assert held[: ring.copies] == Placement(ring).desired(pack_id)


@given(rings(states=True), packs)
def test_placement_depends_on_neither_epoch_nor_order_nor_inactive_targets(ring: Ring, pack_id: PackId) -> None:
    same = Ring(epoch=ring.epoch + 7, copies=ring.copies, targets=tuple(reversed(ring.active)))
    assert list(Placement(same).preference(pack_id)) == list(Placement(ring).preference(pack_id))


@settings(max_examples=sample(40))
@given(rings(min_sites=2))
def test_with_one_copy_a_join_moves_only_packs_to_the_new_target(ring: Ring) -> None:
    ring = Ring(epoch=1, copies=1, targets=ring.targets)
    check_only_gains(ring, RingTarget(name=named(77), weight=max(target.weight for target in ring.targets)))


@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("sites", [3, 4, 7])
def test_among_equal_sites_a_join_moves_only_packs_to_the_new_site(sites: int, copies: int) -> None:
    check_only_gains(ring_of(*[4] * sites, copies=copies), RingTarget(name=named(77), weight=4))


def check_only_gains(ring: Ring, newcomer: RingTarget) -> None:
    old, new = Placement(ring), Placement(with_target(ring, newcomer))
    gained = 0
    for i in range(100):
        before, after = set(old.desired(pack(i))), set(new.desired(pack(i)))
        assert after - before <= {newcomer.name}
        assert len(before - after) <= len(after - before) or len(ring.sites) < ring.copies
        gained += newcomer.name in after
    assert gained


@settings(max_examples=sample(40))
@given(rings(min_sites=3))
def test_draining_a_target_gives_it_nothing_and_is_the_same_as_removing_it(ring: Ring) -> None:
    leaver = ring.targets[0]
    drained = Placement(with_target(ring, RingTarget(name=leaver.name, weight=leaver.weight, state="draining")))
    removed = Placement(Ring(epoch=2, copies=ring.copies, targets=ring.targets[1:]))
    for i in range(20):
        assert leaver.name not in drained.desired(pack(i))
        assert list(drained.preference(pack(i))) == list(removed.preference(pack(i)))


def test_with_as_many_copies_as_sites_every_site_gets_every_pack() -> None:
    placement = Placement(ring_of(10, 1, (1, 2), copies=3))
    assert all(
        {site_of(target) for target in placement.desired(pack(i))} == set(placement.ring.sites) for i in range(200)
    )


def test_a_ring_without_active_targets_places_nothing() -> None:
    placement = Placement(Ring(epoch=1, copies=2, targets=(RingTarget(name=named(0), state="draining"),)))
    assert placement.desired(pack(1)) == ()
    assert placement.metadata(pack(1)) == ()


@pytest.mark.parametrize("weight", [0, -1])
def test_a_weight_below_one_is_refused(weight: int) -> None:
    with pytest.raises(ValueError, match="weight"):
        RingTarget(name=named(0), weight=weight)


@pytest.mark.parametrize("name", ["", "paris", "/nas", "paris/"])
def test_a_target_without_site_and_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="SITE/NAME"):
        RingTarget(name=TargetName(name))


def test_a_ring_with_no_copies_or_a_name_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="copies"):
        Ring(epoch=1, copies=0, targets=())
    with pytest.raises(ValueError, match="same name"):
        Ring(epoch=1, copies=1, targets=(RingTarget(name=named(0)), RingTarget(name=named(0), weight=2)))


@given(rings(states=True))
def test_a_ring_survives_encoding(ring: Ring) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(ring), type=Ring) == ring


def test_golden_nodes_and_places() -> None:
    """Frozen: these numbers determine the places of the packs in every repository."""
    assert node_positions(TargetName("paris/main"), 1)[:4] == GOLDEN_NODES
    assert len(node_positions(TargetName("paris/main"), 3)) == 768
    assert len(node_positions(TargetName("paris/main"), 4000)) == 1024
    assert pack_places(bytes(32)) == GOLDEN_PLACES


def test_golden_reaches() -> None:
    assert reaches([1, 1, 1], 2) == [REACH_ONE] * 3
    assert reaches([1, 2, 9], 1) == [REACH_ONE] * 3
    assert reaches([1, 2, 3, 4, 5], 2) == GOLDEN_REACHES_OF_TWO
    assert reaches([1, 2, 3, 4, 5], 3) == GOLDEN_REACHES_OF_THREE


def test_golden_preferences() -> None:
    ring = Ring(
        epoch=1,
        copies=2,
        targets=(
            RingTarget(name=TargetName("oslo/main"), weight=2),
            RingTarget(name=TargetName("paris/main")),
            RingTarget(name=TargetName("paris/nas"), weight=3),
            RingTarget(name=TargetName("rome/main"), weight=2),
            RingTarget(name=TargetName("wien/main"), weight=3),
        ),
    )
    placement = Placement(ring)
    shown = [" ".join(placement.preference(pack(i))) for i in range(6)]
    assert shown == GOLDEN_PREFERENCES
