"""What drtool says against what is true: `python tests/truth/run.py --seeds 20`, or `make truth SEED=7 STEPS=30`.

Each seed is a random history of commands and damage at real directories. After each step an oracle that shares no code with
drtool says what is true, and every answer must agree with it. Exits with 1, the seed and the steps otherwise.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "golden"))

import remembered_keys
from command_zygote import Zygote, remember_keys_at
from truth_history import history
from truth_judgement import RULES
from truth_play import Played, play
from truth_process import MODULE
from truth_rules import NOT_YET
from truth_topology import topology
from truth_world import World


def main() -> int:
    words = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the directories go then, too
    first = words.seed if words.seed is not None else random.SystemRandom().randrange(1_000_000)
    without = frozenset(words.without or ()) | (frozenset() if words.all_rules else frozenset(NOT_YET))
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="drtool-truth-", dir=memory if os.access(memory, os.W_OK) else None
    ) as made:
        keys = Path(made, "keys")
        keys.mkdir()
        remember_keys_at(keys)
        zygote = Zygote(MODULE)
        began = time.monotonic()
        try:
            with remembered_keys.remembering(keys):
                failed = sum(
                    one(Path(made), seed, words, zygote, without) for seed in range(first, first + words.seeds)
                )
        finally:
            zygote.close()
    print(f"{words.seeds} histories, {failed} with a disagreement, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


def one(made: Path, seed: int, words: argparse.Namespace, zygote: Zygote, without: frozenset[str]) -> bool:
    """Whether the history of a seed shows a disagreement; prints it then."""
    with tempfile.TemporaryDirectory(dir=made) as root:
        note = (lambda line: print(line, flush=True)) if words.verbose else (lambda _: None)
        place = topology(seed)
        note(f"seed {seed}: {place}")
        world = World(Path(root), seed, zygote, words.variant, place)
        played = play(world, history(seed, words.steps), without, note=note)
        if played.complaints and words.keep:
            os.rename(root, words.keep)
            os.mkdir(root)
    if played.complaints:
        tell(played, words)
    return bool(played.complaints)


def tell(played: Played, words: argparse.Namespace) -> None:
    print(f"\nseed {played.seed} ({topology(played.seed)}); again: make truth SEED={played.seed} STEPS={words.steps}")
    print(*played.lines, sep="\n")
    print(*(f"  DISAGREES  {complaint}" for complaint in played.complaints), sep="\n", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="the first seed; else a random one")
    parser.add_argument("--seeds", type=int, default=1, help="so many, one after the other")
    parser.add_argument("--steps", type=int, default=20, help="about so many steps each")
    parser.add_argument("--variant", default="", help="break the product in this way (truth_broken.py)")
    parser.add_argument("--without", action="append", choices=sorted(RULES), help="leave a rule out; repeatable")
    parser.add_argument("--all-rules", action="store_true", help="also those that do not hold yet")
    parser.add_argument("--keep", help="move the directories of a disagreement there")
    parser.add_argument("--verbose", action="store_true", help="print each step as it is done")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
