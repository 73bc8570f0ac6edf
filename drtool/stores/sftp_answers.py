"""The meaning of a server's refusals, and the names of its files in messages."""

from typing import TYPE_CHECKING

from msgspec import Struct

from drtool.errors import ObjectMissing, StoreError, TargetFull, TargetOffline, TargetReadOnly, TargetUnanswered
from drtool.stores.sftp_login import SftpPlace
from drtool.stores.sftp_steps import is_full, no_directory

if TYPE_CHECKING:
    from asyncssh import SFTPClient, SFTPError

_ROOM_BYTES = 1 << 20


class Asked(Struct, frozen=True):
    """A request: the object, whether it changes something, and how many bytes it stores."""

    name: str
    writing: bool
    size_bytes: int = 0


async def meaning(client: "SFTPClient", error: "SFTPError", place: SftpPlace, asked: Asked) -> StoreError:
    """Return our error for a refusal. If the server's error has several causes, ask the server which one applies."""
    import asyncssh

    where, said = where_at(place, asked.name), error.reason or type(error).__name__
    if isinstance(error, asyncssh.SFTPNoSuchFile | asyncssh.SFTPNoSuchPath):
        if (cause := await no_directory(client, place.path)) is not None:
            return no_root(place, cause)
        if asked.writing and asked.name:
            return TargetUnanswered(f"{where}: its directory vanished")
        return ObjectMissing(f"{where} does not exist")
    if isinstance(error, asyncssh.SFTPPermissionDenied | asyncssh.SFTPWriteProtect):
        kind, verb = (TargetReadOnly, "written") if asked.writing else (StoreError, "read")
        return kind(f"{where} may not be {verb}: {said}", hint="check its owner there")
    if isinstance(error, asyncssh.SFTPNoSpaceOnFilesystem | asyncssh.SFTPQuotaExceeded):
        return _full(where)
    if asked.writing and isinstance(error, asyncssh.SFTPFailure):  # OpenSSH uses it for everything else
        if await is_full(client, place.path, asked.size_bytes + _ROOM_BYTES):
            return _full(where)
        return StoreError(f"{where} failed: {said}", hint="its server gives no reason; check quotas and its log")
    return StoreError(f"{where} failed: {said}")


def no_root(place: SftpPlace, cause: OSError) -> TargetOffline:
    """Return the error for a root that is missing, or is a file."""
    what, hint = "there is no directory", "mount it there; only `init`, `target add` and `site add` create one"
    if isinstance(cause, NotADirectoryError):
        what, hint = "there is a file, not a directory, as", "name a directory, or move the file away"
    error = TargetOffline(f"{what} {place.path} at {place.server}", hint=hint)
    error.__cause__ = cause
    return error


def path_at(place: SftpPlace, name: str) -> str:
    return f"{place.path}/{name}" if name else place.path


def where_at(place: SftpPlace, name: str) -> str:
    return f"sftp://{place.server}{path_at(place, name)}"


def _full(where: str) -> TargetFull:
    return TargetFull(f"{where} has no room left", hint="free some space there, or add a target")
