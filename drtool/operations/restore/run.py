"""One restore: walk the snapshot, create directories, hand files to the workers, and finish directories at the end.

Invariants
    Nothing is written before the destination is known to be empty, or the user decided what may happen to its contents.
    Directory metadata comes last, after everything in the directory. Memory holds a window of files and the waiting
    directories.
"""

import os
import stat
import time
from collections.abc import Callable
from functools import partial

from msgspec.structs import replace

from drtool.errors import DrtoolError, Refused, UsageError
from drtool.events import Emit, Progress, Stage, Warned
from drtool.model import SiteName, counted
from drtool.operations.restore.aliases import names_in, remember, taken_for
from drtool.operations.restore.directories import Directories, check_creatable, destination_entry, unlock_destination
from drtool.operations.restore.feeding import Feeder
from drtool.operations.restore.files import TAKEN, FileRestorer, MakeWay, failure, not_captured, words
from drtool.operations.restore.in_place import open_destination
from drtool.operations.restore.messages import FilePut
from drtool.operations.restore.preview import preview
from drtool.operations.restore.request import RestoreRequest, RestoreResult
from drtool.operations.restore.sweep import Sweep
from drtool.operations.restore.tally import Tally
from drtool.operations.restore.walk import Frame, Walk, named_entry, start
from drtool.repository import Repository
from drtool.repository.beyond import reach_given_up
from drtool.repository.findings import recording_reads
from drtool.repository.lodging import lived_in
from drtool.sources.filesystem import Folder, HardLinks, reason
from drtool.trees import Entry, FileType

PROGRESS_S = 0.1
_Action = Callable[[Folder, tuple[bytes, ...], Entry], FilePut]


def restore(repository: Repository, request: RestoreRequest, emit: Emit) -> RestoreResult:
    """Restore a snapshot, or a part of it, below `request.to`. Failures are listed, and the rest is restored."""
    started = time.monotonic()
    if request.path is None:
        check_destination(request)
    if request.from_sites:
        _check_sites(repository, request.from_sites)
        repository.read_only_from([SiteName(site) for site in request.from_sites])
    reach_given_up(repository)
    repository.load_index()
    repository.set_lost_packs_aside(to_read=True)  # their contents may have been stored again elsewhere
    root = request.snapshot.root
    named = named_entry(root, request.path, repository.trees)
    if request.path is not None:
        request = _checked(request, named)
    above, top = start(request.path, named, root, repository.trees)
    walk = Walk(top, request.includes, request.excludes, repository.trees, above)
    emit(Stage(name="looking" if request.dry_run else "restoring"))
    if request.dry_run:
        tally = preview(repository, request, walk, above, _top(request, named), named, emit)
    else:
        _warn_of_room(request, emit)
        run = RestoreRun(repository, request, walk, above, emit, named)
        with recording_reads(repository, emit):
            run.go()
        tally = run.tally
    if request.includes and not (walk.took_something or request.delete or tally.errors):
        raise DrtoolError(
            f"--include {request.includes[0]}: nothing in snapshot {request.snapshot.id.hex()[:8]} matches",
            hint="patterns are relative to what is restored: `drtool find NAME` shows where something is",
        )
    return RestoreResult(
        snapshot=request.snapshot.id.hex(),
        files=tally.files,
        bytes=tally.bytes,
        written_bytes=tally.written_bytes,
        skipped=tally.skipped,
        deleted=tally.deleted,
        errors=tally.errors,
        wall_seconds=round(time.monotonic() - started, 3),
        attributes_not_set=tally.attributes_not_set,
        tentative=repository.view.tentative,
    )


def _checked(request: RestoreRequest, named: Entry | None) -> RestoreRequest:
    """Return the request, checked for its destination. A single file replaces nothing by default."""
    if named is None or named.type == FileType.DIRECTORY:
        check_destination(request)
        return request
    check_destination(request, alone=named.name)
    return request if request.overwrite or request.delete else replace(request, overwrite="never")


def check_destination(request: RestoreRequest, alone: bytes | None = None) -> None:
    """Raise UsageError or Refused if the destination cannot take the tree, or the one name `alone`."""
    to = os.fsdecode(request.to)
    try:
        found = os.stat(request.to)
    except FileNotFoundError:
        if not request.in_place:
            check_creatable(request.to)
        return
    except OSError as error:
        raise UsageError(f"--to {to}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise UsageError(f"--to {to} is a file", hint="name a directory")
    if request.overwrite is not None or request.delete:
        return
    if alone is not None and os.path.lexists(os.path.join(request.to, alone)):
        raise Refused(
            f"{os.fsdecode(os.path.join(request.to, alone))} already exists, and no option says what may happen to it",
            hint="--overwrite always|if-changed|never, or another directory",
        )
    if alone is None and os.listdir(request.to):
        raise Refused(
            f"{to} is not empty, and no option says what may happen to its contents",
            hint="--overwrite always|if-changed|never, --delete to make it like the snapshot, or another directory",
        )


def _warn_of_room(request: RestoreRequest, emit: Emit) -> None:
    """Warn if the space does not suffice.

    For a whole snapshot into an empty place it is known, except for holes and compression.
    """
    to = os.path.abspath(request.to)
    if request.path or request.includes or request.excludes or (os.path.isdir(to) and os.listdir(to)):
        return
    while not os.path.exists(to):
        to = os.path.dirname(to)
    room = os.statvfs(to)
    free_bytes, needed_bytes = room.f_bavail * room.f_frsize, request.snapshot.counts.bytes
    if needed_bytes > free_bytes:
        emit(
            Warned(
                message=f"the snapshot holds {needed_bytes / 2**30:.1f} GiB, and {free_bytes / 2**30:.1f} GiB are free "
                f"where {os.fsdecode(request.to)} is"
            )
        )


def _check_sites(repository: Repository, sites: tuple[str, ...]) -> None:
    known = repository.targets.sites()
    for site in sites:
        if site not in known:
            raise UsageError(f"--from-site {site}: there is no such site", hint=f"there are {', '.join(known)}")


def _top(request: RestoreRequest, named: Entry | None) -> bytes:
    """Return the tree that is put into the destination. It is empty for a single file."""
    return request.snapshot.root if named is None else named.subtree


class RestoreRun:
    """A restore in progress."""

    def __init__(
        self,
        repository: Repository,
        request: RestoreRequest,
        walk: Walk,
        above: tuple[bytes, ...],
        emit: Emit,
        named: Entry | None,
    ) -> None:
        self._request = request
        self._walk = walk
        self._emit = emit
        itself = destination_entry(request, named)
        is_new = not os.path.exists(request.to)
        if itself is not None:
            unlock_destination(request.to)
        self._root = open_destination(repository, request, above)
        self._names_in = partial(names_in, top=_top(request, named), fetch=repository.trees)
        self._links = HardLinks(self._root)
        self._files = FileRestorer(repository, repository.chunks, request.replacing)
        self._shown_at = 0.0
        self.tally = Tally(emit, above, request)
        self.tally.imperfect((), self._root.applier.way_problems)
        self._sweep = Sweep(
            self._root,
            request,
            above,
            lived_in(repository),
            self._names_in,
            self.tally.failed,
            self.tally.removed,
        )
        self._directories = Directories(self._root, request, itself, is_new, self._sweep, self.tally, self._names_in)
        self._feeder = Feeder(
            repository, self._root, request.replacing, request.workers, self._files, self.tally, self._tick
        )

    def go(self) -> None:
        try:
            self._sweep.enter(self._walk.top)
            for frame, entry, child in self._walk:
                self._take(frame, entry, child)
                self._leave()
                self._check_room()
                self._tick()
            self._leave()
            self._feeder.finish()
            self._check_room()
            self._lock_links()
            self._directories.finish_all()
            self.tally.deleted = self._sweep.deleted
            self._count_imperfect()
        finally:
            self._feeder.close()
            self._root.close()

    def _count_imperfect(self) -> None:
        """Count attributes that this host or its file system does not support, without an error for each item."""
        applier = self._root.applier
        self.tally.attributes_not_set += applier.labels_not_set + applier.times_rounded
        if applier.times_rounded:
            items = counted(applier.times_rounded, "item")
            where = os.fsdecode(self._request.to)
            self._emit(
                Warned(message=f"the file system of {where} rounds times: those of {items} differ by less than 2 s")
            )

    def _check_room(self) -> None:
        if self.tally.full:
            raise DrtoolError(
                f"no space is left where {os.fsdecode(self._request.to)} is: {self.tally.files:,} files are restored, "
                "the others are not",
                hint="make room, or restore elsewhere; with --overwrite if-changed the same command goes on from here",
            )

    def _take(self, frame: Frame, entry: Entry, child: Frame | None) -> None:
        if (child is None or child.included or not self._request.includes) and self._is_alias(frame, entry):
            if child is not None:
                child.broken = True
            return
        if child is not None:
            if child.included or not self._request.includes:
                child.included = True
                self._directories.make(child)
            if not child.broken:
                self._sweep.enter(child)
            return
        if not self._directories.make(frame):
            self.tally.skipped += frame.kept
            return
        action = self._action(frame, entry)
        if action is None:
            self._feeder.take(frame.names, entry)
        else:
            self.tally.ended(frame.names, entry, self._guarded(frame.names, entry, action))

    def _action(self, frame: Frame, entry: Entry) -> _Action | None:
        """Return how one name that is not a directory is restored, or None for a file that a worker can write."""
        if self._root.detours and (*frame.names, entry.name) in self._root.detours:
            return self._behind_link
        is_plain = entry.type == FileType.FILE and entry.links == 1
        if is_plain and not self._sweep.is_folder_in_way(frame):
            return None
        make_way = partial(self._sweep.clear_way, frame, entry)
        if is_plain:
            return lambda folder, _, entry: self._files.put(folder, entry, make_way=make_way)
        return partial(self._linked if entry.links > 1 else self._special, make_way=make_way)

    def _is_alias(self, frame: Frame, entry: Entry) -> bool:
        """Return whether the destination treats a name as another one of the directory, which is reported."""
        if not remember(frame, entry.name) or not self._directories.make(frame):
            return False
        try:
            with self._directories.folder(frame.names) as folder:
                why = taken_for(folder, entry.name, self._names_in(frame))
        except (OSError, DrtoolError) as error:
            why = words(error)
        if why:
            self.tally.failed((*frame.names, entry.name), why)
        return bool(why)

    def _leave(self) -> None:
        """Finish directories that the walk has left, once the files handed over so far are done."""
        for frame in self._walk.left:
            self._sweep.leave(frame)
            self._directories.left(frame, self._feeder.last_task())
        self._walk.left.clear()
        for names, message in self._walk.unreadable:
            self.tally.failed(names, message)
        self._walk.unreadable.clear()
        self._directories.finish_up_to(self._feeder.done_up_to())

    def _lock_links(self) -> None:
        for names, problems in self._links.lock():
            self.tally.imperfect(names, problems)

    def _guarded(self, names: tuple[bytes, ...], entry: Entry, action: _Action) -> FilePut:
        try:
            with self._directories.folder(names) as folder:
                return action(folder, names, entry)
        except (OSError, DrtoolError) as error:
            return failure(error)

    def _behind_link(self, _: Folder, names: tuple[bytes, ...], entry: Entry) -> FilePut:
        """Restore a file that was backed up through a symbolic link, which stays or is created again."""
        self._root.goes_through((*names, entry.name))
        self._root.mend_link((*names, entry.name))
        fd, name = self._root.behind((*names, entry.name))
        with Folder(fd, self._root.applier, existed=True) as folder:
            return self._files.put(folder, replace(entry, name=name))

    def _linked(self, folder: Folder, names: tuple[bytes, ...], entry: Entry, make_way: MakeWay) -> FilePut:
        """Restore one name of a file with several: a link to the first one, or a copy if it cannot be linked."""
        found = folder.stat(entry.name)
        if found is not None and self._request.overwrite == "never":
            return FilePut(skipped=True)
        if found is not None and self._links.is_linked(entry, found):
            return FilePut()
        if found is not None and self._request.replacing is None:
            return FilePut(error=TAKEN)
        refused = None
        try:
            if self._links.link(entry, folder, make_way):
                return FilePut(change="new") if found is None else FilePut(change="changed", what=("link",))
        except OSError as error:
            refused = f"{reason('hard link', error)}; it is a copy now"
        is_file = entry.type == FileType.FILE
        if is_file:
            put = self._files.put(folder, entry, lock=False, make_way=make_way)
        else:
            put = self._special(folder, names, entry, make_way)
        now = folder.stat(entry.name)
        if put.error or put.skipped or now is None:
            return put
        self._links.remember(entry, (*names, entry.name), now)
        return replace(put, problems=[refused, *put.problems]) if refused else put

    def _special(self, folder: Folder, _: tuple[bytes, ...], entry: Entry, make_way: MakeWay) -> FilePut:
        if missing := not_captured(entry):
            return FilePut(error=missing)
        found = folder.stat(entry.name)
        if found is None:
            return FilePut(problems=folder.make(entry), change="new")
        if self._request.overwrite == "never":
            return FilePut(skipped=True)
        if self._request.replacing is None:
            return FilePut(error=TAKEN)
        if found.st_mode >> 12 == entry.type and found.st_nlink <= entry.links and folder.matches(entry):
            return FilePut()
        what = folder.differing(entry) if self._request.names_items else ()
        temporary, problems = folder.make_beside(entry)
        try:
            make_way()
            folder.replace(temporary, entry.name)
        except BaseException:
            folder.discard(temporary)
            raise
        return FilePut(problems=problems, change="changed", what=what)

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._shown_at >= PROGRESS_S:
            self._shown_at = now
            counts = self._request.snapshot.counts
            in_place_bytes, written_bytes = self._feeder.unfinished_bytes()
            in_work = self._feeder.in_work
            self._emit(
                Progress(
                    source=self._request.snapshot.source,
                    item=self.tally.path_of(in_work) if in_work else "",
                    files=self.tally.files,
                    total_files=None if self._request.path else counts.files,
                    processed_bytes=self.tally.bytes + in_place_bytes,
                    total_bytes=None if self._request.path else counts.bytes,
                    stored_bytes=self.tally.written_bytes + written_bytes,
                )
            )
