"""Single operations at an SSH server on an open asyncssh client, and readers of file attributes."""

import asyncio
import stat as modes
from typing import TYPE_CHECKING, Any

from drtool.errors import TargetOffline
from drtool.stores.names import is_object_name

if TYPE_CHECKING:
    from asyncssh import SFTPAttrs, SFTPClient, SFTPError

AT_ONCE_BYTES = 4 << 20
"""Up to this size is requested without asking for the file's size first, which saves one round trip."""


async def read_span(client: "SFTPClient", path: str, start: int, length: int, *, synced: bool = False) -> bytes:
    """Return up to `length` bytes, fewer only at the end. A file that is not regular counts as absent. Links are not followed."""
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
        raise TargetOffline(f"{path}: {len(data)} bytes arrived from offset {start} of a file of {attrs.size} bytes")
    return bytes(data)


async def _opened(client: "SFTPClient", path: str) -> Any:  # noqa: ANN401 - asyncssh's file, whose type parameter is not told
    """Open a regular file for reading. One round trip both opens it and checks its type."""
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
    raise SFTPNoSuchFile("it is not a regular file")


async def sync(file: Any, *, writing: bool) -> None:  # noqa: ANN401 - as above
    """Sync a file if the server supports it (one that does not can store, but not vote). A failed sync is a failure."""
    from asyncssh import SFTPOpUnsupported, SFTPPermissionDenied

    try:
        await file.fsync()
    except SFTPOpUnsupported:
        pass
    except SFTPPermissionDenied:  # a read-only server
        if writing:
            raise


async def discard(client: "SFTPClient", path: str) -> None:
    """Remove a temporary file."""
    from asyncssh import Error

    try:
        await client.remove(path)
    except (Error, OSError):
        pass  # already renamed, or the connection is gone; leftovers are not objects


async def same_bytes(client: "SFTPClient", path: str, data: bytes) -> bool:
    return await read_span(client, path, 0, len(data) + 1) == data


async def no_directory(client: "SFTPClient", path: str) -> OSError | None:
    """Return why there is no directory at `path`, as an operating system error, or None if there is one."""
    from asyncssh import SFTPNoSuchFile, SFTPNoSuchPath

    try:
        attrs = await client.stat(path)
    except (SFTPNoSuchFile, SFTPNoSuchPath):
        return FileNotFoundError(path)
    return None if is_directory(attrs) else NotADirectoryError(path)


async def room_bytes(client: "SFTPClient", path: str) -> int | None:
    """Return the free space, or None if the server cannot report it."""
    from asyncssh import SFTPOpUnsupported

    try:
        found = await client.statvfs(path)
    except SFTPOpUnsupported:
        return None
    return int(found.bavail * found.frsize)


async def is_full(client: "SFTPClient", path: str, needed_bytes: int) -> bool:
    """Return whether lack of space or inodes explains a failure without a reason."""
    from asyncssh import SFTPError

    try:
        found = await client.statvfs(path)
    except SFTPError as error:
        if is_lost(error):
            raise
        return False
    return bool(found.bavail * found.frsize < needed_bytes or (found.files and not found.favail))


async def lacking(client: "SFTPClient", path: str) -> list[str]:
    """Return the register's requirements that the server does not offer, tried with a temporary file at `path`."""
    from asyncssh import SFTPError, SFTPOpUnsupported

    file = await client.open(path, "xb", attrs=private_file(), encoding=None)
    try:
        await file.fsync()
    except SFTPOpUnsupported:
        return ["fsync@openssh.com"]
    except SFTPError as error:
        if is_lost(error):
            raise
        return ["a working sync"]
    finally:
        await file.close()
        await discard(client, path)
    return []


async def remove_empty(client: "SFTPClient", path: str) -> None:
    """Remove a directory and its subdirectories if they contain nothing else."""
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
        # it is in use, or may not be removed; an empty directory is harmless


async def remove_all(client: "SFTPClient", path: str) -> None:
    """Remove a directory and its contents, as far as permitted. Links are not followed."""
    from asyncssh import SFTPError

    try:
        await client.rmtree(path, ignore_errors=True)
    except SFTPError as error:
        if is_lost(error):
            raise


async def names_in(client: "SFTPClient", path: str) -> list[str]:
    """Return the names in a directory, sorted, or an empty list if there is none."""
    from asyncssh import SFTPNoSuchFile

    try:
        return sorted(str(name) for name in await client.listdir(path) if name not in (".", ".."))
    except SFTPNoSuchFile:
        return []


async def remove_old(client: "SFTPClient", path: str, prefix: str, before_s: float) -> int:
    """Remove the files of a directory that begin with `prefix` and are older than `before_s`, and return their number."""
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
        pass  # the directory or a file was removed concurrently
    return removed


async def modified_at(client: "SFTPClient", path: str) -> float | None:
    """Return when a file was written, by its server's clock, to the second."""
    found = (await client.lstat(path)).mtime
    return None if found is None else float(found)


def is_lost(error: "SFTPError") -> bool:
    """Return whether an error is a lost connection, instead of an answer of the server."""
    from asyncssh import SFTPConnectionLost, SFTPNoConnection

    return isinstance(error, SFTPConnectionLost | SFTPNoConnection)


def file_size(attrs: "SFTPAttrs") -> int | None:
    """Return a regular file's size in bytes, or None for any other file."""
    return attrs.size if attrs.permissions is not None and modes.S_ISREG(attrs.permissions) else None


def is_directory(attrs: "SFTPAttrs") -> bool:
    return attrs.permissions is not None and modes.S_ISDIR(attrs.permissions)


def private_file() -> "SFTPAttrs":
    from asyncssh import SFTPAttrs

    return SFTPAttrs(permissions=0o600)


def private_directory() -> "SFTPAttrs":
    from asyncssh import SFTPAttrs

    return SFTPAttrs(permissions=0o700)
