"""Threads that carry out calls in turn. Unlike a ThreadPoolExecutor's, they never keep a process from ending.

A transfer to a target that was left behind may take hours, and no call ends it: the process that began it must not wait.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeAlias

_Call: TypeAlias = tuple["Future[None]", Callable[[], None]]


class PutThreads:
    """At most `count` threads, each started when it is needed; `begin` runs first in each."""

    def __init__(self, count: int, name: str, begin: Callable[[], None]) -> None:
        self._count, self._name, self._begin = count, name, begin
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, call: Callable[[], None]) -> "Future[None]":
        """Return the outcome of `call`, which has its turn after those before it."""
        future: Future[None] = Future()
        self._calls.put((future, call))
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def shutdown(self, *, wait: bool) -> None:
        """End the threads after the calls that were handed in."""
        for _ in self._threads:
            self._calls.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _run(self) -> None:
        self._begin()
        while (item := self._calls.get()) is not None:
            future, call = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits, which raises it
                future.set_exception(error)
            else:
                future.set_result(None)
            del item, future, call  # a pack's buffer must not be kept by an idle thread
