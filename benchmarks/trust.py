"""The cost of verification and status: `python -m benchmarks.trust --source DIR`.

With three sites and two copies, it measures the catalogue's share of `verify --level full`, `status`, and restores from packs
with and without padding. Shares and ratios are of processor time, which other work on the machine distorts least. The two kinds
of restores alternate.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drtool.repository import RepositorySpec

SITES = ("paris", "oslo", "rome")
CHANGES = 200
"""The number of changes, large enough that most of them are folded into pages, which verify reads."""


@dataclass(frozen=True)
class Spent:
    """The cost of one command."""

    wall_s: float
    cpu_s: float


class Place:
    """A repository below `root`."""

    def __init__(self, root: Path, *founding: str) -> None:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        self.root = root
        self.environ = os.environ | {
            "DRTOOL_CONFIG": str(root / "drtool.yaml"),
            "DRTOOL_PASSWORD": "correct horse",
            "DRTOOL_STATE_DIR": str(root / "state"),
            "DRTOOL_CACHE_DIR": str(root / "cache"),
        }
        targets = [word for site in SITES for word in ("--target", f"{site}={root / site}")]
        self.run("init", *targets, "--copies", "2", *founding)

    def run(self, *words: str) -> Spent:
        """Run one command and return its cost, with its children's processor time."""
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "drtool", *words], env=self.environ, cwd=self.root, stdout=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"drtool {' '.join(words)} ended with {process.returncode}")
        return Spent(time.monotonic() - began, used.ru_utime + used.ru_stime)


def main() -> None:
    """Prints a table."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--source", type=Path, required=True)
    words.add_argument("--root", type=Path, required=True)
    words.add_argument("--runs", type=int, default=5)
    given = words.parse_args()
    padded = Place(given.root / "padded")
    plain = Place(given.root / "plain", "--show-sizes")
    for place in (padded, plain):
        place.run("backup", str(given.source))
    make_changes(padded)
    rows = {
        "verify --level full": [padded.run("verify", "--level", "full") for _ in range(given.runs)],
        "verify --level structure": [padded.run("verify") for _ in range(given.runs)],
        "status": [padded.run("status") for _ in range(given.runs)],
    }
    restores: dict[str, list[Spent]] = {"restore, padded": [], "restore, not padded": []}
    for number in range(given.runs):
        both = [("restore, padded", padded), ("restore, not padded", plain)]
        for name, place in both if number % 2 else reversed(both):
            to = place.root / "restored"
            restores[name].append(place.run("restore", "latest", "--to", str(to)))
            shutil.rmtree(to)
    print("| command | wall s, median | wall s, least | CPU s, median |\n|---|---:|---:|---:|")
    for name, spent in (rows | restores).items():
        walls, cpus = [one.wall_s for one in spent], [one.cpu_s for one in spent]
        print(f"| {name} | {statistics.median(walls):.2f} | {min(walls):.2f} | {statistics.median(cpus):.2f} |")
    print(f"\ncatalogue: {100 * catalogue_share(padded, given.runs):.2f} % of verify --level full")
    ratio = statistics.median(one.cpu_s for one in restores["restore, padded"]) / statistics.median(
        one.cpu_s for one in restores["restore, not padded"]
    )
    print(f"restore, padded / not padded: {ratio:.3f}")


def make_changes(place: Place) -> None:
    """Make changes of the catalogue without content."""
    from drtool.events import ignore
    from drtool.manifest.ops import Record
    from drtool.repository import open_repository

    with open_repository(spec_of(place), ignore) as repository:
        for _ in range(CHANGES):
            repository.manifest.commit(Record())


def spec_of(place: Place) -> "RepositorySpec":
    """Return the specification of the repository, for measurements in this process."""
    from drtool.model import TargetName
    from drtool.repository import RepositorySpec, TargetSpec

    return RepositorySpec(
        label="drtool",
        targets=tuple(TargetSpec(name=TargetName(f"{site}/main"), url=str(place.root / site)) for site in SITES),
        cache_dir=place.root / "cache",
        state_dir=place.root / "state",
        password=lambda: b"correct horse",
        host=os.uname().nodename,
    )


def catalogue_share(place: Place, runs: int) -> float:
    """Return the share of reading the catalogue at every site in the processor time of a full verification by one process."""
    from drtool.events import ignore
    from drtool.operations.verify import VerifyRequest, verify
    from drtool.repository import open_repository
    from drtool.repository.catalogue import audit_catalogue

    spec = spec_of(place)
    shares = []
    for _ in range(runs):
        with open_repository(spec, ignore) as repository:
            began = time.process_time()
            audit_catalogue(repository, contents=True)
            between = time.process_time()
            verify(repository, VerifyRequest(level="full", workers=1), ignore)
            shares.append((between - began) / (time.process_time() - between))
    return statistics.median(shares)


if __name__ == "__main__":
    main()
