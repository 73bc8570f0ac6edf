"""A restore's dry run: its effect, found by inspecting the destination without changes."""

import errno
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from msgspec.structs import replace

from drtool.errors import DrtoolError
from drtool.events import Emit
from drtool.operations.restore.aliases import folding_of, names_in, remember, would_be_taken_for
from drtool.operations.restore.directories import check_readable, destination_entry
from drtool.operations.restore.files import FileRestorer, failure, not_captured, words
from drtool.operations.restore.in_place import look_at_destination, refusal
from drtool.operations.restore.messages import FilePut
from drtool.operations.restore.request import RestoreRequest
from drtool.operations.restore.sweep import Sweep
from drtool.operations.restore.tally import Tally
from drtool.operations.restore.walk import Frame, Walk
from drtool.repository import Repository
from drtool.repository.lodging import lived_in
from drtool.sources.filesystem import Folder, LinkGroup, link_group, open_directory_path
from drtool.trees import Entry, FileType


def preview(
    repository: Repository,
    request: RestoreRequest,
    walk: Walk,
    above: tuple[bytes, ...],
    top: bytes,
    named: Entry | None,
    emit: Emit,
) -> Tally:
    """Return the figures of the restore itself, as far as inspection can tell. `top` names the tree to restore.

    `named`: the entry to restore, or None for the whole tree.
    """
    tally = Tally(emit, above, request)
    look = _Look(repository, request, above)
    in_snapshot = partial(names_in, top=top, fetch=repository.trees)
    sweep = Sweep(look.root, request, above, lived_in(repository), in_snapshot, tally.failed, tally.removed)
    try:
        itself = destination_entry(request, named)
        if itself is not None:
            _note(tally, sweep, (), itself, *look.would_become(itself, is_way=sweep.leads(())))
        sweep.enter(walk.top)
        for frame, entry, child in walk:
            is_restored = child is None or child.included or not request.includes
            if is_restored and (why := look.taken_for(frame, entry, in_snapshot)):
                tally.failed((*frame.names, entry.name), why)
                if child is not None:
                    child.broken = True
            elif child is None:
                put = look.would(frame.names, entry, cleared=sweep.clear_way(frame, entry))
                tally.ended(frame.names, entry, put)
            elif (why := look.refusal(child.names, is_way=sweep.is_way(child.names))) or (
                is_restored and (why := look.obstacle(frame, entry, child, in_snapshot))
            ):
                child.broken = True
                tally.failed(child.names, why)
            else:
                sweep.enter(child)
                if child.included or not request.includes:
                    if look.would_mend(child.names):
                        tally.changed(child.names, "new", ("link",))
                    enters = look.would_enter(frame.names, entry, is_way=sweep.leads(child.names))
                    _note(tally, sweep, child.names, entry, *enters)
            _leave(walk, sweep)
        _leave(walk, sweep)
        for names, message in walk.unreadable:
            tally.failed(names, message)
        tally.deleted = sweep.deleted
    finally:
        look.close()
    return tally


def _note(
    tally: Tally,
    sweep: Sweep,
    names: tuple[bytes, ...],
    entry: Entry,
    change: str,
    what: tuple[str, ...],
    is_settable: bool,
) -> None:
    """Record one directory, and the changes of its metadata."""
    what = sweep.set_parts(names, what)
    problems = sweep.lost_link(entry) if change == "new" else []
    if change == "changed" and not is_settable and what != ("type",):
        problems += _refused(what)
        what = ()
    tally.changed(names, "" if change == "changed" and not what else change, what)
    tally.directory_ended(names, entry, problems)


def _leave(walk: Walk, sweep: Sweep) -> None:
    for frame in walk.left:
        sweep.leave(frame)
    walk.left.clear()


class _Look:
    """Read-only access to the destination."""

    def __init__(self, repository: Repository, request: RestoreRequest, above: tuple[bytes, ...]) -> None:
        self._overwrite = request.overwrite
        self._to = request.to
        self._files = FileRestorer(repository, repository.chunks, request.replacing)
        self.root = look_at_destination(repository, request, above)
        self._linked: dict[LinkGroup, tuple[int, int] | None] = {}
        """Groups of hard links, with the inode that a group has at the destination and will keep."""

    def close(self) -> None:
        if self.root is not None:
            self.root.close()

    def taken_for(self, frame: Frame, entry: Entry, in_snapshot: Callable[[Frame], Iterable[bytes]]) -> str:
        """Return why one name would not be restored: the file system treats it as another one of its directory."""
        if not remember(frame, entry.name):
            return ""
        try:
            fd = self._nearest(frame.names)
        except OSError:
            return ""  # nothing is known about an unreachable place
        try:
            return would_be_taken_for(folding_of(fd), entry.name, in_snapshot(frame))
        except (OSError, DrtoolError) as error:
            return words(error)
        finally:
            os.close(fd)

    def _nearest(self, names: tuple[bytes, ...]) -> int:
        """Return a descriptor of the directory in which the names would be created, or of its nearest existing parent."""
        if self.root is None:
            above = os.path.abspath(self._to)
            while not os.path.isdir(above):
                above = os.path.dirname(above)
            return open_directory_path(above)
        while True:
            try:
                return self.root.descend((*names, b"."))
            except (FileNotFoundError, NotADirectoryError):
                if not names:
                    raise
                names = names[:-1]

    def refusal(self, names: tuple[bytes, ...], *, is_way: bool) -> str:
        """Return why nothing would be restored below a directory, because a symbolic link is in its place."""
        try:
            return refusal(self.root, names, is_way=is_way) if self.root is not None else ""
        except OSError:
            return ""  # it does not exist yet, or its parent will be replaced

    def obstacle(
        self, frame: Frame, entry: Entry, child: Frame, in_snapshot: Callable[[Frame], Iterable[bytes]]
    ) -> str:
        """Return why a directory would not be made. Empty if it would, or if it is there."""
        if frame.stands is True or (self._overwrite == "never" and frame.stands is False):
            return ""
        try:
            if frame.stands is False:
                check_readable(entry, child, in_snapshot)
            if self.root is not None and child.names not in self.root.detours:
                with Folder(self.root.descend(frame.names), self.root.applier, existed=True) as folder:
                    if folder.stat(entry.name) is None and not folder.may_write():
                        return os.strerror(errno.EACCES)
        except DrtoolError as error:
            return error.message
        except OSError:
            return ""  # what is above it is not there yet
        return ""

    def would(self, names: tuple[bytes, ...], entry: Entry, *, cleared: bool) -> FilePut:
        """Return the result for one name that is not a directory."""
        if missing := not_captured(entry):
            return FilePut(error=missing)
        put = FilePut(_data_bytes(entry), change="changed", what=("type",)) if cleared else self._at(names, entry)
        if entry.links == 1 or put.skipped or put.error:
            return put
        group, inode = link_group(entry), self._inode(names, entry)
        if group not in self._linked:
            self._linked[group] = inode if put.change == "" else None
            return put
        if put.change == "new" or inode == self._linked[group] is not None:
            return FilePut(change=put.change)
        return FilePut(change="changed", what=("link",))

    def _inode(self, names: tuple[bytes, ...], entry: Entry) -> tuple[int, int] | None:
        """Return the identity of the item at the destination under the entry's name."""
        if self.root is None:
            return None
        with suppress(OSError), Folder(self.root.descend(names), self.root.applier, existed=True) as folder:
            found = folder.stat(entry.name)
            return None if found is None else (found.st_dev, found.st_ino)
        return None

    def would_mend(self, names: tuple[bytes, ...]) -> bool:
        """Return whether a symbolic link on the way is missing and would be created again."""
        detour = self.root.detours.ways.get(names) if self.root is not None else None
        return detour is not None and bool(detour.missing)

    def would_become(self, entry: Entry, *, is_way: bool) -> tuple[str, tuple[str, ...], bool]:
        """Return the same as `would_enter`, for the destination itself."""
        if self.root is None:
            return "new", (), True
        return self._entered(self.root, replace(entry, name=b"."), is_way=is_way)

    def would_enter(self, names: tuple[bytes, ...], entry: Entry, *, is_way: bool) -> tuple[str, tuple[str, ...], bool]:
        """Return whether a directory would be `new` or `changed`, in which parts, and whether these may be set."""
        if self.root is None:
            return "new", (), True
        try:
            if (*names, entry.name) in self.root.detours:
                names, entry = (*names, entry.name), replace(entry, name=b".")
            with Folder(self.root.descend(names), self.root.applier, existed=True) as folder:
                return self._entered(folder, entry, is_way=is_way)
        except OSError:
            return "new", (), True

    def _entered(self, folder: Folder, entry: Entry, *, is_way: bool) -> tuple[str, tuple[str, ...], bool]:
        found = folder.stat(entry.name)
        if found is None:
            return "new", (), True
        what = () if self._overwrite == "never" else folder.differing(entry, is_way=is_way)
        return "changed" if what else "", what, folder.applier.may_set(found)

    def _at(self, names: tuple[bytes, ...], entry: Entry) -> FilePut:
        whole = FilePut(_data_bytes(entry), change="new")
        if self.root is None:
            return whole
        try:
            with Folder(self.root.descend(names), self.root.applier, existed=True) as folder:
                if (*names, entry.name) in self.root.detours:
                    return self._behind(names, entry) or whole
                return _if_permitted(folder, self._in(folder, entry) or whole)
        except FileNotFoundError:
            return whole
        except NotADirectoryError:  # the item there is replaced by a directory, unless everything stays
            return FilePut(skipped=True) if self._overwrite == "never" else whole
        except (OSError, DrtoolError) as error:
            return failure(error)

    def _behind(self, names: tuple[bytes, ...], entry: Entry) -> FilePut | None:
        assert self.root is not None
        fd, name = self.root.behind((*names, entry.name))
        with Folder(fd, self.root.applier, existed=True) as folder:
            return self._in(folder, replace(entry, name=name))

    def _in(self, folder: Folder, entry: Entry) -> FilePut | None:
        """Return the result, or None if it does not exist."""
        found = folder.stat(entry.name)
        if found is None:
            return None
        if self._overwrite == "never":
            return FilePut(skipped=True)
        if stat.S_ISDIR(found.st_mode):
            _check_empty(folder, entry.name)
        same_type = found.st_mode >> 12 == entry.type
        what = folder.differing(entry) if same_type else ("type",)
        if same_type and entry.type == FileType.FILE:
            if self._files.content_holds(folder, entry, found):
                if what and not folder.applier.may_set(found):
                    return FilePut(problems=_refused(what))
                return FilePut(change="changed" if what else "", what=what)
            what = ("content", *what)
        elif not what:
            return FilePut()
        return FilePut(_data_bytes(entry), change="changed", what=what)


def _refused(parts: tuple[str, ...]) -> list[str]:
    return [f"{part}: {os.strerror(errno.EPERM)}" for part in parts]


def _if_permitted(folder: Folder, put: FilePut) -> FilePut:
    """Return what would become of a name, or the error if the directory may not be written to."""
    is_written = put.change == "new" or {"content", "type", "target"} & set(put.what)
    return put if not is_written or folder.may_write() else FilePut(error=os.strerror(errno.EACCES))


def _data_bytes(entry: Entry) -> int:
    return entry.size_bytes - sum(length for _, length in entry.holes) if entry.type == FileType.FILE else 0


def _check_empty(folder: Folder, name: bytes) -> None:
    """Raise OSError if a directory is not empty, since it is then not replaced."""
    with Folder(folder.descend((name,)), folder.applier, existed=True) as inside:
        if not inside.is_empty():
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
