"""What a seed means: the world's faults, its size, the workload. Printed with a failure, and all that is needed again."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from sim_world import Faults

from drtool.manifest.head import Head, open_head
from drtool.manifest.ports import Keys
from drtool.paxos import majority

_HEAD_READERS = [
    f"drtool.manifest.{name}"
    for name in ("audit", "commit", "compacting", "finding", "holdings", "keyslots", "library", "registers")
]

PROFILES = {
    "calm": Faults(),
    "lossy": Faults(lost_request=0.04, lost_reply=0.04, late=0.04, duplicate=0.05),
    "stalls": Faults(stall=0.03, late=0.03, duplicate=0.05),
    "crashes": Faults(crash=0.004, lost_reply=0.02, late=0.02),
    "partitions": Faults(partitions=4, lost_reply=0.02),
    "everything": Faults(0.02, 0.02, 0.03, 0.05, 0.01, 0.003, 2),
    "wiped": Faults(lost_reply=0.02, late=0.06, duplicate=0.2, stall=0.01, partitions=2, wiped=True),
    "rolled-back": Faults(lost_reply=0.02, late=0.05, duplicate=0.1, stall=0.01, partitions=3, rolled_back=True),
    "voters": Faults(0.01, 0.02, 0.03, 0.05, 0.01, 0.002, 2, voters=2),
    "recovery": Faults(lost_reply=0.02, late=0.02, duplicate=0.03, crash=0.002, recovery=True),
    "lying": Faults(lost_reply=0.02, late=0.03, duplicate=0.05, crash=0.002, partitions=2, lying=True),
    "rotated": Faults(0.01, 0.02, 0.02, 0.05, 0.005, 0.002, 1, voters=1, rotations=1),
    "copied": Faults(0.01, 0.02, 0.02, 0.05, 0.005, 0.002, 2, copied=True),
    "crowd": Faults(0.01, 0.02, 0.03, 0.05, 0.003, 0.001, 2, crowd=6),
    "images": Faults(0.01, 0.02, 0.03, 0.05, 0.005, 0.003, 1, images=3),
}


@dataclass(frozen=True)
class Options:
    """What a seed means."""

    seed: int
    profile: str
    site_count: int
    clients: int
    operations: int
    recent_limit: int
    collect_every: int
    fan_out: int
    retired_changes: int
    cas_sites: int = 0  # how many registers move on by compare and swap; the others are chains
    spares: int = 0  # sites that do not vote yet
    liars: int = 0  # how many sites the quorum can bear that lie, or forgot what they knew
    rude: bool = False  # nobody waits for his turn: no safety may hang on courtesy

    @property
    def faults(self) -> Faults:
        return PROFILES[self.profile]

    @property
    def quorum(self) -> int:
        return majority(self.site_count, self.liars)

    @property
    def trusted(self) -> bool:
        """Whether every fault of this world is one that the protocol prevents from ever being seen."""
        return self.liars > 0 or not (self.faults.rolled_back or self.faults.lying or self.faults.recovery)


def options_of(seed: int, profile: str | None = None) -> Options:
    rng = random.Random(f"options {seed}")
    profile = profile or rng.choice(list(PROFILES))
    faults = PROFILES[profile]
    liars = rng.choice((0, 1)) if faults.rolled_back or faults.lying else 0
    return Options(
        seed=seed,
        profile=profile,
        site_count=rng.choice((4, 5, 5, 7) if liars else (3, 3, 3, 5, 7)),
        clients=rng.randint(2, 4) + faults.crowd,
        operations=rng.randint(2, 5),
        recent_limit=rng.choice((5, 8, 64)),
        collect_every=rng.choice((1, 2, 16)),
        fan_out=rng.choice((2, 8)),
        retired_changes=rng.choice((10, 256)),
        cas_sites=rng.choice((0, 0, 1, 2, 7)),
        spares=rng.choice((1, 2, 3)) if faults.voters else 0,
        liars=liars,
        rude=rng.random() < 0.5,
    )


class RememberedHeads:
    """Opens each sealed head once: a seed reads the same one hundreds of times. What does not open is tried every time."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def __call__(self, keys: Keys, value: bytes) -> Head:
        known = self._known.get(value)
        if known is None:
            known = self._known[value] = open_head(keys, value)
        return known


@contextmanager
def limits_of(options: Options) -> Iterator[None]:
    """Small limits, so that a short history folds, merges and collects."""
    heads = RememberedHeads()
    with ExitStack() as stack:
        for name, value in (
            ("commit.RECENT_LIMIT", options.recent_limit),
            ("chain.COLLECT_EVERY", options.collect_every),
            ("pages.FAN_OUT", options.fan_out),
            ("pages.LEVEL_ROWS", (8, 32)),
            ("pages.RETIRED_CHANGES", options.retired_changes),
        ):
            stack.enter_context(patch(f"drtool.manifest.{name}", value))
        for module in _HEAD_READERS:
            stack.enter_context(patch(f"{module}.open_head", heads))
        for rule in ("proposer._goes_first", "commit.Turns.waits") if options.rude else ():
            stack.enter_context(patch(f"drtool.manifest.{rule}", lambda *_words: False))
        yield
