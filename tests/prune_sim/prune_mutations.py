"""Broken protocols that the simulator must catch. What the state machine itself refuses is switched off there as well.

`World.mutation` carries the name; the actors look at it where the broken variant does something else.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from unittest.mock import patch

import msgspec

from drtool.manifest import removal
from drtool.manifest.ops import Remove
from drtool.manifest.state import State

_plain = removal.remove


def _waits_for_nobody(state: State, op: Remove) -> State:
    """As if no backup session were open."""
    after = _plain(msgspec.structs.replace(state, sessions=()), op)
    return msgspec.structs.replace(after, sessions=state.sessions)


def _looks_at_nothing(state: State, op: Remove) -> State:
    """Nor at what was added since."""
    return _waits_for_nobody(state, msgspec.structs.replace(op, marked=state.sequence))


def _with(remove: Callable[[State, Remove], State]) -> Callable[[], AbstractContextManager[object]]:
    return lambda: patch.object(removal, "remove", remove)


MUTATIONS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "a mover that stood still does not look again": nullcontext,
    "a restored prune goes on with what it saw": nullcontext,
    "another boot is proof of death": nullcontext,
    "duplicates are judged by listing": nullcontext,
    "expired writer commits all the same": nullcontext,
    "grace by clock": _with(_waits_for_nobody),
    "mover ends before its deletion is known": nullcontext,
    "mover expired by silence": nullcontext,
    "session opened after listing": nullcontext,
    "taken back after removing": _with(_looks_at_nothing),
    "the others are not read under the session": nullcontext,
    "the ring is not looked at again": nullcontext,
    "what was rewritten counts as needed": nullcontext,
}

CATCHES: dict[str, int | str] = {
    "a mover that stood still does not look again": 33,
    "a restored prune goes on with what it saw": 31,
    "another boot is proof of death": 33,
    "duplicates are judged by listing": 322,
    "expired writer commits all the same": 41,
    "grace by clock": 145,
    "mover ends before its deletion is known": "a-deletion-that-nobody-waited-for",
    "mover expired by silence": "a-mover-that-slept-in-the-midst",
    "session opened after listing": 246,
    "taken back after removing": 0,
    "the others are not read under the session": 22,
    "the ring is not looked at again": "a-mover-that-slept-before-its-session",
    "what was rewritten counts as needed": 7,
}
"""The seed or schedule that catches each. Another order of steps moves seeds: `prune_run.py --mutation NAME` finds them anew."""
