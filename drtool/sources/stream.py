"""A stream as one file: the output of a command, or stdin.

Invariants
    A command that fails gives no snapshot, whatever it printed before. Neither does empty output, unless it is allowed.
    The stream is chunked as it arrives. It is never written to disk, and may be longer than any disk.
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
    """A command's stdout. An implementation of `port.Source`."""

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
        return Foresight((Foreseen(self._path),), (f"would run {where} and store its output",))

    def files(self, around: Around) -> Generator[VirtualFile, None, None]:
        yield VirtualFile(path=self._path, opened=lambda: self._opened(around.environ))

    @contextmanager
    def _opened(self, environ: Mapping[str, str]) -> Iterator[Readable]:
        with piped(self._argv, environ, cwd=self._directory) as output:
            yield output
        if not output.read_bytes and not self._allow_empty:
            raise DrtoolError(
                f"{self._argv[0]} succeeded but printed nothing, so there is nothing to store",
                hint="`allow_empty: true` beside `command:` accepts empty output",
            )


class InputStream:
    """The data on a descriptor: this program's stdin. An implementation of `port.Source`."""

    kind = "stream"
    again = False

    def __init__(self, name: str, descriptor: int) -> None:
        self._path = virtual_path(name)
        self.paths = (self._path,)
        self._descriptor = descriptor

    def foresee(self, around: Around) -> Foresight:
        """Read it to its end, because its writer would otherwise fail with a broken pipe."""
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
                "stdin was empty, so there is nothing to store",
                hint="did the command before the pipe fail? `drtool backup --stdin-command -- COMMAND…` detects that",
            )


class _Arriving:
    """A descriptor that may be slow: a pipe, socket or terminal, or a file. An implementation of `port.Readable`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.read_bytes = 0

    def readinto(self, buffer: memoryview, /) -> int | None:
        if not select.select([self._descriptor], [], [], WAIT_MS / 1000)[0]:
            return None
        try:
            got = os.readv(self._descriptor, [buffer])
        except BlockingIOError:  # another process made it non-blocking; the next call waits
            return None
        except OSError as error:
            raise DrtoolError(f"stdin cannot be read: {error.strerror}") from None
        self.read_bytes += got
        return got
