"""How much of something long is tried: all of it by `make test-all`, a sample by `make test`.

A test that takes a share by `STRIDE` or `sample` carries the marker `sampled`. A test that waits for servers, or repeats at
length what a shorter test already shows, carries the marker `thorough` and is left out of `make test`. `make test-all`, which
CI runs, goes on with both in full after `make test`.
"""

import os

THOROUGH = bool(os.environ.get("THOROUGH"))
STRIDE = 1 if THOROUGH else 7
"""Steps from one trial to the next. The first and the last step are always among them."""


def sample(everything: int, share: float = 0.25) -> int:
    """Return how many of `everything` (seeds, examples) to try: all of them, or a share of at least one."""
    return everything if THOROUGH else max(1, round(everything * share))
