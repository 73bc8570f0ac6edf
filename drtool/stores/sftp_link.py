"""The connection to an SSH server: created on demand, recreated after a loss, and never kept alive by a thread.

Invariants
    The event loop runs in a thread only while a caller waits for an answer, so a process may fork between calls. A forked child
    does not share its parent's connection, and nothing that it does affects it.
    A call is abandoned for lack of progress: when fewer than `ALIVE_BYTES` were acknowledged or received in `CALL_S`, which is
    more than keep-alives move. Without such counts (`TCP_INFO`), a call has `CALL_S`, and more for its bytes.
    An abandoned or cancelled call ends the connection first and only then the call, because its cleanup would ask the same
    silent server. Its request may still take effect.
    A write is sent once. A connection that was idle for a while is tested before anything is sent over it.
"""

import asyncio
import logging
import os
import selectors
import signal
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from drtool.errors import INTERRUPTS, DrtoolError, StoreError, TargetHung, TargetOffline, TargetUnanswered
from drtool.stores.sftp_login import ALIVE_S, SftpPlace, log_in, said

if TYPE_CHECKING:
    from asyncssh import SFTPClient, SSHClientConnection

T = TypeVar("T")

CALL_S = 60.0
SLOWEST_BYTES_S = 256 * 1024
ALIVE_BYTES = 4096
IDLE_S = 10.0
"""A connection that was idle for longer is tested first, which costs one round trip."""
_IDLE_TURNS = 3
_TCP_INFO_ACKED = 120
_TCP_INFO_BYTES = _TCP_INFO_ACKED + 16
_END_S = 2.0
"""The time limit for ending an abandoned call, and for a server's goodbye."""


for _library in ("asyncio", "asyncssh"):  # without a handler Python prints their warnings; important errors are raised
    logging.getLogger(_library).addHandler(logging.NullHandler())


class Runner:
    """An event loop that runs while any thread waits for it."""

    def __init__(self) -> None:
        # poll, not epoll: a forked child shares the epoll of its parent, and would remove the parent's sockets from it when it
        # collects the loop
        self._loop = asyncio.SelectorEventLoop(selectors.PollSelector())
        self._loop.set_exception_handler(_unclaimed)
        self._lock = threading.Lock()
        self._waiting = 0
        self._closing = False
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, and return or raise its result."""
        if not self._begin():
            work.close()
            raise StoreError("the connection is closed")
        try:
            ended = threading.Event()
            future = asyncio.run_coroutine_threadsafe(_announced(work, ended), self._loop)
            try:
                return future.result()
            except BaseException:  # usually Ctrl-C: the running call must end before its loop stops
                if future.cancel():
                    ended.wait(2 * _END_S)
                raise
        finally:
            self._end()

    def close(self) -> None:
        """Close now, or after the last running call, because a running loop cannot be closed."""
        with self._lock:
            self._closing = True
            if self._waiting == 0:
                self._finish()

    def _begin(self) -> bool:
        """Register a call. Return False if the runner is closed."""
        with self._lock:
            if self._closing:
                return False
            self._waiting += 1
            if self._waiting == 1:
                self._thread = threading.Thread(target=self._turn, name="drtool-sftp", daemon=True)
                self._thread.start()
            return True

    def _end(self) -> None:
        with self._lock:
            self._waiting -= 1
            if self._waiting == 0 and self._thread is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._thread = None
                if self._closing:
                    self._finish()

    def _finish(self) -> None:
        """Finish all tasks and close the loop, because asyncio complains about pending tasks."""
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.wait(left, timeout=_END_S))
        self._loop.close()

    def _turn(self) -> None:
        # signals must go to the main thread, which runs the Python handlers and could otherwise sleep on
        signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
        self._loop.run_forever()


def acknowledged_bytes(connection: socket.socket) -> int | None:
    """Return `tcpi_bytes_acked + tcpi_bytes_received` of a TCP socket (tcp(7), Linux 4.1), or None if unsupported."""
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except (AttributeError, OSError):
        return None
    return sum(struct.unpack_from("=QQ", info, _TCP_INFO_ACKED)) if len(info) == _TCP_INFO_BYTES else None


async def _announced(work: Coroutine[Any, Any, T], ended: threading.Event) -> T:
    try:
        return await work
    finally:
        ended.set()


def _unclaimed(_loop: asyncio.AbstractEventLoop, _context: dict[str, Any]) -> None:
    """Drop failures outside a call, such as requests that asyncssh sent in parallel. The call itself raises the reason."""


class Link:
    """One connection at a time to one server, for any number of threads."""

    def __init__(self, place: SftpPlace) -> None:
        self.place = place
        self._process = os.getpid()
        self._closed = False
        self._runner = Runner()
        self._connecting = asyncio.Lock()
        self._connection: SSHClientConnection | None = None
        self._client: SFTPClient | None = None
        self._used_at = self._heard_at = 0.0
        self._failed_at, self._failure = -1.0, StoreError("")

    def call(
        self,
        work: "Callable[[SFTPClient], Awaitable[T]]",
        where: str,
        *,
        writing: bool = False,
        size_bytes: int = 0,
    ) -> T:
        """Return the result of `work` on a live client. Raises TargetOffline without one, TargetUnanswered if it is lost."""
        if self._process != os.getpid() or self._closed:
            raise StoreError(f"{where}: the connection is {'closed' if self._closed else 'of another process'}")
        return self._runner.run(self._answered(work, where, CALL_S + size_bytes / SLOWEST_BYTES_S, writing=writing))

    def heard(self) -> None:
        """Report that a part of a long answer arrived, for a `work` of unknown length."""
        self._heard_at = asyncio.get_running_loop().time()

    def close(self) -> None:
        if self._process == os.getpid() and not self._closed:
            self._closed = True
            with suppress(Exception):  # the server notices anyway
                self._runner.run(self._leave())
            self._runner.close()

    async def _answered(
        self, work: "Callable[[SFTPClient], Awaitable[T]]", where: str, timeout_s: float, *, writing: bool
    ) -> T:
        client = await self._connected(where)
        try:
            return await self._in_time(work(client), client, timeout_s)
        except TimeoutError:
            raise TargetHung(
                f"{where}: {self.place.server} did not answer within {timeout_s:.3g} s",
                hint="check the server and the line to it",
            ) from None
        except DrtoolError:
            raise
        except Exception as error:  # a lost connection, or an answer that asyncssh cannot parse
            self._drop(client)
            kind = TargetUnanswered if writing else TargetOffline
            raise kind(f"{where}: the connection to {self.place.server} was lost: {said(error)}") from error
        finally:
            self._used_at = asyncio.get_running_loop().time()

    async def _in_time(self, work: Awaitable[T], client: "SFTPClient", timeout_s: float) -> T:
        """Raise TimeoutError if the work takes longer, counted from the last progress reported to `heard`."""
        loop = asyncio.get_running_loop()
        task, began = asyncio.ensure_future(work), loop.time()
        moved_bytes = self._moved_bytes()
        if moved_bytes is not None:
            timeout_s = min(timeout_s, CALL_S)
        try:
            while not task.done():
                left_s = max(began, self._heard_at) + timeout_s - loop.time()
                if left_s <= 0:
                    now_bytes = self._moved_bytes()
                    if now_bytes is None or moved_bytes is None or now_bytes - moved_bytes < ALIVE_BYTES:
                        raise TimeoutError
                    began, moved_bytes = loop.time(), now_bytes
                    continue
                await asyncio.wait({task}, timeout=left_s)
            return task.result()
        except BaseException:
            if not task.done():
                self._drop(client)
                await _ended(task)
            raise

    def _moved_bytes(self) -> int | None:
        """Return the number of bytes acknowledged and received on the connection, or None if it is unknown."""
        line = None if self._connection is None else self._connection.get_extra_info("socket")
        return None if line is None else acknowledged_bytes(line)

    async def _connected(self, where: str) -> "SFTPClient":
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        async with self._connecting:
            if self._client is not None and not await self._is_alive(self._client):
                self._drop(self._client)
            if self._client is None:
                if self._failed_at >= asked_at:  # another caller failed meanwhile, so all waiters get the same error
                    raise type(self._failure)(self._failure.message, hint=self._failure.hint)
                try:
                    self._connection, self._client = await log_in(self.place, where)
                except StoreError as error:
                    self._failed_at, self._failure = loop.time(), error
                    raise
                self._used_at = loop.time()
            return self._client

    async def _is_alive(self, client: "SFTPClient") -> bool:
        """Test the connection. Events that arrived while the loop was stopped come first: the server may have hung up."""
        import asyncssh

        for _ in range(_IDLE_TURNS):
            await asyncio.sleep(0)
        if self._connection is None or self._connection.is_closed():
            return False
        if asyncio.get_running_loop().time() - self._used_at <= IDLE_S:
            return True
        try:
            await asyncio.wait_for(client.realpath("."), ALIVE_S)
        except (asyncssh.Error, OSError):  # TimeoutError is an OSError
            return False
        return True

    def _drop(self, client: "SFTPClient") -> None:
        """Drop the connection, so that the next call reconnects. Other waiters on the same connection end too."""
        if client is self._client:
            if self._connection is not None:
                self._connection.abort()
            self._client = self._connection = None

    async def _leave(self) -> None:
        if self._client is not None:
            self._client.exit()
        if self._connection is not None:
            self._connection.close()
            try:
                await asyncio.wait_for(self._connection.wait_closed(), _END_S)
            except TimeoutError:
                self._connection.abort()
        await asyncio.sleep(0)


async def _ended(task: "asyncio.Future[T]") -> None:
    """Wait for a task whose connection is gone. If it does not fail on its own, it is cancelled."""
    await asyncio.wait({task}, timeout=_END_S / 2)
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_END_S / 2)
    if task.done() and not task.cancelled():
        task.exception()  # mark it as retrieved; the caller gets another error
