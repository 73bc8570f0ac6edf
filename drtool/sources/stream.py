"""A stream: what a command prints, or what comes in on stdin, as one file.

Invariants
    A command that fails, after whatever output, gives no snapshot; neither does one that prints nothing, unless that is allowed.
    The stream is cut as it comes; nothing of it is laid on the disk, and it may be longer than any disk.
"""

import os
import select
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from drtool.errors import DrtoolError
from drtool.sources.children import WAIT_MS, piped, program
from drtool.sources.port import Around, Foreseen, Foresight, Readable, VirtualFile, virtual_path

_LOOK_BYTES = 1 << 20


class CommandStream:
    """A command's stdout. Fulfils `port.Source`."""

    kind = "stream"
    again = True

    def __init__(
        self, name: str, argv: Sequence[str], *, allow_empty: bool = False, directory: Path | None = None
    ) -> None:
        self._path = virtual_path(name)
        self.paths = (self._path,)
        self._argv = tuple(argv)
        self._allow_empty = allow_empty
        self._directory = directory

    def foresee(self, around: Around) -> Foresight:
        where = program(self._argv[0], around.environ, self._directory)
        return Foresight((Foreseen(self._path),), (f"would run {where}, and store what it prints",))

    def files(self, around: Around) -> Generator[VirtualFile, None, None]:
        yield VirtualFile(path=self._path, opened=lambda: self._opened(around.environ))

    @contextmanager
    def _opened(self, environ: Mapping[str, str]) -> Iterator[Readable]:
        with piped(self._argv, environ, cwd=self._directory) as output:
            yield output
        if not output.read_bytes and not self._allow_empty:
            raise DrtoolError(
                f"{self._argv[0]} ended well and printed nothing: an empty backup is none",
                hint="`allow_empty: true` beside `command:` takes it all the same",
            )


class InputStream:
    """What comes in on a descriptor: this program's stdin. Fulfils `port.Source`."""

    kind = "stream"
    again = False

    def __init__(self, name: str, descriptor: int) -> None:
        self._path = virtual_path(name)
        self.paths = (self._path,)
        self._descriptor = descriptor

    def foresee(self, around: Around) -> Foresight:
        """Reads it to its end: whoever writes into it would else be broken off."""
        size_bytes = 0
        buffer = memoryview(bytearray(_LOOK_BYTES))
        with self._opened() as stream:
            while (got := stream.readinto(buffer)) != 0:
                size_bytes += got or 0
        return Foresight((Foreseen(self._path, size_bytes),), ("read stdin to its end",))

    def files(self, around: Around) -> Generator[VirtualFile, None, None]:
        yield VirtualFile(path=self._path, opened=self._opened)

    @contextmanager
    def _opened(self) -> Iterator[Readable]:
        stream = _Arriving(self._descriptor)
        yield stream
        if not stream.read_bytes:
            raise DrtoolError(
                "stdin was empty, and an empty backup is none",
                hint="did the command before the pipe fail? `drtool backup --stdin-command -- COMMAND…` notices that",
            )


class _Arriving:
    """A descriptor that may be slow: a pipe, a socket, a terminal; or a file. Fulfils `port.Readable`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.read_bytes = 0

    def readinto(self, buffer: memoryview, /) -> int | None:
        if not select.select([self._descriptor], [], [], WAIT_MS / 1000)[0]:
            return None
        try:
            got = os.readv(self._descriptor, [buffer])
        except BlockingIOError:  # somebody made it so; the next round waits
            return None
        except OSError as error:
            raise DrtoolError(f"stdin cannot be read: {error.strerror}") from None
        self.read_bytes += got
        return got
