"""The standard streams, which are open from the first line of a command on.

Invariants
    Descriptors 0, 1 and 2 are never free: a file that is opened later cannot receive one of them, so a message or a child's
    output cannot end up in a pack. A stream that was closed reads as empty and takes what is written.
"""

import os
import sys

NAMES = ("stdin", "stdout", "stderr")


def open_all() -> frozenset[str]:
    """Open every closed standard stream on /dev/null. Return the names of those that were closed."""
    return frozenset(name for number, name in enumerate(NAMES) if _open(number, name))


def _open(number: int, name: str) -> bool:
    was_closed = not _is_open(number)
    if was_closed:
        occupy(number)
    if getattr(sys, name) is None:  # as Python leaves it when the descriptor was closed
        stream = open(number, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
    return was_closed


def occupy(number: int) -> None:
    """Make `number` a descriptor of /dev/null that child processes inherit."""
    opened = os.open(os.devnull, os.O_RDWR)
    if opened == number:
        os.set_inheritable(number, True)
        return
    os.dup2(opened, number)
    os.close(opened)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
