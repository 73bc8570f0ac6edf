"""Real S3 servers that are killed with -9 and come back, again and again, while backups run: `make chaos-servers CYCLES=100`.

Each cycle: a backup begins; one of the three servers, sometimes two, is killed at a random moment of it; what the backup said
(its exit code) is taken at its word; the servers come back. Now and then, and in the end, every snapshot that was acknowledged
is restored and compared byte for byte; in the end `repair` completes the copies, and `verify --level full` finds nothing.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bucket_sites import BucketSites, bucket_sites

STORED = (0, 5)


class Story:
    """`acknowledged`: each snapshot that a backup said was stored, and what it must give back."""

    def __init__(self, sites: BucketSites, seed: int) -> None:
        self.sites, self.rng = sites, random.Random(seed)
        self.source = sites.shell.directory / "source"
        self.acknowledged: dict[str, dict[str, str]] = {}
        self.refused = self.deaths = 0

    def cycle(self, number: int) -> None:
        self._change(number)
        victims = self.rng.sample(sorted(self.sites.servers), self.rng.choice([1, 1, 1, 2]))
        look = digests(self.source)
        words = [sys.executable, "-m", "drtool", "--json", "backup", str(self.source)]
        environ = {**os.environ, **self.sites.shell.environ}
        directory = self.sites.shell.directory
        with subprocess.Popen(
            words, cwd=directory, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as child:
            time.sleep(self.rng.uniform(0, 2.5))
            for victim in victims:
                self.sites.servers[victim].kill()
                self.deaths += 1
            out, err = child.communicate(timeout=300)
        if child.returncode in STORED:
            self.acknowledged[json.loads(out)["snapshots"][0]["id"]] = look
        elif child.returncode in (1, 6):
            self.refused += 1
        else:
            raise SystemExit(f"cycle {number}: the backup ended with {child.returncode}: {out}{err}")
        for victim in victims:
            self.sites.servers[victim].start()

    def check(self, snapshots: list[str]) -> None:
        for snapshot in snapshots:
            to = self.sites.shell.directory / "out"
            done = self.sites.shell("restore", f"{snapshot}:{self.source}", "--to", str(to), "--json")
            if done.code != 0 or digests(to) != self.acknowledged[snapshot]:
                raise SystemExit(f"snapshot {snapshot} was acknowledged and does not come back: {done.out}{done.err}")
            shutil.rmtree(to)

    def end(self) -> None:
        for words in (("repair",), ("verify", "--level", "full")):
            done = self.sites.shell(*words, "--json")
            if done.code != 0:
                raise SystemExit(f"drtool {' '.join(words)} ended with {done.code}: {done.out}{done.err}")
        self.check(list(self.acknowledged))

    def _change(self, number: int) -> None:
        self.source.mkdir(exist_ok=True)
        for _ in range(self.rng.randrange(1, 4)):
            path = self.source / f"{self.rng.randrange(12):02}"
            path.write_bytes(self.rng.randbytes(self.rng.randrange(1, 3_000_000)))
        (self.source / "cycle").write_text(str(number))


def digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def run(cycles: int, seed: int) -> str:
    """What happened, in a line; SystemExit when something was lost."""
    root = Path(tempfile.mkdtemp(prefix="drtool-chaos-"))
    try:
        with bucket_sites(root) as sites:
            sites.found()
            story = Story(sites, seed)
            for number in range(cycles):
                story.cycle(number)
                if story.acknowledged and number % 5 == 4:
                    story.check([story.rng.choice(sorted(story.acknowledged))])
            story.end()
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return (
        f"{cycles} cycles, {story.deaths} servers killed, {len(story.acknowledged)} backups acknowledged and restored byte for"
        f" byte, {story.refused} refused; seed {seed}"
    )


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--cycles", type=int, default=100)
    words.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    given = words.parse_args()
    sys.stdout.write(f"seed {given.seed}\n")
    sys.stdout.flush()
    sys.stdout.write(run(given.cycles, given.seed) + "\n")


if __name__ == "__main__":
    main()
