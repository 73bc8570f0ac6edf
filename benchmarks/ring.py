"""Evenness of the ring, movement for joins and leaves, and speed of lookups.

Shares and movement are measured on a fixed sample of names, so those columns are the same on every machine. Times are not.
"""

import argparse
import time
from collections.abc import Iterator, Sequence

from msgspec import Struct

from drtool.model import TargetName
from drtool.ring import Placement, Ring, RingTarget, expected_shares, movement, shares
from drtool.ring.shares import sample_packs

Sites = Sequence[Sequence[int]]


class Case(Struct, frozen=True):
    """Sites as lists of their targets' weights, and the joining site."""

    title: str
    sites: Sites
    newcomer: int


def ones(count: int) -> Sites:
    return [[1]] * count


def mixed(count: int) -> Sites:
    """Return weights from 1 to 10, spread as evenly as possible."""
    return [[1 + 7 * i % 10] for i in range(count)]


CASES = [
    Case("3 equal", ones(3), 1),
    Case("4 equal", ones(4), 1),
    Case("5 equal", ones(5), 1),
    Case("10 equal", ones(10), 1),
    Case("20 equal", ones(20), 1),
    Case("50 equal", ones(50), 1),
    Case("3 of 1, 2, 3", [[1], [2], [3]], 2),
    Case("4 of 1, 10, 1, 10", [[1], [10], [1], [10]], 10),
    Case("5 of 1 … 5", [[1], [2], [3], [4], [5]], 3),
    Case("10, half 1, half 10", [[1], [10]] * 5, 10),
    Case("10 of 1 … 10", mixed(10), 5),
    Case("20 of 1 … 10", mixed(20), 5),
    Case("50 of 1 … 10", mixed(50), 5),
    Case("50, all different (11 … 60)", [[i] for i in range(11, 61)], 30),
    Case("4 sites of 2 targets, 1 and 2", [[1, 2]] * 4, 3),
    Case("10 sites of 5 targets", [[1, 2, 3, 4, 5]] * 10, 15),
    Case("3 heavy, 3 light (1,000 : 10,000)", [[10_000]] * 3 + [[1_000]] * 3, 10_000),
    Case("5, 3, 1, 1 (a site falls below every pack)", [[5], [3], [1], [1]], 2),
    Case("1, 1, 2 (likewise)", [[1], [1], [2]], 2),
]


def ring_of(sites: Sites, copies: int) -> Ring:
    targets = tuple(
        RingTarget(name=TargetName(f"site{i:02}/disk{j}"), weight=weight)
        for i, row in enumerate(sites)
        for j, weight in enumerate(row)
    )
    return Ring(epoch=1, copies=copies, targets=targets)


def built(ring: Ring) -> tuple[Placement, float]:
    """Return the placement, and the milliseconds of CPU to lay it out (the best of three)."""
    times_ms = []
    placement = Placement(ring)
    for _ in range(3):
        start_s = time.process_time()
        placement = Placement(ring)
        times_ms.append((time.process_time() - start_s) * 1000)
    return placement, min(times_ms)


def lookups_per_cpu_second(placement: Placement) -> float:
    packs = sample_packs(4000)
    start_s = time.process_time()
    for pack in packs:
        placement.desired(pack)
    return len(packs) / (time.process_time() - start_s)


def share_error(placement: Placement, sample: int) -> tuple[float, float]:
    """Return the largest relative error of a target's share, and the sample's largest standard deviation."""
    measured, expected = shares(placement, sample), expected_shares(placement.ring)
    places = min(placement.ring.copies, len(placement.ring.sites))
    error = max(abs(measured[name] / share - 1) for name, share in expected.items())
    noise = max(max(0.0, 1 - places * share) / (sample * places * share) for share in expected.values())
    return error, noise**0.5


def row(case: Case, copies: int, sample: int) -> str:
    placement, build_ms = built(ring_of(case.sites, copies))
    error, noise = share_error(placement, sample)
    joined = Placement(ring_of([*case.sites, [case.newcomer]], copies))
    join, leave = movement(placement, joined, sample), movement(joined, placement, sample)
    cells = [
        case.title,
        str(copies),
        f"{error:.1%} ± {noise:.1%}",
        f"{join.minimum_fraction:.1%}",
        f"{join.fraction / join.minimum_fraction:.3f}",
        f"{leave.fraction / leave.minimum_fraction:.3f}",
        f"{lookups_per_cpu_second(placement):,.0f}",
        f"{build_ms:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def rows(sample: int) -> Iterator[str]:
    for case in CASES:
        for copies in (1, 2, 3):
            # with as many copies as sites there is no choice
            if copies < len(case.sites):
                yield row(case, copies, sample)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=100_000, help="names to measure shares and movement with")
    sample: int = parser.parse_args().sample
    print("# The ring, measured\n")
    print(f"`python benchmarks/ring.py --sample {sample} > benchmarks/ring-results.md`\n")
    print(
        "Share error: the difference between the worst target's share and its entitlement by weight. The figure after ± is\n"
        "the standard deviation of the sample for the lightest target, which is part of the error. Minimum: the part of all\n"
        "copies that a join must move. Join and leave: the copies that they really move, divided by the minimum. Lookups:\n"
        "`desired` per second of one CPU. Build: milliseconds of CPU to lay out the ring.\n"
    )
    print("| targets | copies | share error | minimum | join | leave | lookups/s | build ms |")
    print("|---|---|---|---|---|---|---|---|")
    for line in rows(sample):
        print(line, flush=True)


if __name__ == "__main__":
    main()
