"""Single steps at an SSH server, on an open client of asyncssh; and what the attributes of a name say."""

import asyncio
import stat as modes
from typing import TYPE_CHECKING, Any

from drtool.errors import TargetOffline
from drtool.stores.names import is_object_name

if TYPE_CHECKING:
    from asyncssh import SFTPAttrs, SFTPClient, SFTPError

AT_ONCE_BYTES = 4 << 20
"""Up to so much is asked for without knowing first how much there is: for one round trip less."""


async def read_span(client: "SFTPClient", path: str, start: int, length: int, *, synced: bool = False) -> bytes:
    """Up to `length` bytes; fewer only where the file ends. What is no regular file counts as absent; no link is followed."""
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
        raise TargetOffline(f"{path}: {len(data)} bytes came from {start} on, of a file of {attrs.size}")
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


async def same_bytes(client: "SFTPClient", path: str, data: bytes) -> bool:
    return await read_span(client, path, 0, len(data) + 1) == data


async def no_directory(client: "SFTPClient", path: str) -> OSError | None:
    """Why there is no directory at `path`, in the words of an operating system; None if there is one."""
    from asyncssh import SFTPNoSuchFile, SFTPNoSuchPath

    try:
        attrs = await client.stat(path)
    except (SFTPNoSuchFile, SFTPNoSuchPath):
        return FileNotFoundError(path)
    return None if is_directory(attrs) else NotADirectoryError(path)


async def room_bytes(client: "SFTPClient", path: str) -> int | None:
    """The room that is left; None where the server cannot say."""
    from asyncssh import SFTPOpUnsupported

    try:
        found = await client.statvfs(path)
    except SFTPOpUnsupported:
        return None
    return int(found.bavail * found.frsize)


async def is_full(client: "SFTPClient", path: str, needed_bytes: int) -> bool:
    """Whether want of room, or of inodes, explains a failure of which the server says nothing."""
    from asyncssh import SFTPError

    try:
        found = await client.statvfs(path)
    except SFTPError as error:
        if is_lost(error):
            raise
        return False
    return bool(found.bavail * found.frsize < needed_bytes or (found.files and not found.favail))


async def lacking(client: "SFTPClient", path: str) -> list[str]:
    """What a register needs and the server says that it lacks; tried with a file at `path`, which is removed again."""
    from asyncssh import SFTPError, SFTPOpUnsupported

    file = await client.open(path, "xb", attrs=private_file(), encoding=None)
    try:
        await file.fsync()
    except SFTPOpUnsupported:
        return ["fsync@openssh.com"]
    except SFTPError as error:
        if is_lost(error):
            raise
        return ["a sync that works"]
    finally:
        await file.close()
        await discard(client, path)
    return []


async def remove_empty(client: "SFTPClient", path: str) -> None:
    """Removes a directory and the directories in it, if nothing else is there."""
    from asyncssh import SFTPError

    try:
        below = [row.filename async for row in client.scandir(path)]
        for name in below:
            if isinstance(name, str) and is_object_name(name) and "/" not in name:
                await client.rmdir(f"{path}/{name}")
        await client.rmdir(path)
    except SFTPError as error:
        if is_lost(error):
            raise
        # somebody else has something there, or nothing may be removed: an empty directory harms nobody


async def remove_all(client: "SFTPClient", path: str) -> None:
    """Removes a directory with everything in it, as far as that may be; no link is followed."""
    from asyncssh import SFTPError

    try:
        await client.rmtree(path, ignore_errors=True)
    except SFTPError as error:
        if is_lost(error):
            raise


async def names_in(client: "SFTPClient", path: str) -> list[str]:
    """What is in a directory, sorted; nothing if there is none."""
    from asyncssh import SFTPNoSuchFile

    try:
        return sorted(str(name) for name in await client.listdir(path) if name not in (".", ".."))
    except SFTPNoSuchFile:
        return []


async def remove_old(client: "SFTPClient", path: str, prefix: str, before_s: float) -> int:
    """Removes the files of a directory that begin with `prefix` and were written before then; how many."""
    from asyncssh import SFTPNoSuchFile

    removed = 0
    try:
        async for row in client.scandir(path):
            name = str(row.filename)
            if (
                name.startswith(prefix)
                and file_size(row.attrs) is not None
                and (row.attrs.mtime or before_s) < before_s
            ):
                await client.remove(f"{path}/{name}")
                removed += 1
    except SFTPNoSuchFile:
        pass  # the directory went, or its writer was still there
    return removed


async def modified_at(client: "SFTPClient", path: str) -> float | None:
    """When a file was written, by its server's clock, to the second."""
    found = (await client.lstat(path)).mtime
    return None if found is None else float(found)


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
