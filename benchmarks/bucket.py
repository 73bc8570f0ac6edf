"""drtool at one S3 server beside a plain loop of boto3 with as many transfers at once: `python -m benchmarks.bucket`.

Both move the same bytes: the loop puts and gets objects of a pack's size; drtool backs up and restores one incompressible file
of as many bytes (it cuts, hashes, seals and writes metadata besides). They take turns; the medians are compared.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import seaweed

OBJECT_BYTES = 16 << 20
MIB = 1 << 20


def main() -> None:
    """Prints one row of the table for each direction."""
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
    client, bucket = server.client(), "loop"
    client.create_bucket(Bucket=bucket)
    names = [f"object-{number}" for number in range(size_bytes // OBJECT_BYTES)]
    source = scratch / "source"
    source.mkdir()
    taken: dict[str, list[float]] = {}

    def loop(act: Callable[[str], object]) -> float:
        with ThreadPoolExecutor(parallel) as threads:
            return _seconds(lambda: list(threads.map(act, names)))

    for number in range(rounds):
        data = os.urandom(OBJECT_BYTES)
        with (source / "file").open("wb") as file:
            for _ in names:
                file.write(os.urandom(OBJECT_BYTES))
        put = loop(lambda name, data=data: client.put_object(Bucket=bucket, Key=name, Body=data))  # type: ignore[misc]
        get = loop(lambda name: client.download_file(bucket, name, str(scratch / name)))
        ours = _Ours(scratch / f"round-{number}", f"{server.endpoint}", parallel)
        backup = _seconds(lambda ours=ours: ours.run("backup", str(source)))  # type: ignore[misc]
        restore = _seconds(lambda ours=ours: ours.run("restore", "latest", "--to", "restored"))  # type: ignore[misc]
        ours.remove()
        for what, seconds in (("put", put), ("get", get), ("backup", backup), ("restore", restore)):
            taken.setdefault(what, []).append(seconds)
    median = {what: statistics.median(seconds) for what, seconds in taken.items()}
    return {"upload": (median["put"], median["backup"]), "download": (median["get"], median["restore"])}


def _seconds(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


class _Ours:
    """One repository at the server, with a cache and a state of its own."""

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
