"""Run seeds by hand: `python tests/sim/run.py --seeds 2000`, or one again with everything it printed: `--seed 4711`."""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from contextlib import nullcontext

from sim_mutations import MUTATIONS
from sim_run import PROFILES, options_of, run_seed


def main() -> int:
    parser = argparse.ArgumentParser(description="The catalogue's protocol in a simulated, hostile world.")
    parser.add_argument("--seeds", type=int, default=500, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="only this seed, with its options printed")
    parser.add_argument("--profile", choices=list(PROFILES), help="instead of the one that the seed draws")
    parser.add_argument("--mutation", choices=list(MUTATIONS), help="break the protocol this way first")
    words = parser.parse_args()
    seeds = [words.seed] if words.seed is not None else range(words.first, words.first + words.seeds)
    began, operations, requests, failed = time.monotonic(), 0, 0, 0
    with MUTATIONS[words.mutation]() if words.mutation else nullcontext():
        for seed in seeds:
            result = run_seed(options_of(seed, words.profile))
            operations, requests = operations + result.operations, requests + result.requests
            if words.seed is not None:
                print(result)
            if result.violations:
                failed += 1
                print(f"seed {seed}: {result.options}")
                print(*(f"  {violation}" for violation in result.violations), sep="\n")
                print(f"  again: python tests/sim/run.py {' '.join(sys.argv[1:])} --seed {seed}")
                if failed >= 5:
                    break
    seconds = time.monotonic() - began
    print(f"{operations} operations, {requests} requests, {failed} failing seeds, {seconds:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
