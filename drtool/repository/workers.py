"""Forked worker processes, each with a pipe: they parallelise the work on many small files, which threads cannot.

Invariants
    Forks happen only while this process runs no other thread. A worker dies with its parent: its next read finds the
    pipe closed.
    At most `WINDOW` requests wait at a worker, each well below the pipe's buffer, so neither side blocks the other for
    ever.
"""

import gc
import os
import select
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, NoReturn, TypeVar

import msgspec

from drtool.errors import INTERRUPTS, DrtoolError

WINDOW = 2
GRACE_S = 5.0
IDLE_S = 1.0
_LENGTH_BYTES = 4

Out = TypeVar("Out")
In = TypeVar("In")


class Channel(Generic[Out, In]):
    """One end of a stream of length-prefixed messages."""

    def __init__(self, end: socket.socket, decoder: "msgspec.msgpack.Decoder[In]", number: int = 0) -> None:
        """`number` is the worker's, counted from 0."""
        self.number = number
        self._end = end
        self._decoder = decoder
        self._encoder = msgspec.msgpack.Encoder()

    def fileno(self) -> int:
        return self._end.fileno()

    def send(self, message: Out) -> None:
        body = self._encoder.encode(message)
        self._end.sendall(len(body).to_bytes(_LENGTH_BYTES, "big") + body)

    def receive(self) -> In | None:
        """Return the next message, or None once the other end is closed."""
        head = self._exactly(_LENGTH_BYTES)
        if head is None:
            return None
        body = self._exactly(int.from_bytes(head, "big"))
        return None if body is None else self._decoder.decode(body)

    def _exactly(self, count: int) -> bytearray | None:
        data = bytearray(count)
        view, filled = memoryview(data), 0
        while filled < count:
            try:
                got = self._end.recv_into(view[filled:])
            except ConnectionResetError:  # also closed, by a process that died with unread requests
                got = 0
            if got == 0:
                return None
            filled += got
        return data

    def has_more(self) -> bool:
        """Return whether `receive` would return at once."""
        polled = select.poll()  # select(2) supports no descriptor above 1023
        polled.register(self._end, select.POLLIN)
        return bool(polled.poll(0))

    def close(self) -> None:
        self._end.close()


class WorkerPool(Generic[Out, In]):
    """Workers that answer every request with one reply, in the order of their requests, and may send notices in
    between.
    """

    def __init__(
        self,
        count: int,
        serve: Callable[[Channel[In, Out]], None],
        requests: "msgspec.msgpack.Decoder[Out]",
        replies: "msgspec.msgpack.Decoder[In]",
        idle: Callable[[], None] = lambda: None,
        is_notice: Callable[[In], bool] = lambda _reply: False,
    ) -> None:
        """`idle` is called every `IDLE_S` while no worker answers. `is_notice`: whether a message is not a reply."""
        self._is_notice = is_notice
        self._idle = idle
        self._channels: list[Channel[Out, In]] = []
        self._pids: list[int] = []
        self._waiting: list[int] = []
        self._death = ""
        sys.stdout.flush()
        sys.stderr.flush()
        for _ in range(count):
            self._fork(serve, requests, replies)
        self._selector = selectors.DefaultSelector()
        for number, channel in enumerate(self._channels):
            self._selector.register(channel, selectors.EVENT_READ, number)

    def _fork(
        self,
        serve: Callable[[Channel[In, Out]], None],
        requests: "msgspec.msgpack.Decoder[Out]",
        replies: "msgspec.msgpack.Decoder[In]",
    ) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            for channel in self._channels:
                channel.close()
            _work(serve, Channel(theirs, requests, len(self._channels)))
        theirs.close()
        self._channels.append(Channel(ours, replies))
        self._pids.append(pid)
        self._waiting.append(0)

    @property
    def outstanding(self) -> int:
        return sum(self._waiting)

    @property
    def count(self) -> int:
        return len(self._channels)

    def submit(self, request: Out) -> Iterator[In]:
        """Send `request` to the least busy worker, and yield the replies that had to be awaited for room."""
        while min(self._waiting) >= WINDOW:
            yield self.next_reply()
        worker = self._waiting.index(min(self._waiting))
        self._send(worker, request)

    def broadcast(self, request: Out) -> Iterator[In]:
        """Yield every outstanding reply, then each worker's reply to `request`, as they come."""
        yield from self.drain()
        for worker in range(len(self._channels)):
            self._send(worker, request)
        yield from self.drain()

    def drain(self) -> Iterator[In]:
        while self.outstanding:
            yield self.next_reply()

    def ready(self) -> Iterator[In]:
        """Yield the replies that have already arrived."""
        while self.outstanding and self._selector.select(0):
            yield self.next_reply()

    def next_reply(self) -> In:
        """Wait for one reply. DrtoolError if a worker died."""
        while not (ready := self._selector.select(IDLE_S)):
            self._idle()
        worker: int = ready[0][0].data
        with _uninterrupted():
            reply = self._channels[worker].receive()
            if reply is None:
                raise self._died(worker)
            self._waiting[worker] -= not self._is_notice(reply)
        return reply

    def _send(self, worker: int, request: Out) -> None:
        with _uninterrupted():
            try:
                self._channels[worker].send(request)
            except (BrokenPipeError, ConnectionResetError):
                raise self._died(worker) from None
            self._waiting[worker] += 1

    def _died(self, worker: int) -> DrtoolError:
        """Return the error to raise. Later calls get it again, since the worker's data is lost for good."""
        if not self._death:
            _, status = os.waitpid(self._pids[worker], 0)
            self._pids[worker] = 0
            code = os.waitstatus_to_exitcode(status)
            self._death = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        return DrtoolError(
            f"a worker process {self._death}",
            hint="if memory ran out, lower limits.workers (the next run reuses the stored data)",
        )

    def close(self) -> None:
        """End the workers. A busy one gets a short time to finish."""
        for channel in self._channels:
            channel.close()
        deadline = time.monotonic() + GRACE_S
        for pid in filter(None, self._pids):
            while os.waitpid(pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    break
                time.sleep(0.001)
        self._pids.clear()
        self._selector.close()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Block Ctrl-C until the message is complete: half of one would make the pipe useless, and stored data would be
    lost.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(serve: Callable[[Channel[In, Out]], None], channel: "Channel[In, Out]") -> NoReturn:
    """Run a forked child until its end. It never returns into the parent's code."""
    status = 1
    try:
        for number in INTERRUPTS:  # a terminal or a service manager sends them to all processes, and the parent decides
            signal.signal(number, signal.SIG_IGN)
        gc.disable()  # there are no cycles here, and a collection would touch every page shared with the parent
        serve(channel)
        status = 0
    except (BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone, so there is no receiver
    except Exception:  # noqa: BLE001 - a bug: the parent reports the death, and this shows where
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
