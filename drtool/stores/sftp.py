"""A target that is a directory at an SSH server, over SFTP version 3. Its register uses hard links, as in a local directory.

Invariants
    An object appears whole or not at all: it is written under a temporary name, synced, and then linked (a register's record,
    which refuses an existing name) or renamed (an object, which may replace another).
    It is synced once more under its final name: SFTP cannot sync a directory, but on the journalling file systems in use the
    sync of a file also makes its newest name durable.
    `posix-rename` replaces existing files, so no record of a register ever uses it.
    A write never creates the root. A target without its root is offline.

Source: draft-ietf-secsh-filexfer-02; OpenSSH's PROTOCOL, section 4 (its extensions).
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from drtool.errors import (
    ObjectMissing,
    StoreError,
    TargetOffline,
    TargetUnanswered,
)
from drtool.model import ObjectInfo
from drtool.stores.names import PROBE_DIRECTORY, TEMPORARY_PREFIX, check_name, is_object_name, may_hold
from drtool.stores.ports import Buffer, Mode, Tagged, tag_of
from drtool.stores.probing import verdict_by_probe
from drtool.stores.several import SeveralConnections
from drtool.stores.sftp_answers import Asked, meaning, no_root, path_at, where_at
from drtool.stores.sftp_link import Link
from drtool.stores.sftp_login import SftpPlace, sftp_place
from drtool.stores.sftp_steps import (
    discard,
    file_size,
    is_directory,
    is_lost,
    lacking,
    no_directory,
    private_directory,
    private_file,
    read_span,
    remove_empty,
    remove_old,
    room_bytes,
    same_bytes,
    sync,
)
from drtool.stores.voting import VoteVerdict

if TYPE_CHECKING:
    from asyncssh import SFTPClient, SFTPClientFile

    Finish: TypeAlias = Callable[[SFTPClient, str, str, bytes], Awaitable[bool]]

__all__ = ["SftpPlace", "SftpStore", "sftp_place"]

T = TypeVar("T")
Entry: TypeAlias = tuple[str, int | None]
"""A name in a directory. A file has its size in bytes. A directory has None, and its name ends in `/`."""

TAGGED_BYTES_MAX = 4 << 20
"""The limit for tagged reads. A register's record has at most 1 MiB."""
OBJECT_BYTES_MAX = 64 << 20
"""The limit for whole objects, larger than any of ours, so that a server cannot fill the memory."""
DIRECTORIES_AT_ONCE = 16
CONNECTIONS_TRIED = 4
ENTRIES_MAX = 1_000_000


class SftpStore:
    """Objects below one directory of a server. Thread-safe."""

    ends_when_silent = True

    def __init__(self, place: SftpPlace) -> None:
        """Use `open` or `create`."""
        self.place = place
        self.link = Link(place)
        self._directories = {""}

    @classmethod
    def open(cls, place: SftpPlace) -> "SftpStore":
        """Open the target at `place`. Raises TargetOffline if there is no such directory, or no answer."""
        store = cls(place)
        try:
            store.look()
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def create(cls, place: SftpPlace) -> "SftpStore":
        """Create the directory (mode 0700) and its missing parents, or open an existing one."""
        store = cls(place)
        try:
            store.make()
            store.look()
        except BaseException:
            store.close()
            raise
        return store

    def look(self) -> None:
        """Raise TargetOffline unless the root is a directory."""
        cause = self._call("", lambda client: no_directory(client, self.place.path))
        if cause is not None:
            raise no_root(self.place, cause)

    def make(self) -> None:
        async def work(client: "SFTPClient") -> None:
            if not isinstance(await no_directory(client, self.place.path), NotADirectoryError):  # `look` reports it
                await client.makedirs(self.place.path, attrs=private_directory(), exist_ok=True)

        self._call("", work, writing=True)

    @property
    def mode(self) -> Mode:
        return "chain"

    def put(self, name: str, data: Buffer) -> None:
        self._write(name, data, self._replace)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        return self._write(name, data, self._create)

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None:
        raise StoreError(
            f"{self._where(name)} is at an SSH server, which has no compare and swap; its registers are chains"
        )

    def read_tagged(self, name: str) -> Tagged | None:
        check_name(name)

        async def work(client: "SFTPClient") -> bytes:
            # synced, because its writer may have died before it was durable
            return await read_span(client, self._path(name), 0, TAGGED_BYTES_MAX + 1, synced=True)

        try:
            data = self._call(name, work, size_bytes=TAGGED_BYTES_MAX)
        except ObjectMissing:
            return None
        if len(data) > TAGGED_BYTES_MAX:
            raise StoreError(f"{self._where(name)} is larger than a register's record can be, so it is not read")
        return Tagged(data=data, tag=tag_of(data))

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        check_name(name)
        wanted_bytes = OBJECT_BYTES_MAX + 1 if length is None else length

        async def work(client: "SFTPClient") -> bytes:
            return await read_span(client, self._path(name), start, wanted_bytes)

        data = self._call(name, work, size_bytes=length or OBJECT_BYTES_MAX)
        if length is None and len(data) > OBJECT_BYTES_MAX:
            raise StoreError(f"{self._where(name)} is larger than any object of drtool, so it is not read")
        return data

    def stat(self, name: str) -> int:
        check_name(name)

        async def work(client: "SFTPClient") -> int | None:
            return file_size(await client.lstat(self._path(name)))

        size_bytes = self._call(name, work)
        if size_bytes is None:
            raise self._missing(name)
        return size_bytes

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        self.look()
        yield from self._below("", self._entries([""])[0], prefix, start_after)

    def delete(self, name: str) -> None:
        check_name(name)

        async def work(client: "SFTPClient") -> bool:
            from asyncssh import SFTPNoSuchFile

            try:
                await client.remove(self._path(name))
            except SFTPNoSuchFile:
                return False
            return True

        if not self._call(name, work, writing=True):
            self.look()  # a missing root must not count as a deleted object

    def names(self) -> Sequence[str]:
        return [name for name, _ in self._entries([""], everything=True)[0]]

    def vote_verdict(self) -> VoteVerdict:
        path = self._path(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
        missing = self._call("", lambda client: lacking(client, path), writing=True)
        if missing:
            return VoteVerdict(
                can_vote=False, file_system="sftp", reason=f"its server does not offer {' and '.join(missing)}"
            )
        return self._probed()

    def _probed(self) -> VoteVerdict:
        """Race over several connections, because a server serves the requests of one connection in order."""
        several = SeveralConnections([self, *(SftpStore(self.place) for _ in range(CONNECTIONS_TRIED - 1))])
        try:
            return verdict_by_probe(several, "sftp")
        finally:
            several.close_others()
            self._tidy()

    def _tidy(self) -> None:
        """Remove the directories that a trial made. Its objects are already removed."""
        with suppress(TargetOffline):  # the verdict already reports it
            self._call("", lambda client: remove_empty(client, self._path(PROBE_DIRECTORY)))
        self._directories = {""}

    def free_bytes(self) -> int | None:
        async def work(client: "SFTPClient") -> int | None:
            return await room_bytes(client, self.place.path)

        return self._call("", work)

    def try_room(self, size_bytes: int) -> None:
        """Do nothing: a server reports no more than `free_bytes` does."""

    def sweep(self, directories: Sequence[str], older_than_s: float) -> int:
        before_s = time.time() - older_than_s

        async def work(client: "SFTPClient") -> int:
            swept = (remove_old(client, self._path(path), TEMPORARY_PREFIX, before_s) for path in directories)
            return sum(await asyncio.gather(*swept))

        return self._call("", work, writing=True)

    def close(self) -> None:
        self.link.close()

    # Parts of a write

    def _write(self, name: str, data: Buffer, finish: "Finish") -> bool:
        check_name(name)
        whole = bytes(data)
        parent = name.rpartition("/")[0]
        temporary = f"{f'{parent}/' if parent else ''}{TEMPORARY_PREFIX}{secrets.token_hex(8)}"

        async def work(client: "SFTPClient") -> bool:
            try:
                return await self._written(client, temporary, name, whole, finish)
            except BaseException:
                await discard(client, self._path(temporary))
                raise

        return self._call(name, work, writing=True, size_bytes=len(whole))

    async def _written(
        self,
        client: "SFTPClient",
        temporary: str,
        name: str,
        data: bytes,
        finish: "Finish",
    ) -> bool:
        file = await self._temporary_file(client, temporary)
        try:
            if data:
                await file.write(data, 0)
            await sync(file, writing=True)
            done = await finish(client, self._path(temporary), self._path(name), data)
            await _sync_name(file, self._where(name))
        finally:
            await file.close()
        return done

    async def _temporary_file(self, client: "SFTPClient", temporary: str) -> "SFTPClientFile":
        from asyncssh import SFTPNoSuchFile

        parent = temporary.rpartition("/")[0]
        try:
            await self._ready_directory(client, parent)
            return await client.open(self._path(temporary), "xb", attrs=private_file(), encoding=None)
        except SFTPNoSuchFile:  # the directory was removed concurrently; the root itself is not created again
            if not parent:
                raise
        self._directories = {""}
        await self._ready_directory(client, parent)
        return await client.open(self._path(temporary), "xb", attrs=private_file(), encoding=None)

    async def _replace(self, client: "SFTPClient", temporary: str, final: str, data: bytes) -> bool:
        from asyncssh import SFTPOpUnsupported

        try:
            await client.posix_rename(temporary, final)
        except SFTPOpUnsupported:  # there is no atomic replacement; with the same bytes, none is needed
            if not await self._create(client, temporary, final) and not await same_bytes(client, final, data):
                raise StoreError(
                    f"{final} already exists, and its server cannot replace a file atomically (posix-rename)"
                ) from None
        return True

    async def _create(self, client: "SFTPClient", temporary: str, final: str, _data: bytes = b"") -> bool:
        """Return whether this call created `final`. A refusal is examined, because servers have one error for many causes."""
        from asyncssh import SFTPError, SFTPOpUnsupported

        try:
            try:
                await client.link(temporary, final)
            except SFTPOpUnsupported:
                await client.rename(temporary, final)  # of version 3, which does not replace; the probe tries that
                return True
        except SFTPError as error:
            if is_lost(error) or not await client.lexists(final):
                raise
            await discard(client, temporary)
            return False
        await discard(client, temporary)
        return True

    async def _ready_directory(self, client: "SFTPClient", path: str) -> None:
        """Create a directory below the root, and its parents."""
        from asyncssh import SFTPError

        if path in self._directories:
            return
        await self._ready_directory(client, path.rpartition("/")[0])
        try:
            await client.mkdir(self._path(path), private_directory())
        except SFTPError as error:
            if is_lost(error) or not await client.isdir(self._path(path)):
                raise
        self._directories.add(path)

    # Listings

    def _below(self, directory: str, entries: Sequence[Entry], prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """Yield objects below a directory. Several directories are requested at once, because each costs a few round trips."""
        wanted = [
            directory + base
            for base, size in entries
            if size is None and may_hold(directory + base, prefix, start_after)
        ]
        ahead: dict[str, Sequence[Entry]] = {}
        for base, size_bytes in entries:
            path = directory + base
            if size_bytes is not None:
                if path.startswith(prefix) and path > start_after:
                    yield ObjectInfo(path, size_bytes)
            elif (wanted and path == wanted[0]) or path in ahead:
                if path not in ahead:
                    now, wanted = wanted[:DIRECTORIES_AT_ONCE], wanted[DIRECTORIES_AT_ONCE:]
                    ahead = dict(zip(now, self._entries(now), strict=True))
                yield from self._below(path, ahead.pop(path), prefix, start_after)

    def _entries(self, directories: Sequence[str], *, everything: bool = False) -> Sequence[Sequence[Entry]]:
        """Return, for each directory (all but the root end in `/`), files with sizes and directories with None, sorted."""

        async def work(client: "SFTPClient") -> Sequence[Sequence[Entry]]:
            return await asyncio.gather(*(self._scanned(client, path, everything=everything) for path in directories))

        return self._call("", work)

    async def _scanned(self, client: "SFTPClient", directory: str, *, everything: bool) -> Sequence[Entry]:
        from asyncssh import SFTPNoSuchFile

        found: list[Entry] = []
        seen = 0
        try:
            async for row in client.scandir(self._path(directory.rstrip("/"))):
                name, size_bytes = str(row.filename), file_size(row.attrs)
                if everything and name not in (".", "..") and not name.startswith(TEMPORARY_PREFIX):
                    found.append((name, size_bytes))
                elif is_object_name(name) and "/" not in name and (size_bytes is not None or is_directory(row.attrs)):
                    found.append((name if size_bytes is not None else f"{name}/", size_bytes))
                seen += 1
                self.link.heard()  # a long listing over a slow line makes progress
                if seen > ENTRIES_MAX:
                    raise StoreError(f"{self._where(directory)} has more entries than any directory of drtool")
        except SFTPNoSuchFile:
            if not directory or await no_directory(client, self.place.path) is not None:
                raise
        return sorted(found, key=itemgetter(0))

    # Requests to the server, and its answers

    def _call(
        self, name: str, work: "Callable[[SFTPClient], Awaitable[T]]", *, writing: bool = False, size_bytes: int = 0
    ) -> T:
        """Run `work`, and convert the server's refusals to our errors."""

        async def explained(client: "SFTPClient") -> T:
            from asyncssh import SFTPError, SFTPNoSuchFile, SFTPNoSuchPath

            try:
                return await work(client)
            except SFTPError as error:
                if is_lost(error):
                    raise
                if isinstance(error, SFTPNoSuchFile | SFTPNoSuchPath):
                    self._directories = {""}  # a directory may have been removed concurrently
                asked = Asked(name, writing=writing, size_bytes=size_bytes)
                raise await meaning(client, error, self.place, asked) from error

        return self.link.call(explained, self._where(name), writing=writing, size_bytes=size_bytes)

    def _missing(self, name: str) -> ObjectMissing:
        return ObjectMissing(f"{self._where(name)} does not exist")

    def _path(self, name: str) -> str:
        return path_at(self.place, name)

    def _where(self, name: str) -> str:
        return where_at(self.place, name)


async def _sync_name(file: "SFTPClientFile", where: str) -> None:
    """Sync a written object under its name. On failure it exists, but may not survive a power cut."""
    from asyncssh import SFTPError

    try:
        await sync(file, writing=True)
    except SFTPError as error:
        if is_lost(error):
            raise
        raise TargetUnanswered(f"{where} was written and could not be made durable: {error.reason}") from error
