"""The step from ops to changes: drawing sessions, wrapping administrative ops and assigning counters, once per commit.

Invariants
    A batch that was drafted without a known outcome is drafted again as exactly the same changes, so a repeated call
    finds them.
    An op without a session gets an administrative one of its own, opened and closed in the same commit.
    Changes drafted on a head that lost also fit the head that was chosen instead, even if that one has fewer changes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from drtool.errors import UsageError
from drtool.manifest.ops import Change, CloseSession, Found, Op, OpenSession, make_change
from drtool.manifest.state import State
from drtool.model import SessionId

UNCERTAIN_CHANGES = 64
"""How many changes of the head that a batch is drafted on may turn out not to be chosen."""


class Author(msgspec.Struct, frozen=True, kw_only=True):
    """This process as recorded in sessions, so that another run on the same host can tell whether it is alive."""

    host_id: str = ""
    host: str = ""
    boot_id: str = ""
    pid_namespace: str = ""
    pid: int = 0
    start_time: int = 0


class Drafts:
    """The drafts of this process, including those in doubt."""

    def __init__(self, author: Author, draw: Callable[[int], bytes], now_ns: Callable[[], int]) -> None:
        self.author = author
        self._draw = draw
        self._now_ns = now_ns
        self._pending: dict[bytes, tuple[Change, ...]] = {}
        self._used: dict[SessionId, int] = {}

    def pending(self, batch: Sequence[Op]) -> tuple[Change, ...]:
        """Return the earlier changes of the same batch if their outcome is unknown, or otherwise an empty tuple."""
        return self._pending.get(_key(batch), ())

    def settle(self, batch: Sequence[Op]) -> None:
        """Note that the outcome of the batch is known."""
        self._pending.pop(_key(batch), None)

    def abandon(self, batch: Sequence[Op]) -> None:
        """Draft the batch as new changes the next time, although the outcome of the last ones is unknown."""
        self.settle(batch)

    def draft(self, batch: Sequence[Op], state: State) -> tuple[Change, ...]:
        """Return the batch as changes on top of `state`."""
        ops = self._with_sessions(batch, state)
        counters: dict[SessionId, int] = {}
        changes: list[Change] = []
        for session, op in ops:
            counter = counters.get(session, self._last_counter(state, session)) + 1
            counters[session] = counter
            changes.append(make_change(op, session, counter, self._now_ns(), self.author.host))
        self._used.update(counters)
        self._pending[_key(batch)] = tuple(changes)
        return tuple(changes)

    def _last_counter(self, state: State, session: SessionId) -> int:
        row = state.session(session)
        return max(row.counter if row else -1, self._used.get(session, -1))

    def _with_sessions(self, batch: Sequence[Op], state: State) -> list[tuple[SessionId, Op]]:
        admin = SessionId(b"")
        ops: list[tuple[SessionId, Op]] = []
        for op in batch:
            if isinstance(op, Found):
                raise UsageError("a manifest is founded once, by Manifest.found")
            if isinstance(op, OpenSession):
                opening = self._opening(op, state)
                ops.append((opening.session, opening))
            elif op.session:
                ops.append((op.session, op))
            else:
                if not admin:
                    opening = self._opening(OpenSession(kind="admin", **_place(self.author)), state)
                    admin = opening.session
                    ops.append((admin, opening))
                ops.append((admin, msgspec.structs.replace(op, session=admin)))
        return [*ops, (admin, CloseSession(admin))] if admin else ops

    def _opening(self, op: OpenSession, state: State) -> OpenSession:
        session = op.session or SessionId(self._draw(16))
        return msgspec.structs.replace(op, session=session, based_on=max(0, state.sequence - UNCERTAIN_CHANGES))


def _key(batch: Sequence[Op]) -> bytes:
    return msgspec.msgpack.encode(list(batch))


def _place(author: Author) -> dict[str, Any]:
    return msgspec.structs.asdict(author)
