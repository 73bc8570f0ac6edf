"""Rings for the tests: built from weights, or drawn."""

from collections.abc import Sequence

from blake3 import blake3
from hypothesis import strategies as st

from drtool.model import PackId, TargetName
from drtool.ring import Ring, RingTarget


def named(site: int, target: int = 0) -> TargetName:
    return TargetName(f"site{site:02}/disk{target}")


def ring_of(*sites: int | Sequence[int], copies: int, epoch: int = 1) -> Ring:
    """A ring with one site for each argument: the weight of its only target, or the weights of its targets."""
    rows = [weights if isinstance(weights, Sequence) else (weights,) for weights in sites]
    return Ring(
        epoch=epoch,
        copies=copies,
        targets=tuple(
            RingTarget(name=named(i, j), weight=weight) for i, row in enumerate(rows) for j, weight in enumerate(row)
        ),
    )


def with_target(ring: Ring, target: RingTarget) -> Ring:
    others = tuple(t for t in ring.targets if t.name != target.name)
    return Ring(epoch=ring.epoch + 1, copies=ring.copies, targets=(*others, target))


def pack(i: int) -> PackId:
    return PackId(blake3(b"a test's pack" + i.to_bytes(8, "big")).digest())


weights = st.one_of(st.integers(1, 10), st.sampled_from([1, 10]), st.integers(1, 100_000))


@st.composite
def rings(draw: st.DrawFn, min_sites: int = 1, states: bool = False) -> Ring:
    """Up to ten sites of up to three targets. With `states`, not all of them are active."""
    rows = draw(st.lists(st.lists(weights, min_size=1, max_size=3), min_size=min_sites, max_size=10))
    whole = ring_of(*rows, copies=draw(st.integers(1, 4)))
    if not states:
        return whole
    state = st.sampled_from(["active", "active", "draining", "lost"])
    targets = tuple(RingTarget(name=t.name, weight=t.weight, state=draw(state)) for t in whole.targets)
    return Ring(epoch=1, copies=whole.copies, targets=targets)


packs = st.binary(min_size=32, max_size=32).map(PackId)
