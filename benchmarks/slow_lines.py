"""Backup and restore over slow lines to a bucket: `python -m benchmarks.slow_lines`.

Each row has its own repository at a real SeaweedFS, behind a TCP proxy (`tests/slow_line.py`) with a rate for all connections
together and a latency each way. Throughput is incompressible bytes divided by the whole command's time. Memory is the largest sum
of the proportional set sizes of all its processes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import seaweed
from slow_line import Line

from benchmarks.peers import restic

MIB = 1 << 20
SECONDS_WORTH = 10
"""The amount of data, in seconds of the line's rate."""
LARGEST_BYTES = 64 * MIB
SAMPLE_S = 0.25
ROWS = [  # bytes a second (0: the proxy's own speed), workers, milliseconds of a round trip
    (16_000, 8, 0),
    (16_000, 8, 600),
    (250_000, 1, 0),
    (250_000, 8, 0),
    (250_000, 64, 0),
    (250_000, 8, 600),
    (1_250_000, 8, 0),
    (1_250_000, 8, 100),
    (1_250_000, 8, 600),
    (12_500_000, 1, 0),
    (12_500_000, 8, 0),
    (12_500_000, 64, 0),
    (12_500_000, 8, 100),
    (12_500_000, 8, 600),
    (0, 1, 0),
    (0, 8, 0),
    (0, 64, 0),
]


def main() -> None:
    """Print one row of the table for each line."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--rate", type=int, action="append", help="only lines of this rate, in bytes a second")
    words.add_argument("--latency", type=int, action="append", help="only these round trips, in milliseconds")
    words.add_argument("--workers", type=int, action="append", help="only these numbers of workers")
    words.add_argument("--restic", action="store_true", help="also run restic on each line, with its own defaults")
    chosen = words.parse_args()
    server = seaweed.shared()
    print("| tool | line | workers | round trip | up | down | memory up | memory down |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for number, (rate, workers, trip_ms) in enumerate(ROWS):
        if not all(
            wanted is None or value in wanted
            for value, wanted in ((rate, chosen.rate), (workers, chosen.workers), (trip_ms, chosen.latency))
        ):
            continue
        tools: list[_Drtool | _Restic] = [_Drtool(workers), *([_Restic()] if chosen.restic else [])]
        for tool in tools:
            with tempfile.TemporaryDirectory(prefix="drtool-lines-") as scratch, Line(server.ports[0]) as line:
                _measure(Path(scratch), line, f"{os.getpid()}-{number}-{tool.name}", rate, trip_ms, tool)


class _Drtool:
    name = "drtool"

    def __init__(self, workers: int) -> None:
        self.workers = str(workers)
        self._program = [sys.executable, "-m", "drtool", "-q"]

    def environ(self, scratch: Path, _url: str) -> dict[str, str]:
        return {
            "DRTOOL_PASSWORD": "benchmark",
            "DRTOOL_STATE_DIR": str(scratch / "state"),
            "DRTOOL_CACHE_DIR": str(scratch / "cache"),
            "DRTOOL_CONFIG": str(scratch / "drtool.yaml"),
        }

    def begin(self, scratch: Path, place: str, endpoint: str) -> list[str]:
        (scratch / "settings").write_text(f"limits: {{workers: {self.workers}}}\n")
        return [*self._program, "init", "--target", f"far=s3://{place}?endpoint={endpoint}", "--copies", "1"]

    def begun(self, scratch: Path) -> None:
        with (scratch / "drtool.yaml").open("a") as config:
            config.write((scratch / "settings").read_text())

    def backup(self, source: Path) -> list[str]:
        return [*self._program, "backup", str(source)]

    def restore(self, source: Path, out: Path) -> list[str]:
        return [*self._program, "restore", f"latest:{source}", "--to", str(out)]


class _Restic:
    name, workers = "restic", "its own"

    def __init__(self) -> None:
        self._program = [restic(Path(tempfile.gettempdir()) / "drtool-peers"), "-q"]

    def environ(self, scratch: Path, url: str) -> dict[str, str]:
        return {
            "RESTIC_PASSWORD": "benchmark",
            "RESTIC_REPOSITORY": url,
            "RESTIC_CACHE_DIR": str(scratch / "cache"),
        }

    def begin(self, _scratch: Path, _place: str, _endpoint: str) -> list[str]:
        return [*self._program, "init"]

    def begun(self, _scratch: Path) -> None:
        """Nothing is to be configured."""

    def backup(self, source: Path) -> list[str]:
        return [*self._program, "backup", str(source)]

    def restore(self, _source: Path, out: Path) -> list[str]:
        return [*self._program, "restore", "latest", "--target", str(out)]


def _measure(scratch: Path, line: Line, name: str, rate: int, trip_ms: int, tool: "_Drtool | _Restic") -> None:
    place = f"{seaweed.BUCKET}/lines-{name}"
    environ = os.environ | tool.environ(scratch, f"s3:{line.endpoint}/{place}")
    _run(tool.begin(scratch, place, line.endpoint), scratch, environ)
    tool.begun(scratch)
    size_bytes = min(LARGEST_BYTES, rate * SECONDS_WORTH or LARGEST_BYTES)
    source = scratch / "source"
    source.mkdir()
    for part in range(8):
        (source / f"{part}").write_bytes(os.urandom(size_bytes // 8))
    line.rate_bytes_s, line.latency_s = rate or None, trip_ms / 2000
    up_s, up_mib = _run(tool.backup(source), scratch, environ)
    down_s, down_mib = _run(tool.restore(source, scratch / "out"), scratch, environ)
    speed = f"{rate / 1000:g} kB/s" if rate else "no limit"
    up, down = size_bytes / up_s / 1000, size_bytes / down_s / 1000
    print(
        f"| {tool.name} | {speed} | {tool.workers} | {trip_ms} ms | {up:.0f} kB/s | {down:.0f} kB/s"
        f" | {up_mib:.0f} MiB | {down_mib:.0f} MiB |",
        flush=True,
    )


def _run(command: list[str], directory: Path, environ: dict[str, str]) -> tuple[float, float]:
    """Return the duration of a command in seconds, and the peak memory of all its processes in MiB."""
    began_s, most = time.monotonic(), [0.0]
    done = subprocess.Popen(command, cwd=directory, env=environ, start_new_session=True, stdout=subprocess.DEVNULL)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            most[0] = max(most[0], sum(map(_memory_mib, _family(done.pid))))

    watching = threading.Thread(target=watch)
    watching.start()
    code = done.wait()
    seconds = time.monotonic() - began_s
    ended.set()
    watching.join()
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    return seconds, most[0]


def _family(session: int) -> list[Path]:
    """Return the processes of a session."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[3]) == session:
                found.append(status.parent)
    return found


def _memory_mib(process: Path) -> float:
    with suppress(OSError):
        for row in (process / "smaps_rollup").read_text().splitlines():
            if row.startswith("Pss:"):
                return int(row.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    main()
