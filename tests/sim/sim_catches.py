"""What catches each broken protocol: a seed in the world that shows it soonest, or a directed schedule.

A seed stands for one history of one version of the code: who changes how many requests a step takes moves it. `caught`
then looks on; `python tests/sim/run.py --catches` prints the table anew.
"""

from collections.abc import Iterator

import sim_mutations_lives  # noqa: F401 - registers its mutations
import sim_mutations_members  # noqa: F401 - the same
from sim_mutations import MUTATIONS, PROFILE
from sim_options import options_of
from sim_plots import PLOTS
from sim_run import run_seed

SEEDS_LIMIT = 400

CATCHES: dict[str, int | str] = {
    "a-voter-that-never-began-is-left-out-for-ever": "a-voter-that-never-began-and-one-that-denies-to-have",
    "absent-treated-as-initial": 71,
    "accept-without-reading-the-promise-again": 0,
    "another-past-is-remembered-by-a-host-that-finds-its-change-in-it": "a-change-that-others-finished-in-another-past",
    "ballot-used-by-two": 0,
    "compaction-that-trusts-a-change-from-before-its-listing": "a-compaction-that-is-tried-again-while-another-host-folds",
    "copy-that-goes-on-in-the-same-life": 770,
    "copy-that-is-used-without-asking": 46,
    "head-before-its-key-slots": 4,
    "head-before-its-pages": "a-page-that-one-site-never-got",
    "head-under-a-newer-key-than-its-own-slots-hold": "a-rotation-while-a-commit-folds",
    "highest-accepted-value-not-adopted": 0,
    "inbox-entries-applied-without-dedupe": 0,
    "left-in-the-inbox-is-taken-for-done": 0,
    "loss-shown-to-those-who-do-not-look": "a-compaction-by-a-host-that-a-recovery-gave-less",
    "next-configuration-on-a-stop-that-is-not-chosen": 88,
    "no-confirmation-after-collection": 102,
    "no-op-id-dedupe": 18,
    "pages-that-a-site-still-needs-are-compacted": "a-compaction-while-one-site-keeps-an-older-head",
    "promise-not-confirmed": "a-promise-that-landed-in-a-hole",
    "quorum-too-small": 1,
    "read-from-one-site": 3,
    "reader-skips-the-predecessor": 167,
    "recovery-that-looks-before-it-seals": "a-commit-between-the-look-and-the-seal-of-a-recovery",
    "register-begun-again-in-a-configuration-that-is-in-use": "a-late-finisher-and-a-register-that-was-lost",
    "rejection-of-a-head-that-is-not-final": 0,
    "sealed-before-the-next-configuration-stands": "a-switch-that-dies-when-the-old-registers-are-sealed",
    "slots-judged-by-the-number-of-a-head": 117,
    "slots-looked-at-where-a-head-is-old-only-by-its-checkpoint": 5,
    "swap-that-was-not-heard-of-taken-for-done": 160,
    "swap-without-comparing": 15,
    "tag-that-the-rule-never-saw": 17,
    "timeout-treated-as-success": 3,
    "two-values-accepted-under-one-ballot": "two-lives-of-one-machine-with-one-ballot",
    "unconfirmed-read": 29,
    "what-a-host-saw-confirmed-is-not-compared": 39,
    "what-is-drawn-follows-from-what-a-host-remembers": 42,
    "wiped-site-begins-anew-in-the-same-life": "a-promise-that-a-wiped-site-has-forgotten",
}


def caught(name: str) -> tuple[int | str | None, list[str]]:
    """What catches this mutation, and what it says was violated; None if nothing does."""
    with MUTATIONS[name]():
        for catch in _candidates(name):
            violations = PLOTS[catch]() if isinstance(catch, str) else _run(name, catch)
            if violations:
                return catch, violations
    return None, []


def _candidates(name: str) -> Iterator[int | str]:
    known = CATCHES.get(name)
    if known is not None:
        yield known
    yield from (seed for seed in range(SEEDS_LIMIT) if seed != known)


def _run(name: str, seed: int) -> list[str]:
    """A world that comes to a halt, and no more, proves nothing."""
    violations = run_seed(options_of(seed, PROFILE[name])).violations
    return [violation for violation in violations if not violation.startswith("the world stops")]
