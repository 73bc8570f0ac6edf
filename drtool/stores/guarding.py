"""The decorators between drtool and a target: limits > lanes > tries > circuit > watch > reserve > medium, outermost first.

The order matters. Waiting for a limit or a lane counts neither as failing nor as hanging, so these are outermost. Only servers
have lanes. Tries are outside the circuit, so that the circuit sees each of them, and an open circuit ends them
(`TargetResting` is not retried). The watch is inside, so that a hanging call opens the circuit. A query of the free space may
hang as well.

A voter's register has a circuit of its own, and a few quick tries: the manifest runs its requests on its own threads with its
own deadlines, and only its protocol can resolve a write with a lost answer. A burst of failing reads and writes of objects
does not keep a voter from voting.
"""

from collections.abc import Callable
from mmap import mmap

from msgspec import Struct

from drtool.stores.circuit import Circuit, CircuitStore
from drtool.stores.lanes import Direction, Lanes, LaneStore
from drtool.stores.limits import Bucket, LimitedStore
from drtool.stores.local import LocalStore
from drtool.stores.overlay import OverlaidStore
from drtool.stores.patience import Patience
from drtool.stores.ports import VoterStore
from drtool.stores.reserve import ReservingStore
from drtool.stores.retry import Backoff, RetryingRegister, RetryingStore
from drtool.stores.watch import CallLimits, WatchedStore
from drtool.stores.window import Window


class Rates(Struct, frozen=True, kw_only=True):
    """The rate limits for writes to and reads from each target, in bytes per second. None: unlimited."""

    upload_bytes_s: int | None = None
    download_bytes_s: int | None = None


UNLIMITED = Rates()
REGISTER_BACKOFF = Backoff(tries=3, total_s=2.0, first_s=0.1)


class Guard:
    """One target's circuit and limits, created before processes are forked, and shared by them."""

    def __init__(
        self,
        rates: Rates = UNLIMITED,
        *,
        circuit: Circuit | None = None,
        backoff: Backoff | None = None,
        call_limits: CallLimits | None = None,
        patience: Patience | None = None,
        bucket: Callable[[float], Bucket] = Bucket,
    ) -> None:
        self.circuit = circuit or Circuit()
        self._register_circuit = Circuit()
        self._lanes: tuple[Direction, ...] = ()
        self.patience = patience or Patience()
        self._left = mmap(-1, 1)  # anonymous, so forks share it
        self._backoff, self._call_limits = backoff, call_limits
        self._upload = bucket(rates.upload_bytes_s) if rates.upload_bytes_s else None
        self._download = bucket(rates.download_bytes_s) if rates.download_bytes_s else None

    def objects(self, medium: VoterStore) -> VoterStore:
        """Return the store for objects. It asks a directory for its file system, so this may hang like any call.

        A local file system is not watched: a thread costs more than most calls there, and the system itself reports a dying disk.
        Opening is always watched, by the caller.
        """
        place = medium.inner if isinstance(medium, OverlaidStore) else medium
        own = isinstance(place, LocalStore) and place.can_vote()
        reserving = ReservingStore(medium)
        watched = reserving if own else WatchedStore(reserving, self._call_limits)
        tried: VoterStore = RetryingStore(CircuitStore(watched, self.circuit), self._backoff)
        if watched.ends_when_silent:
            self._lanes = self._lanes or (
                Direction(Lanes(is_over=lambda: self.is_left), Window(is_over=lambda: self.is_left)),
                Direction(Lanes(), Window()),
            )
            tried = LaneStore(tried, *self._lanes)
        if self._upload is None and self._download is None:
            return tried
        return LimitedStore(tried, self._upload, self._download)

    def register(self, medium: VoterStore) -> VoterStore:
        """Return the same target's register, for the manifest."""
        return RetryingRegister(CircuitStore(medium, self._register_circuit), REGISTER_BACKOFF)

    def leave(self) -> None:
        """Admit no further large transfer, in any process of this command."""
        self._left[0] = 1

    def rejoin(self) -> None:
        """Let transfers begin there again, once the other processes of this command have ended."""
        for direction in self._lanes:
            direction.restart()
        self._left[0] = 0

    @property
    def is_left(self) -> bool:
        """Whether `leave` was called."""
        return bool(self._left[0])

    def close(self) -> None:
        """Close the resources of the limits."""
        for bucket in (self._upload, self._download):
            if bucket is not None:
                bucket.close()
        for direction in self._lanes:
            direction.close()
