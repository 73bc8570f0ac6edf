"""Advice on settings, derived from the measurements. Pure.

Invariants
    Each sentence says whether its figure was measured or computed. Missing measurements are not used.
"""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from drtool.operations.benchmarking.results import MachineSpeed, TargetSpeed

GIB = 1 << 30
MIB = 1 << 20
IMAGINED_BYTES = 100 * GIB
WORTH_IT = 1.2


class Setup(Struct, frozen=True, kw_only=True):
    """`weights`: of all configured storing targets, by name. `upload_bytes_s`: the value of `limits.upload`."""

    copies: int
    weights: Mapping[str, int]
    upload_bytes_s: int | None = None


def advise(machine: MachineSpeed, targets: Sequence[TargetSpeed], setup: Setup) -> list[str]:
    """Return the advice as sentences, the most important last."""
    return [*_workers(machine, targets, setup), *_lines(targets, setup), *_backup(machine, targets, setup)]


def _workers(machine: MachineSpeed, targets: Sequence[TargetSpeed], setup: Setup) -> Iterator[str]:
    one, all_ = machine.pack_random_bytes_per_second, machine.all_workers_pack_random_bytes_per_second
    gain = all_ / one
    if machine.workers > 1:
        told = f"measured: {machine.workers} workers pack {gain:.1f} times as much as one"
        yield f"{told} ({_rate(all_)} against {_rate(one)}): " + (
            "leave limits.workers: auto" if gain >= WORTH_IT else "limits.workers: 1 would suffice, and use less memory"
        )
    slowest = min((rate for _, rate in _takers(targets, setup)), default=None)
    if slowest is not None and slowest < one < all_:
        told = f"computed: one worker packs faster than the slowest target accepts its share ({_rate(slowest)})"
        yield f"{told}: limits.workers: 1 is enough for data that does not compress"


def _lines(targets: Sequence[TargetSpeed], setup: Setup) -> Iterator[str]:
    for target in targets:
        one, several = target.put_bytes_per_second, target.parallel_put_bytes_per_second
        if target.near or one is None or several is None:
            continue
        yield (
            f"measured: {target.parallel} transfers at once to {target.name} carry {several / one:.1f} times as much as one; "
            "drtool uses several where that helps"
        )
        best = max(one, several)
        if setup.upload_bytes_s is not None and setup.upload_bytes_s < best:
            limit = _rate(setup.upload_bytes_s)
            yield f"computed: limits.upload ({limit}) is less than {target.name} can accept ({_rate(best)}, measured)"
        elif setup.upload_bytes_s is None and best >= 1.25 * MIB:
            limit = f"limits.upload: {int(best * 0.8) // MIB}MiB/s"
            yield f"computed: to leave a fifth of the connection to {target.name} free: {limit}"


def _backup(machine: MachineSpeed, targets: Sequence[TargetSpeed], setup: Setup) -> Iterator[str]:
    """Yield how long a large first backup would take, and its bottleneck."""
    steps = [("packing on this machine", machine.all_workers_pack_random_bytes_per_second)]
    if machine.disk_read_bytes_per_second is not None:
        steps.append(
            (f"reading, if the source is as fast as {machine.disk_read_directory}", machine.disk_read_bytes_per_second)
        )
    steps += list(_takers(targets, setup))
    bottleneck, rate = min(steps, key=lambda step: step[1])
    measured = {target.name for target in targets if target.put_bytes_per_second is not None}
    left_out = sorted(setup.weights.keys() - measured)
    without = f"; {', '.join(left_out)} not measured and left out" if left_out else ""
    yield (
        f"computed: 100 GiB of new data that does not compress, {setup.copies} {'copy' if setup.copies == 1 else 'copies'}, "
        f"would take about {_time(IMAGINED_BYTES / rate)} ({_rate(rate)}); the bottleneck is {bottleneck}{without}"
    )


def _takers(targets: Sequence[TargetSpeed], setup: Setup) -> Iterator[tuple[str, float]]:
    """Yield each measured storing target, and the rate of new data it allows given its share of the copies."""
    total = sum(setup.weights.values())
    for target in targets:
        rates = [
            rate for rate in (target.put_bytes_per_second, target.parallel_put_bytes_per_second) if rate is not None
        ]
        if not rates or target.name not in setup.weights:
            continue
        taken = max(rates) if setup.upload_bytes_s is None else min(max(rates), setup.upload_bytes_s)
        share = min(1.0, setup.copies * setup.weights[target.name] / total)
        yield f"target {target.name}, which gets {share:.0%} of it at {_rate(taken)}", taken / share


def _rate(bytes_s: float) -> str:
    return f"{bytes_s / MIB:,.0f} MiB/s" if bytes_s >= 10 * MIB else f"{bytes_s / MIB:.2f} MiB/s"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86_400:.1f} days"
