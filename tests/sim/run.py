"""Run seeds by hand: `python tests/sim/run.py --seeds 2000`, or one again with everything it printed: `--seed 4711`."""

import argparse
import multiprocessing
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from contextlib import nullcontext

from sim_mutations import MUTATIONS
from sim_options import PROFILES, options_of
from sim_run import Result, run_seed


def main() -> int:
    parser = argparse.ArgumentParser(description="The catalogue's protocol in a simulated, hostile world.")
    parser.add_argument("--seeds", type=int, default=500, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="only this seed, with its options printed")
    parser.add_argument("--profile", choices=list(PROFILES), help="instead of the one that the seed draws")
    parser.add_argument("--mutation", choices=list(MUTATIONS), help="break the protocol this way first")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many processes")
    words = parser.parse_args()
    with MUTATIONS[words.mutation]() if words.mutation else nullcontext():
        if words.seed is not None:
            result = run_seed(options_of(words.seed, words.profile))
            print(result.options, f"{result.operations} operations, {result.acknowledged} acknowledged", sep="\n")
            print(*result.violations, sep="\n")
            return 1 if result.violations else 0
        return _run_many(words)


def _run_many(words: argparse.Namespace) -> int:
    began, operations, requests, failed = time.monotonic(), 0, 0, 0
    options = (options_of(seed, words.profile) for seed in range(words.first, words.first + words.seeds))
    with multiprocessing.get_context("fork").Pool(words.jobs) as pool:
        for result in pool.imap(run_seed, options, chunksize=10):
            operations, requests = operations + result.operations, requests + result.requests
            if result.violations:
                failed += 1
                _report(result, words)
            if failed >= 5:
                break
    seconds = time.monotonic() - began
    print(f"{operations} operations, {requests} requests, {failed} failing seeds, {seconds:.1f} s")
    return 1 if failed else 0


def _report(result: Result, words: argparse.Namespace) -> None:
    print(f"seed {result.options.seed}: {result.options}")
    print(*(f"  {violation}" for violation in result.violations), sep="\n")
    again = f"python tests/sim/run.py --seed {result.options.seed}"
    again += f" --profile {words.profile}" if words.profile else ""
    again += f" --mutation {words.mutation}" if words.mutation else ""
    print(f"  again: {again}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
