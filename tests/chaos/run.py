"""Real processes over real disks that misbehave: `python tests/chaos/run.py --seconds 60`, or `make chaos SECONDS=60`.

Four writers and two readers share a repository at five sites on this machine. One site at a time is renamed away, unmounted,
read-only, full, slow, frozen or cut off from its power; processes are killed, stopped for longer than anybody waits, and see
their clocks jump. In the end one order must explain every answer, nothing that was acknowledged may be missing, and nobody may
have been blamed who had no trouble. Exits with 1, the seed and the place of all histories otherwise.

As root it has mounts of its own, which end with it; without root it does what can be done to directories, and says so.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sim"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from chaos_mutations import MUTATIONS
from chaos_scenario import PROCESS_FAULTS, SITE_FAULTS, Options, Scenario
from chaos_verdict import judge, save, table

STEPS = ("calm", *PROCESS_FAULTS, *SITE_FAULTS, "mix")


def main() -> int:
    words = arguments()
    if not words.inside and (inner := in_a_mount_namespace()):
        return subprocess.run([*inner, sys.executable, *sys.argv, "--inside"], check=False).returncode
    seed = words.seed if words.seed is not None else random.SystemRandom().randrange(1_000_000)
    options = Options(seed, words.seconds, tuple(words.steps or STEPS), words.mutation or "")
    again = f"make chaos SECONDS={words.seconds:g} SEED={seed}"
    again += f' ARGS="--steps {" ".join(words.steps)}"' if words.steps else ""
    print(f"seed {seed}; again: {again}", flush=True)
    place = Path(tempfile.mkdtemp(prefix="drtool-chaos-", dir=scratch(inside=words.inside)))
    return play(Scenario(place, options, chatter(quiet=words.quiet)), words, again)


def play(scenario: Scenario, words: argparse.Namespace, again: str) -> int:
    began = time.monotonic()
    try:
        scenario.run()
        verdict = judge(scenario)
    finally:
        scenario.close()
    print(*table(scenario, verdict), sep="\n")
    print(f"{time.monotonic() - began:.0f} s in all")
    if words.result:
        save(scenario, verdict, Path(words.result))
    if verdict.violations:
        print(
            f"\nVIOLATED, {len(verdict.violations)} times:",
            *(f"  {line}" for line in verdict.violations[:30]),
            sep="\n",
        )
        print(f"histories: {kept(scenario.place)}\nagain: {again}")
        return 1
    shutil.rmtree(scenario.place, ignore_errors=True)
    print(
        "\nNo violation: one order explains every answer, nothing acknowledged is missing, nobody was blamed without cause."
    )
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="how long to disturb; from 240 on with full patience"
    )
    parser.add_argument(
        "--seed", type=int, help="which faults, and when; how processes fall into each other is not drawn"
    )
    parser.add_argument("--steps", nargs="+", choices=STEPS, help="only these, in this order")
    parser.add_argument(
        "--mutation", choices=list(MUTATIONS), help="break the protocol or the disk discipline this way"
    )
    parser.add_argument("--quiet", action="store_true", help="only the table")
    parser.add_argument("--result", help="write figures as JSON to this file")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def in_a_mount_namespace() -> list[str]:
    """How to begin in a mount namespace of one's own, so that nothing stays mounted; empty where that is not allowed."""
    inner = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return []
    return inner if subprocess.run([*inner, "true"], capture_output=True, check=False).returncode == 0 else []


def scratch(*, inside: bool) -> Path | None:
    """In memory where there is room: hundreds of syncs a second are no test of this machine's disk.

    Inside a mount namespace it is a memory of its own, which also takes what libfaketime leaves behind with killed processes.
    """
    memory = Path("/dev/shm")
    if inside:
        subprocess.run(["mount", "-t", "tmpfs", "drtool-chaos", memory], check=True)
    elif not (os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 1 << 29):
        return None
    return memory


def kept(place: Path) -> Path:
    """The histories and what the hosts remember, where they outlast this process."""
    out = Path(tempfile.mkdtemp(prefix="drtool-chaos-failed-", dir=os.environ.get("TMPDIR", "/tmp")))
    for name in ("events", "history", "errors", "hosts", "world.json"):
        subprocess.run(["cp", "-a", place / name, out], check=False)
    for manifest in place.glob("*/drtool/manifest"):
        (out / "sites").mkdir(exist_ok=True)
        subprocess.run(["cp", "-a", manifest, out / "sites" / manifest.parents[1].name], check=False)
    return out


def chatter(*, quiet: bool):
    return (lambda _text: None) if quiet else (lambda text: print(text, flush=True))


if __name__ == "__main__":
    sys.exit(main())
