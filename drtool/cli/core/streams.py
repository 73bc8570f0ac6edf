"""The standard streams, which are open from the first line of a command on.

Invariants
    Descriptors 0, 1 and 2 are never free. A file that is opened later cannot receive one of them, so a message or a child's
    output cannot end up in a pack. A closed stream reads as empty and accepts writes.
    Every byte for stdout is written, or an OSError gives the reason. Python's own stream ignores short writes if
    `PYTHONUNBUFFERED` is set, and fails if a non-blocking pipe is full.
"""

import errno
import io
import os
import sys

TYPE_CHECKING = False  # importing typing would double the time of `drtool --version`
if TYPE_CHECKING:
    from typing_extensions import Buffer

NAMES = ("stdin", "stdout", "stderr")


def open_all() -> frozenset[str]:
    """Open every closed standard stream on /dev/null. Return the names of those that were closed."""
    return frozenset(name for number, name in enumerate(NAMES) if _open(number, name))


def _open(number: int, name: str) -> bool:
    was_closed = not _is_open(number)
    if was_closed:
        occupy(number)
    if getattr(sys, name) is None:  # Python leaves None if the descriptor was closed
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


class FullWriter(io.RawIOBase):
    """A writer to a descriptor that accepts every byte, or raises OSError with the name of the stream."""

    def __init__(self, number: int, name: str) -> None:
        self._number, self._name = number, name

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: "Buffer", /) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            left = left[self._write_some(left) :]
        return size

    def _write_some(self, data: memoryview) -> int:
        try:
            written = os.write(self._number, data)
        except BlockingIOError:
            self._wait()
            return 0
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._name) from None
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._name)
        return written

    def _wait(self) -> None:
        """Wait until the reader of a non-blocking stream has made room, or has gone."""
        import select

        poll = select.poll()
        poll.register(self._number, select.POLLOUT)
        poll.poll()


def buffer_stdout() -> None:
    """Make `sys.stdout` a buffered stream that writes every byte, in place of Python's own."""
    stream = sys.stdout
    if type(stream) is not io.TextIOWrapper or stream.fileno() != 1:  # a test's stream, which collects the output
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        return
    stream.flush()
    writer = io.BufferedWriter(FullWriter(1, "stdout"), io.DEFAULT_BUFFER_SIZE * 8)
    sys.stdout = io.TextIOWrapper(
        writer, encoding=stream.encoding, errors="backslashreplace", line_buffering=stream.isatty()
    )
