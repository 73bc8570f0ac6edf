"""Single steps at an SSH server, on an open client of asyncssh; and what the attributes of a name say."""

import asyncio
import stat as modes
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncssh import SFTPAttrs, SFTPClient, SFTPError

AT_ONCE_BYTES = 4 << 20
"""Up to so much is asked for without knowing first how much there is: for one round trip less."""


async def read_span(client: "SFTPClient", path: str, start: int, length: int, *, synced: bool = False) -> bytes:
    """Up to `length` bytes; fewer only where the file ends. What is no regular file counts as absent; no link is followed."""
    from asyncssh import SFTPNoSuchFile

    file = await _opened(client, path)
    try:
        if synced:
            await sync(file, writing=False)
        if length <= AT_ONCE_BYTES:
            attrs, data = await asyncio.gather(file.stat(), file.read(length, start))
        else:
            attrs = await file.stat()
            data = await file.read(max(0, min(length, (attrs.size or 0) - start)), start)
    finally:
        await file.close()
    if len(data) != max(0, min(length, (file_size(attrs) or 0) - start)):
        raise SFTPNoSuchFile(f"{len(data)} bytes came, of a file of {attrs.size}")
    return bytes(data)


async def _opened(client: "SFTPClient", path: str) -> Any:  # noqa: ANN401 - asyncssh's file, whose type parameter is not told
    """A regular file, opened for reading; one round trip tells that it is one, and opens it."""
    from asyncssh import SFTPNoSuchFile

    attrs, file = await asyncio.gather(
        client.lstat(path), client.open(path, "rb", encoding=None), return_exceptions=True
    )
    if not isinstance(file, BaseException) and not isinstance(attrs, BaseException) and file_size(attrs) is not None:
        return file
    if not isinstance(file, BaseException):
        await file.close()
    for failure in (attrs, file):
        if isinstance(failure, BaseException):
            raise failure
    raise SFTPNoSuchFile("it is no regular file")


async def sync(file: Any, *, writing: bool) -> None:  # noqa: ANN401 - as above
    """Durable, where the server can do that: one that cannot stores and does not vote. A sync that fails is a failure."""
    from asyncssh import SFTPOpUnsupported, SFTPPermissionDenied

    try:
        await file.fsync()
    except SFTPOpUnsupported:
        pass
    except SFTPPermissionDenied:  # a server that only reads
        if writing:
            raise


async def discard(client: "SFTPClient", path: str) -> None:
    """Removes a temporary file that is not needed any more."""
    from asyncssh import Error

    try:
        await client.remove(path)
    except (Error, OSError):
        pass  # renamed, or the connection is gone: what stays has no object's name


async def room_bytes(client: "SFTPClient", path: str) -> int | None:
    """The room that is left; None where the server does not say."""
    from asyncssh import SFTPError

    try:
        found = await client.statvfs(path)
    except SFTPError:
        return None
    return int(found.bavail * found.frsize)


def is_lost(error: "SFTPError") -> bool:
    """Whether an error is the connection's, not the server's answer."""
    from asyncssh import SFTPConnectionLost, SFTPNoConnection

    return isinstance(error, SFTPConnectionLost | SFTPNoConnection)


def file_size(attrs: "SFTPAttrs") -> int | None:
    """A regular file's size in bytes; None for everything else."""
    return attrs.size if attrs.permissions is not None and modes.S_ISREG(attrs.permissions) else None


def is_directory(attrs: "SFTPAttrs") -> bool:
    return attrs.permissions is not None and modes.S_ISDIR(attrs.permissions)


def private_file() -> "SFTPAttrs":
    from asyncssh import SFTPAttrs

    return SFTPAttrs(permissions=0o600)


def private_directory() -> "SFTPAttrs":
    from asyncssh import SFTPAttrs

    return SFTPAttrs(permissions=0o700)
