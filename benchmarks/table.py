"""Medians of the measurements as Markdown tables: one of figures, one of ratios to the peers."""

import statistics
from collections.abc import Iterable, Sequence

import msgspec

from benchmarks.measure import Cost


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One timed command."""

    at: str
    size: str
    workload: str
    operation: str
    tool: str
    version: str
    round: int
    cost: Cost
    repository_bytes: int
    added_bytes: int


def figures(rows: Sequence[Row]) -> Iterable[str]:
    """Return the table of costs per tool, with medians over the rounds."""
    yield "| workload | operation | tool | runs | wall s | CPU s | peak MiB | repository MB | added MB | contaminated |"
    yield "|---|---|---|---:|---:|---:|---:|---:|---:|---:|"
    for (workload, operation, tool), group in _groups(rows).items():
        wall, cpu, peak = (_median(group, field) for field in ("wall_s", "cpu_s", "peak_memory_mib"))
        repository = statistics.median(row.repository_bytes for row in group) / 1e6
        added = statistics.median(row.added_bytes for row in group) / 1e6
        dirty = sum(row.cost.contaminated for row in group)
        yield (
            f"| {workload} | {operation} | {tool} | {len(group)} | {wall:.2f} | {cpu:.2f} | {peak:.0f}"
            f" | {repository:.1f} | {added:.1f} | {dirty} |"
        )


def ratios(rows: Sequence[Row], peers: Sequence[str]) -> Iterable[str]:
    """Return the ratios of drtool to each peer. A wall time of 0.50 is twice as fast."""
    groups = _groups(rows)
    ours = [tool for tool in dict.fromkeys(row.tool for row in rows) if tool.startswith("drtool")]
    yield "| workload | operation | tool | peer | wall | CPU | peak memory | repository |"
    yield "|---|---|---|---|---:|---:|---:|---:|"
    for workload, operation in dict.fromkeys((row.workload, row.operation) for row in rows):
        for tool in ours:
            for peer in peers:
                us, them = groups.get((workload, operation, tool)), groups.get((workload, operation, peer))
                if us and them:
                    cells = [
                        _median(us, f) / max(_median(them, f), 1e-9) for f in ("wall_s", "cpu_s", "peak_memory_mib")
                    ]
                    cells.append(us[-1].repository_bytes / max(them[-1].repository_bytes, 1))
                    yield (
                        f"| {workload} | {operation} | {tool} | {peer} | "
                        + " | ".join(f"{c:.2f}" for c in cells)
                        + " |"
                    )


def _groups(rows: Sequence[Row]) -> dict[tuple[str, str, str], list[Row]]:
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.workload, row.operation, row.tool), []).append(row)
    return groups


def _median(rows: Sequence[Row], field: str) -> float:
    return float(statistics.median(getattr(row.cost, field) for row in rows))
