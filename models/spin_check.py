"""Check the protocol's models with Spin: `make model`. Those that must hold hold; each broken variant must fail.

Needs `spin` and a C compiler (Debian: `apt-get install spin gcc`). Every run is exhaustive within the bounds that it names.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
TIMEOUT_S = 300
MEMORY_MIB = 2000
_STATES = re.compile(r"(\d+) states, stored")
_ERRORS = re.compile(r"errors: (\d+)")


class Check(NamedTuple):
    """One model within some bounds; `holds`: whether its assertions must."""

    name: str
    model: str
    defines: tuple[str, ...]
    holds: bool


class Verdict(NamedTuple):
    """What Spin found: the number of states that it stored, and whether an assertion failed."""

    states: int
    failed: bool
    seconds: float


CHECKS = (
    Check("one chain behaves as one register", "chain.pml", ("PROPOSERS=2", "PUTS=2"), holds=True),
    Check("the same with three proposers", "chain.pml", ("PROPOSERS=3", "PUTS=1"), holds=True),
    Check("the same with puts that arrive twice", "chain.pml", ("PROPOSERS=2", "PUTS=1", "DUPLICATES=2"), holds=True),
    Check("no confirmation", "chain.pml", ("PROPOSERS=2", "PUTS=2", "NO_CONFIRMATION"), holds=False),
    Check("three rounds over registers", "manifest.pml", ("PROPOSERS=3", "CHAINS=0", "STRICT"), holds=True),
    Check("two rounds, one site a chain", "manifest.pml", ("PROPOSERS=2", "STRICT"), holds=True),
    Check("highest accepted not adopted", "manifest.pml", ("PROPOSERS=2", "NOT_ADOPTED"), holds=False),
    Check("quorum too small", "manifest.pml", ("PROPOSERS=2", "QUORUM=1"), holds=False),
    Check("accept without the promise", "manifest.pml", ("PROPOSERS=2", "NO_PROMISE_CHECK"), holds=False),
    Check("the voters change", "voters.pml", ("PROPOSERS=1", "STRICT"), holds=True),
    Check("next configuration on an unconfirmed stop", "voters.pml", ("PROPOSERS=2", "UNCONFIRMED_STOP"), holds=False),
    Check("a head with a stop is built upon", "voters.pml", ("PROPOSERS=2", "BUILDS_ON_A_STOP"), holds=False),
)


def missing_programs() -> list[str]:
    """What this machine lacks."""
    return [name for name in ("spin", "gcc") if shutil.which(name) is None]


def verify(check: Check) -> Verdict:
    """Searches every state of one model; RuntimeError if Spin could not."""
    with tempfile.TemporaryDirectory(prefix="drtool-model-") as made:
        place = Path(made)
        shutil.copy(HERE / check.model, place)
        _run(place, "spin", "-a", *(f"-D{word}" for word in check.defines), check.model)
        _run(place, "gcc", "-w", "-O1", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MIB}", "-o", "pan", "pan.c")
        began = time.monotonic()
        text = _run(place, "./pan", "-m1000000", "-E")
        seconds = time.monotonic() - began
    errors, states = _ERRORS.search(text), _STATES.search(text)
    if errors is None or states is None or "max search depth" in text or "out of memory" in text:
        raise RuntimeError(f"{check.name}: the search did not end\n{text}")
    return Verdict(int(states[1]), errors[1] != "0", seconds)


def _run(place: Path, *words: str) -> str:
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode and words[0] != "./pan":
        raise RuntimeError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


def main() -> int:
    missing = missing_programs()
    if missing:
        print(
            f"the models need {' and '.join(missing)}; on Debian and Ubuntu: apt-get install spin gcc", file=sys.stderr
        )
        return 2
    wrong = 0
    print(f"{'':44}{'states':>12}  {'s':>6}  verdict")
    for check in CHECKS:
        verdict = verify(check)
        good = verdict.failed != check.holds
        wrong += not good
        words = ("holds" if check.holds else "caught") if good else ("BROKEN" if check.holds else "NOT CAUGHT")
        print(f"{check.name:44}{verdict.states:>12,}  {verdict.seconds:6.1f}  {words}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
