"""A store under the faults of a drill: overlays on top, with the medium below unchanged.

The active overlays are looked up at every call, so that a fault can begin and end while a process runs. `faults` is the
counterpart for tests: it has more kinds of wrong answers, and is confined to one process.

Invariants
    An overlay changes answers, never a stored byte. Sizes and listings stay true under `corrupt`. The same seed, object and
    size flip the same bytes, whatever range is read.
    A put of an object ends the corruption of that object.
    A call that an overlay refuses did not reach the medium: its errors are definite.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, Protocol

from blake3 import blake3
from msgspec import Struct

from drtool.errors import StoreError, TargetFull, TargetOffline, TargetReadOnly
from drtool.model import FaultKind, ObjectInfo
from drtool.stores.passing import PassingStore
from drtool.stores.ports import Buffer, Medium, Tagged, VoterStore
from drtool.stores.voting import VoteVerdict

FLIP_BYTES_MAX = 4096
SLICE_S = 0.2
"""How often a slow call checks whether the fault is over."""
ROWS_AT_ONCE = 1024
_DRAW_BYTES = 9


class Overlay(Struct, frozen=True, kw_only=True):
    """One fault on one target, caused by a step of a run."""

    id: str
    run: str
    step: str
    kind: FaultKind
    objects: tuple[str, ...] = ()
    """corrupt: the objects that are read wrong, by name below the target."""
    seed: str = ""
    flip_bytes: int = 1
    """corrupt: the number of changed bytes of each object."""
    latency_s: float = 0.0
    """slow: the additional delay of each call."""
    bytes_per_second: int | None = None
    """slow: the transfer rate, in each process."""

    @property
    def hint(self) -> str:
        return f"it ends automatically; to end it now: drtool fault clear --run {self.run}"

    def words(self, verb: str) -> str:
        return f"a drill {verb} (run {self.run}, step {self.step})"


class InForce(Protocol):
    """The source of the active overlays of one target."""

    def now(self) -> Sequence[Overlay]: ...

    def replaced(self, overlay: Overlay, name: str) -> None:
        """Report that an object was stored again: its corruption ends, durably and for every process."""


class OverlaidStore(PassingStore):
    """A store under the active overlays."""

    inner: VoterStore

    def __init__(self, inner: VoterStore, in_force: InForce, sleep: Callable[[float], None] = time.sleep) -> None:
        super().__init__(inner)
        self._in_force, self._sleep = in_force, sleep

    def put(self, name: str, data: Buffer) -> None:
        overlays = self._begin_write(name, memoryview(data).nbytes)
        self.inner.put(name, data)
        self._heal(overlays, name)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        overlays = self._begin(name)
        data = self.inner.get(name, start, length)
        if not overlays:
            return data
        self._throttle(overlays, len(data))
        for overlay in _corrupting(overlays, name):
            whole = start == 0 and length is None
            data = flipped(data, start, flips(overlay, name, len(data) if whole else self.inner.stat(name)))
        return data

    def stat(self, name: str) -> int:
        self._begin(name)
        return self.inner.stat(name)

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        self._begin(prefix)
        for number, row in enumerate(self.inner.list(prefix, start_after)):
            if not number % ROWS_AT_ONCE:
                self._check_online(self._in_force.now(), prefix)
            yield row

    def delete(self, name: str) -> None:
        self._begin_write(name, None)
        self.inner.delete(name)

    def free_bytes(self) -> int | None:
        overlays = self._begin("")
        return 0 if any(overlay.kind == "full" for overlay in overlays) else self.inner.free_bytes()

    def try_room(self, size_bytes: int) -> None:
        _refuse_writes(self._begin(""), "", size_bytes)
        self.inner.try_room(size_bytes)

    def sweep(self, directories: Sequence[str], older_than_s: float) -> int | None:
        self._begin_write("", None)
        return self.inner.sweep(directories, older_than_s)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        overlays = self._begin_write(name, len(data))
        created = self.inner.put_if_absent(name, data)
        if created:
            self._heal(overlays, name)
        return created

    def read_tagged(self, name: str) -> Tagged | None:
        overlays = self._begin(name)
        found = self.inner.read_tagged(name)
        if found is None or not overlays:
            return found
        self._throttle(overlays, len(found.data))
        data = found.data
        for overlay in _corrupting(overlays, name):
            data = flipped(data, 0, flips(overlay, name, len(data)))
        return Tagged(data=data, tag=found.tag)

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None:
        overlays = self._begin_write(name, len(data))
        tag = self.inner.compare_and_swap(name, data, expected_tag)
        if tag is not None:
            self._heal(overlays, name)
        return tag

    def _begin(self, name: str) -> Sequence[Overlay]:
        """Return the overlays that affect this call. Raises TargetOffline if the target is offline."""
        overlays = self._in_force.now()
        if not overlays:
            return overlays
        for overlay in overlays:
            if overlay.latency_s > 0:
                self._wait(overlay, overlay.latency_s)
        overlays = self._in_force.now()
        self._check_online(overlays, name)
        return overlays

    def _begin_write(self, name: str, size_bytes: int | None) -> Sequence[Overlay]:
        """Return the same for a changing call. `size_bytes` None: it needs no room."""
        overlays = self._begin(name)
        _refuse_writes(overlays, name, size_bytes)
        self._throttle(overlays, size_bytes or 0)
        return overlays

    def _check_online(self, overlays: Sequence[Overlay], name: str) -> None:
        for overlay in overlays:
            if overlay.kind == "offline":
                refuse(overlay, name)

    def _throttle(self, overlays: Sequence[Overlay], size_bytes: int) -> None:
        for overlay in overlays:
            if overlay.bytes_per_second:
                self._wait(overlay, size_bytes / overlay.bytes_per_second)

    def _wait(self, overlay: Overlay, wait_s: float) -> None:
        """Wait so long, or until the fault is over."""
        ends_at = time.monotonic() + wait_s
        while (left_s := ends_at - time.monotonic()) > 0:
            self._sleep(min(left_s, SLICE_S))
            if all(other.id != overlay.id for other in self._in_force.now()):
                return

    def _heal(self, overlays: Sequence[Overlay], name: str) -> None:
        for overlay in _corrupting(overlays, name):
            try:
                self._in_force.replaced(overlay, name)
            except OSError as error:
                raise StoreError(
                    f"{name} was stored, but a drill's fault on it could not be ended: {error.strerror}",
                    hint=f"drtool fault clear --run {overlay.run}",
                ) from error


class OverlaidMedium(OverlaidStore):
    """A medium under overlays."""

    inner: Medium

    def names(self) -> Sequence[str]:
        self._begin("")
        return self.inner.names()

    def vote_verdict(self) -> VoteVerdict:
        self._begin("")
        return self.inner.vote_verdict()


def _refuse_writes(overlays: Sequence[Overlay], name: str, size_bytes: int | None) -> None:
    for overlay in overlays:
        if overlay.kind == "read-only":
            raise TargetReadOnly(f"{overlay.words('makes it read-only')}, at {name}", hint=overlay.hint)
        if overlay.kind == "full" and size_bytes is not None:
            raise TargetFull(f"{overlay.words('leaves no room')}, at {name}", hint=overlay.hint)


def refuse(overlay: Overlay, name: str) -> NoReturn:
    """Raise the error of a target that a drill keeps offline."""
    raise TargetOffline(f"{overlay.words('keeps it offline')}, at {name or 'its root'}", hint=overlay.hint)


def _corrupting(overlays: Sequence[Overlay], name: str) -> Iterator[Overlay]:
    return (overlay for overlay in overlays if overlay.kind == "corrupt" and name in overlay.objects)


def flips(overlay: Overlay, name: str, size_bytes: int) -> dict[int, int]:
    """Return the offsets of changed bytes, with their XOR masks (never 0). Floyd's sample without repetition."""
    count = min(overlay.flip_bytes, FLIP_BYTES_MAX, size_bytes)
    draws = blake3(f"{overlay.seed}/{name}".encode()).digest(_DRAW_BYTES * max(count, 1))
    chosen: dict[int, int] = {}
    for turn, last in enumerate(range(size_bytes - count, size_bytes)):
        draw = draws[turn * _DRAW_BYTES : (turn + 1) * _DRAW_BYTES]
        offset = int.from_bytes(draw[:-1], "big") % (last + 1)
        chosen[last if offset in chosen else offset] = 1 + draw[-1] % 255
    return chosen


def flipped(data: bytes, start: int, changes: dict[int, int]) -> bytes:
    """Return the bytes from `start` with the changes that fall within them."""
    changed = bytearray(data)
    for offset, mask in changes.items():
        if 0 <= offset - start < len(changed):
            changed[offset - start] ^= mask
    return bytes(changed)
