"""`python -m benchmarks`: measure drtool beside restic and BorgBackup on this machine, and print medians and ratios.

The tools alternate within every operation of every round, so a machine that slows down slows all of them.
"""

import argparse
import datetime as dt
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks import measure, table
from benchmarks.tools import TOOLS, Tool
from benchmarks.workloads import SIZES, WORKLOADS, Unavailable, Workloads

ONE_FILE = ("W2", "W3")
OPERATIONS = ("first", "unchanged", "changed", "restore", "verify", "prune")
SNAPSHOTS_BEFORE_PRUNE = 10
SNAPSHOTS_KEPT = 5


class Bench:
    """One session of measurements: tools, workloads and rounds."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.root: Path = options.root
        self.root.mkdir(parents=True, exist_ok=True)
        self.workloads = Workloads(self.root, SIZES[options.size])
        self.results = self.root / "results.jsonl"
        self.versions: dict[str, str] = {}
        self.failures = 0
        self.restored: list[Path] = []

    def find_tools(self) -> dict[str, str]:
        """Return tool name → program for the available tools, and print the reason for the others."""
        found = {}
        for name in self.options.tools:
            try:
                found[name] = TOOLS[name].find(self.root / "downloads")
            except Unavailable as why:
                print(f"skipped: {name}: {why}", flush=True)
        return found

    def measure_all(self) -> Iterator[table.Row]:
        programs = self.find_tools()
        for workload in self.options.workloads:
            try:
                source = self.workloads.prepare(workload)
            except Unavailable as why:
                print(f"skipped: {workload}: {why}", flush=True)
                continue
            print(f"{workload}: {WORKLOADS[workload]}, {measure.tree_bytes(source) / 1e6:,.0f} MB", flush=True)
            tools = [
                TOOLS[name](self.root / "work" / f"{name}-{workload}", source, at) for name, at in programs.items()
            ]
            try:
                yield from self.measure_workload(workload, tools)
            finally:
                for tool in tools:
                    shutil.rmtree(tool.root, ignore_errors=True)

    def measure_workload(self, workload: str, tools: list[Tool]) -> Iterator[table.Row]:
        for round_number in range(1, self.options.runs + 1):
            for operation in self.options.operations:
                if operation == "changed":
                    with self.workloads.changed(workload, round_number):
                        yield from self.take_turns(workload, operation, round_number, tools)
                else:
                    yield from self.take_turns(workload, operation, round_number, tools)

    def take_turns(self, workload: str, operation: str, round_number: int, tools: list[Tool]) -> Iterator[table.Row]:
        if operation == "prune":
            self.age(workload, tools)
        turn = round_number % len(tools) if tools else 0
        for tool in tools[turn:] + tools[:turn]:
            row = self.measure_one(workload, operation, round_number, tool)
            with self.results.open("ab") as results:
                results.write(msgspec.json.encode(row) + b"\n")
            self.say(row)
            if row.cost.exit_code == 0:
                yield row

    def age(self, workload: str, tools: list[Tool]) -> None:
        """Make ten more snapshots, each of a workload changed at other places, and forget the older half and all before."""
        for number in range(SNAPSHOTS_BEFORE_PRUNE):
            with self.workloads.changed(workload, 1000 + number):
                for tool in tools:
                    tool.run(tool.backup())
        for tool in tools:
            tool.run(tool.forget(SNAPSHOTS_KEPT))

    def measure_one(self, workload: str, operation: str, round_number: int, tool: Tool) -> table.Row:
        destination = self.root / "work" / f"restored-{tool.name}-{workload}-{round_number}"
        if operation == "first":
            tool.begin()
            self.versions[tool.name] = tool.version()
        elif operation == "restore":
            shutil.rmtree(destination, ignore_errors=True)
            destination.mkdir(parents=True)
        before = measure.tree_bytes(tool.repository)
        measure.warm(tool.repository if operation in ("restore", "verify", "prune") else tool.source)
        commands = {"restore": lambda: tool.restore(destination), "verify": tool.verify, "prune": tool.prune}
        command = commands.get(operation, tool.backup)()
        folder = destination if operation == "restore" else tool.root
        cost = measure.run(command, tool.environment(), folder, self.root / "last.log", self.options.limit)
        if operation == "restore":
            if round_number == 1 and cost.exit_code == 0:
                self.compare(tool, destination)
            self.restored.append(destination)
            if workload in ONE_FILE:
                self.drop_restored()
        after = measure.tree_bytes(tool.repository)
        return table.Row(
            at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            size=self.options.size,
            workload=workload,
            operation=operation,
            tool=tool.name,
            version=self.versions[tool.name],
            round=round_number,
            cost=cost,
            repository_bytes=after,
            added_bytes=after - before,
        )

    def drop_restored(self) -> None:
        """Delete the restored trees. Trees with many files stay until the end of the session.

        ext4 does not reuse the inodes of files deleted in the last minutes and searches past each of them. So a restore
        after a large deletion takes up to five times as long, as measured.
        """
        while self.restored:
            shutil.rmtree(self.restored.pop())

    def compare(self, tool: Tool, destination: Path) -> None:
        """Compare the restored data, since a wrong restore must not count. (After `changed` the snapshot has the changes.)"""
        if "changed" in self.options.operations:
            with self.workloads.changed(tool.source.name, 1):
                self.diff(tool, destination)
        else:
            self.diff(tool, destination)

    def diff(self, tool: Tool, destination: Path) -> None:
        words = ["diff", "-rq", "--no-dereference", str(tool.source), str(tool.restored(destination))]
        differs = subprocess.run(words, capture_output=True, text=True, check=False)
        if differs.returncode != 0:
            self.failures += 1
            print(
                f"  WRONG: {tool.name}'s restore differs: {(differs.stdout + differs.stderr).splitlines()[:3]}",
                flush=True,
            )

    def say(self, row: table.Row) -> None:
        cost = row.cost
        ending = "" if cost.exit_code == 0 else f"  FAILED, exit {cost.exit_code}; see {self.root / 'last.log'}"
        self.failures += bool(ending)
        print(
            f"  {row.workload} {row.operation:9} {row.tool:9} round {row.round}: {cost.wall_s:7.2f} s wall"
            f" {cost.cpu_s:7.2f} s CPU {cost.peak_memory_mib:5.0f} MiB  repository {row.repository_bytes / 1e6:7.1f} MB{ending}",
            flush=True,
        )

    def report(self, rows: list[table.Row]) -> None:
        print(f"\n{machine()}\n{'; '.join(self.versions.values())}\n")
        print("\n".join(table.figures(rows)))
        print("\nRatios, below 1 is less than the peer:\n")
        print("\n".join(table.ratios(rows, [name for name in self.versions if not name.startswith("drtool")])))
        print(f"\nEvery single run: {self.results}")


def machine() -> str:
    """Return a description of the machine in one line."""
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"{len(model)} × {model[0] if model else 'unknown processor'}, {memory_gib:.0f} GiB, Linux {os.uname().release}"
    )


def main() -> int:
    """Run the benchmark, and exit with 0 if all available tools gave right results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    default_root = Path(tempfile.gettempdir()) / f"drtool-bench-{os.getuid()}"
    parser.add_argument(
        "--size", choices=SIZES, default="full", help="full: some 20 GB and an hour; small: 1 GB, some minutes"
    )
    parser.add_argument(
        "--root", type=Path, default=default_root, help="directory for data, peers and results (default: %(default)s)"
    )
    parser.add_argument("--runs", type=int, default=3, help="number of rounds; medians are reported")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--operations", nargs="+", choices=OPERATIONS, default=list(OPERATIONS))
    parser.add_argument("--limit", type=float, default=900, metavar="SECONDS", help="time limit of a command")
    options = parser.parse_args()
    options.operations = [name for name in OPERATIONS if name == "first" or name in options.operations]
    bench = Bench(options)
    try:
        bench.report(list(bench.measure_all()))
    finally:
        bench.drop_restored()
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
