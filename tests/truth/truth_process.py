"""What differs in the processes that run a history's commands: small limits, drawn entropy, modes that bind root too.

`command_zygote` calls `prepare` and `conditions`. The environment says the seed, and which broken variant a command is, if any.
"""

import ctypes
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

SEED = "DRTOOL_TRUTH_SEED"
VARIANT = "DRTOOL_TRUTH_VARIANT"
MODULE = "truth.truth_process"
RECENT_CHANGES = 6
RETIRED_CHANGES = 24

_CAPABILITY_VERSION = 0x20080522
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_SYSTEM = os.urandom


def prepare() -> None:
    """For the process that forks the commands, before drtool is imported: its functions take `os.urandom` as a default."""
    os.urandom = Entropy()
    bow_to_modes()


@contextmanager
def conditions() -> Iterator[None]:
    """For each command."""
    from truth.truth_broken import VARIANTS
    from truth.truth_kill import dying

    from drtool.manifest import commit, pages

    variant = os.environ.get(VARIANT)
    with (
        patch.object(commit, "RECENT_LIMIT", RECENT_CHANGES),
        patch.object(pages, "RETIRED_CHANGES", RETIRED_CHANGES),
        VARIANTS[variant]() if variant else nullcontext(),
        dying(),
    ):
        yield


def bow_to_modes() -> None:
    """Root gives up the right to write where a mode forbids it: so a read-only directory is read-only."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    without = ~((1 << _CAP_DAC_OVERRIDE) | (1 << _CAP_DAC_READ_SEARCH)) & 0xFFFFFFFF
    for place in range(3):  # effective, permitted, inheritable; the second half of `sets` is for capabilities above 31
        sets[place] &= without
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")


class Entropy:
    """`os.urandom` from the seed in the environment, so that a history that is played again draws the same keys and names.

    A process begins at the beginning, whatever its parent drew.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._drawn = (0, 0)

    def __call__(self, size: int) -> bytes:
        seed = os.environ.get(SEED)
        if seed is None:
            return _SYSTEM(size)
        with self._turn:
            process, count = self._drawn
            count = count + 1 if process == os.getpid() else 0
            self._drawn = (os.getpid(), count)
        return hashlib.shake_256(f"{seed} {count}".encode()).digest(size)
