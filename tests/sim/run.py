"""Run seeds by hand: `python tests/sim/run.py --seeds 2000`, or one again with everything it printed: `--seed 4711`.

A range that was interrupted says where to go on. Exit 1 if any seed failed, or if a broken protocol is not caught.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from contextlib import nullcontext

from sim_catches import CATCHES, MUTATIONS, caught
from sim_options import PROFILES, options_of
from sim_run import Result, run_seed
from sim_stories import STORIES

TRANSCRIPTS = Path(__file__).resolve().parents[1] / "manifest" / "transcripts"
FAILURES_LIMIT = 5
PROGRESS_S = 60.0


def main() -> int:
    words = _words()
    if words.catches:
        return _show_catches(words.jobs)
    if words.transcripts:
        return _write_transcripts()
    with MUTATIONS[words.mutation]() if words.mutation else nullcontext():
        if words.seed is not None:
            result = run_seed(options_of(words.seed, words.profile))
            print(result.options, f"{result.operations} operations, {result.acknowledged} acknowledged", sep="\n")
            print(*result.violations, sep="\n")
            return 1 if result.violations else 0
        return _run_many(words)


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The catalogue's protocol in a simulated, hostile world.")
    parser.add_argument("--seeds", type=int, default=500, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed: to go on where another run stopped")
    parser.add_argument("--seed", type=int, help="only this seed, with its options printed")
    parser.add_argument("--profile", choices=list(PROFILES), help="instead of the one that the seed draws")
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), help="break the protocol this way first")
    parser.add_argument(
        "--catches", action="store_true", help="show which seed or schedule catches each broken protocol"
    )
    parser.add_argument("--transcripts", action="store_true", help="write tests/manifest/transcripts anew")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many processes")
    return parser.parse_args()


class _Tally:
    """What so many seeds came to."""

    def __init__(self, first: int) -> None:
        self.next = first
        self.failed = 0
        self.sums: Counter[str] = Counter()
        self.began = time.monotonic()

    def add(self, result: Result) -> None:
        self.next = result.options.seed + 1
        self.failed += bool(result.violations)
        self.sums.update(
            operations=result.operations,
            acknowledged=result.acknowledged,
            requests=result.requests,
            crashes=result.crashes,
            alarms=result.alarms,
            lies=result.lies,
        )

    def words(self) -> str:
        sums = ", ".join(f"{count} {name}" for name, count in self.sums.items())
        return f"{sums}, {self.failed} failing seeds, {time.monotonic() - self.began:.1f} s"


def _run_many(words: argparse.Namespace) -> int:
    tally, last = _Tally(words.first), words.first + words.seeds
    told = tally.began
    options = (options_of(seed, words.profile) for seed in range(words.first, last))
    with multiprocessing.get_context("fork").Pool(words.jobs) as pool:
        try:
            for result in pool.imap(run_seed, options, chunksize=10):
                tally.add(result)
                if result.violations:
                    _report(result, words)
                if time.monotonic() - told > PROGRESS_S:
                    told = time.monotonic()
                    print(f"  up to seed {tally.next - 1}: {tally.words()}", file=sys.stderr, flush=True)
                if tally.failed >= FAILURES_LIMIT:
                    break
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
    print(f"seeds {words.first} to {tally.next - 1}: {tally.words()}")
    if tally.next < last:
        print(f"  go on: {_command(words)} --first {tally.next} --seeds {last - tally.next}")
    return 1 if tally.failed or tally.next < last else 0


def _report(result: Result, words: argparse.Namespace) -> None:
    print(f"seed {result.options.seed}: {result.options}")
    print(*(f"  {violation}" for violation in result.violations), sep="\n")
    print(f"  again: {_command(words)} --seed {result.options.seed}", flush=True)


def _command(words: argparse.Namespace) -> str:
    again = "python tests/sim/run.py"
    again += f" --profile {words.profile}" if words.profile else ""
    return again + (f" --mutation {words.mutation}" if words.mutation else "")


def _show_catches(jobs: int | None) -> int:
    missed = 0
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for name, (catch, violations) in zip(sorted(MUTATIONS), pool.imap(caught, sorted(MUTATIONS)), strict=True):
            missed += catch is None
            moved = "" if catch == CATCHES.get(name) else f" (the table says {CATCHES.get(name)})"
            print(f"{name}: {catch}{moved}: {violations[0][:120] if violations else 'not caught'}", flush=True)
    return 1 if missed else 0


def _write_transcripts() -> int:
    TRANSCRIPTS.mkdir(exist_ok=True)
    for name, told in STORIES.items():
        (TRANSCRIPTS / f"{name}.txt").write_text(told(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
