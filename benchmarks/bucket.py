"""drtool at one S3 server beside a plain loop of boto3 with as many transfers at once: `python -m benchmarks.bucket`.

Both are started as programs and move the same bytes. The loop (`plain_loop.py`) puts and gets pieces of a file, of a
pack's size. drtool backs up and restores the file, and also cuts, hashes, seals and writes metadata. They alternate in
starting first, and the medians are compared.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import seaweed

OBJECT_BYTES = 16 << 20
MIB = 1 << 20
LOOP = Path(__file__).with_name("plain_loop.py")


def main() -> None:
    """Print one row of the table for each direction."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--megabytes", type=int, default=512)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument(
        "--parallel", type=int, default=2, help="transfers at once: drtool's workers, the loop's threads"
    )
    given = words.parse_args()
    server = seaweed.shared()
    with tempfile.TemporaryDirectory(prefix="drtool-bucket-") as scratch:
        figures = _measure(server, Path(scratch), given.megabytes * MIB, given.rounds, given.parallel)
    print(f"{given.megabytes} MiB, {given.parallel} transfers at once, median of {given.rounds}, taking turns")
    for what, (loop_s, ours_s) in figures.items():
        rate = given.megabytes / loop_s
        print(
            f"{what}: boto3 loop {rate:.0f} MiB/s, drtool {given.megabytes / ours_s:.0f} MiB/s, ratio {loop_s / ours_s:.2f}"
        )


def _measure(
    server: seaweed.Seaweed,
    scratch: Path,
    size_bytes: int,
    rounds: int,
    parallel: int,
) -> dict[str, tuple[float, float]]:
    bucket, objects = "loop", size_bytes // OBJECT_BYTES
    server.client().create_bucket(Bucket=bucket)
    source = scratch / "source"
    source.mkdir()
    taken: dict[str, list[tuple[float, float]]] = {}

    def loop(act: str, file: Path) -> float:
        words = [act, server.endpoint, bucket, str(file), str(objects), str(parallel)]
        return _seconds(lambda: subprocess.run([sys.executable, str(LOOP), *words], check=True))

    for number in range(rounds + 1):
        with (source / "file").open("wb") as file:
            for _ in range(objects):
                file.write(os.urandom(OBJECT_BYTES))
        ours = _Ours(scratch / f"round-{number}", f"{server.endpoint}", parallel)
        acts: dict[str, list[Callable[[], float]]] = {
            "upload": [
                lambda: loop("put", source / "file"),
                lambda ours=ours: _seconds(lambda: ours.run("backup", str(source))),  # type: ignore[misc]
            ],
            "download": [
                lambda: loop("get", scratch / "got"),
                lambda ours=ours: _seconds(lambda: ours.run("restore", "latest", "--to", "restored")),  # type: ignore[misc]
            ],
        }
        for what, both in acts.items():
            first = number % 2
            took = {who: both[who]() for who in (first, 1 - first)}
            if number:  # the first round is a warm-up, because new memory of a virtual machine is slow
                taken.setdefault(what, []).append((took[0], took[1]))
                print(f"  {what}: loop {took[0]:.2f} s, drtool {took[1]:.2f} s", file=sys.stderr)
        ours.remove()
        (scratch / "got").unlink()
    return {
        what: (statistics.median(loop for loop, _ in rows), statistics.median(ours for _, ours in rows))
        for what, rows in taken.items()
    }


def _seconds(act: Callable[[], object]) -> float:
    os.sync()  # dirty pages of one must not be written out while the other runs
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


class _Ours:
    """One repository at the server, with its own cache and state."""

    def __init__(self, directory: Path, endpoint: str, workers: int) -> None:
        directory.mkdir()
        self.directory = directory
        self.environ = {
            **os.environ,
            "DRTOOL_STATE_DIR": str(directory / "state"),
            "DRTOOL_CACHE_DIR": str(directory / "cache"),
            "DRTOOL_PASSWORD": "benchmark",
        }
        self.run("init", "--target", f"site=s3://drtool/{directory.name}?endpoint={endpoint}", "--copies", "1")
        with (directory / "drtool.yaml").open("a") as config:
            config.write(f"\nlimits: {{workers: {workers}}}\n")

    def run(self, *words: str) -> None:
        subprocess.run([sys.executable, "-m", "drtool", "-q", *words], cwd=self.directory, env=self.environ, check=True)

    def remove(self) -> None:
        shutil.rmtree(self.directory)


if __name__ == "__main__":
    main()
