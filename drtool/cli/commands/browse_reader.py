"""The thread that reads the repository for `browse`, so that the screen never waits for a site.

Invariants
    One job reads at a time. A new job cancels the one before it.
    Nothing is drawn here: batches go to `deliver`, which hands them to the thread that draws.
    The thread never keeps the process alive.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator

from drtool.cli.commands.browse_pages import Row
from drtool.errors import DrtoolError
from drtool.model import ChunkId
from drtool.trees import Fetch

BATCH_S = 0.05
BATCH_ROWS = 2000


class Cancelled(BaseException):
    """The result of this job is not needed any more."""


class Job:
    """One listing. `rows` yields it, with a `fetch` that ends when the job is cancelled."""

    def __init__(
        self, rows: Callable[[Fetch], Iterator[Row]], deliver: Callable[["Job", list[Row], str, bool], None]
    ) -> None:
        self.rows = rows
        self.deliver = deliver
        self.cancelled = threading.Event()


class Reader:
    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._newest: Job | None = None
        self.bug: Exception | None = None
        """An unexpected failure, for the crash report."""
        self._thread = threading.Thread(target=self._serve, daemon=True, name="browse")
        self._thread.start()

    def start(self, job: Job) -> None:
        self.cancel()
        self._newest = job
        self._jobs.put(job)

    def cancel(self) -> None:
        if self._newest is not None:
            self._newest.cancelled.set()

    def close(self, patience_s: float | None = None) -> None:
        """Cancel the job and wait for the end of its last read, at most `patience_s`."""
        self.cancel()
        self._jobs.put(None)
        self._thread.join(patience_s)

    @property
    def reads(self) -> bool:
        """Return whether the thread has not ended yet."""
        return self._thread.is_alive()

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._carry_out(job)
            except Cancelled:
                pass  # the page that asked for it was left

    def _carry_out(self, job: Job) -> None:
        def fetch(chunk: ChunkId) -> bytes:
            if job.cancelled.is_set():
                raise Cancelled
            return self._fetch(chunk)

        batch: list[Row] = []
        problem = ""
        due_s = time.monotonic() + BATCH_S
        try:
            for row in job.rows(fetch):
                batch.append(row)
                if len(batch) >= BATCH_ROWS or time.monotonic() >= due_s:
                    self._deliver(job, batch, "", done=False)
                    batch, due_s = [], time.monotonic() + BATCH_S
        except DrtoolError as error:
            problem = error.message
        except OSError as error:
            problem = error.strerror or str(error)
        except Exception as error:  # noqa: BLE001 - it is raised again in the main thread, as a bug
            self.bug = error
        self._deliver(job, batch, problem, done=True)

    @staticmethod
    def _deliver(job: Job, batch: list[Row], problem: str, *, done: bool) -> None:
        if job.cancelled.is_set():
            raise Cancelled
        try:
            job.deliver(job, batch, problem, done)
        except RuntimeError:  # the loop of the screen has ended
            raise Cancelled from None
