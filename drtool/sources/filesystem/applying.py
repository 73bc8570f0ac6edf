"""An entry's metadata, put onto what was restored: owner, attributes, mode, ACLs, times, flags, in that order.

Invariants
    Owner before attributes and mode (chown clears capabilities and setuid); other attributes before mode (a mode without
    write permission forbids them); ACLs after mode (chmod rewrites their mask); times after all of these; flags last
    (an immutable file takes nothing more). An immutable or append-only file can be neither renamed nor linked, so
    `apply` leaves these two flags to `lock` if the caller still has to do that.
    What cannot be set is returned in words, never raised, and the rest is still set. A file whose owner could not be set
    does not become setuid or setgid: it would lend the wrong person's rights.
    A label that this host's policy or file system does not take (`security.selinux`) is counted and is no problem.

A target is a descriptor, or `/proc/self/fd/N` of an O_PATH descriptor: both lead to one inode, whatever its name does.
Where there is no /proc it is a name in the working directory, as bytes, which is not followed if it is a symlink.
"""

import errno
import os
import stat
from collections.abc import Callable
from enum import Enum
from functools import partial

from drtool.sources.filesystem.acls import ACLS
from drtool.sources.filesystem.attributes import (
    EARLY_FLAGS,
    HAS_XATTRS,
    LOCKING_FLAGS,
    flags_of,
    readable_xattrs,
    set_flags,
    xattrs_of,
)
from drtool.sources.filesystem.owners import OwnerIds
from drtool.sources.filesystem.reading import reason
from drtool.sources.filesystem.sight import EVERYTHING, Sight
from drtool.sources.filesystem.times import COARSEST_NS, cannot_hold, is_exact, same_time
from drtool.trees import Entry, FileType

_CAPABILITY = b"security.capability"
_REFUSED = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EACCES})
Target = int | str | bytes
_SET_IDS = stat.S_ISUID | stat.S_ISGID
_SYMLINK = int(FileType.SYMLINK)
_UNKNOWN = "left as it is, because the snapshot is of an earlier version and does not record whether it saw such ones"


class Tidy(Enum):
    """What is removed that the entry does not have."""

    NOTHING = 0
    INHERITED = 1
    """A new file has only what its directory passed on to it."""
    OLDER = 2
    """What was there before has what it had, of which the snapshot may not have seen everything."""


class Applier:
    """Puts metadata back; one for a whole restore, since it remembers who has which number on this host."""

    __slots__ = ("_ids", "_is_root", "_sight", "labels_not_set", "times_rounded", "way_problems")

    def __init__(self, ids: OwnerIds | None = None, sight: Sight = EVERYTHING) -> None:
        """`sight`: what the snapshot saw of the files that it has."""
        self._ids = ids or OwnerIds()
        self._sight = sight
        self._is_root = os.geteuid() == 0
        self.way_problems: list[str] = []
        """What could not be set of directories that were made on the way to the destination."""
        self.times_rounded = 0
        """Items whose file system holds times only to a second or two, so that theirs differ by less."""
        self.labels_not_set = 0
        """Labels that this host refused so far: its policy decides about them."""

    def apply(
        self,
        target: Target,
        entry: Entry,
        *,
        tidy: Tidy,
        with_owner: bool = True,
        lock: bool = True,
        exact_times: bool = False,
        is_way: bool = False,
    ) -> list[str]:
        """Make the target's metadata the entry's.

        `tidy`: what it may have that the entry has not. `is_way`: it is a directory that only leads to what was backed up.
        Without its owner it becomes neither setuid nor setgid. Without `lock` it stays writable until `lock` is called.
        `exact_times`: the file system is known not to round them.

        Returns what could not be set: `owner: Operation not permitted`.
        """
        problems: list[str] = []
        mode = entry.mode
        kept_flags = 0
        if tidy != Tidy.NOTHING:
            kept_flags = self._tidy(target, entry, problems, older=tidy == Tidy.OLDER, is_way=is_way)
        if not with_owner:
            mode &= ~_SET_IDS
        elif not self._owner(target, entry, problems) and mode & _SET_IDS:
            mode &= ~_SET_IDS
            problems.append("mode: without its owner it does not become setuid or setgid")
        xattrs, left_out = self._ids.xattrs(entry)
        problems += left_out
        if xattrs:
            self._xattrs(target, [pair for pair in xattrs if pair[0] not in ACLS], problems)
        if entry.type != _SYMLINK:
            self._mode(target, mode, problems)
        if xattrs:
            self._xattrs(target, [pair for pair in xattrs if pair[0] in ACLS], problems)
        self._times(target, entry.mtime_ns, problems, exact=exact_times)
        flags = kept_flags | (entry.flags if lock else entry.flags & ~LOCKING_FLAGS)
        if flags and isinstance(target, int):
            _try("flags", partial(set_flags, target, flags), problems)
        return problems

    def lock(self, fd: int, entry: Entry) -> list[str]:
        """Make a file immutable or append-only if its entry is. Returns what could not be set."""
        problems: list[str] = []
        if entry.flags & LOCKING_FLAGS:
            _try("flags", partial(set_flags, fd, entry.flags), problems)
        return problems

    def matches(self, target: Target, found: os.stat_result, entry: Entry, *, is_way: bool = False) -> bool:
        """Whether everything that `apply` sets is so already; `found` is the target's stat. OSError if unreadable."""
        return (
            self.stat_matches(found, entry)
            and self._has_xattrs(target, entry, is_way=is_way)
            and self._has_flags(target, entry, is_way=is_way)
        )

    def _has_xattrs(self, target: Target, entry: Entry, *, is_way: bool) -> bool:
        wanted = self._ids.xattrs(entry)[0]
        names = {name for name, _ in wanted}
        here = [
            pair
            for pair in _ours(xattrs_of(target, follow_symlinks=_follow(target)))
            if pair[0] in names or self._sight.of_xattr(pair[0], entry, is_way=is_way) is not False
        ]
        return here == _ours(wanted)

    def _has_flags(self, target: Target, entry: Entry, *, is_way: bool) -> bool:
        if not isinstance(target, int) or (flags := flags_of(target)) == entry.flags:
            return True
        return self._sight.of_flags(entry, is_way=is_way) is False and not entry.flags & ~flags

    def stat_matches(self, found: os.stat_result, entry: Entry) -> bool:
        """Whether type, mode, owner, mtime, size and device number are the entry's: a quick check, without opening."""
        return (
            found.st_mode >> 12 == entry.type
            and (found.st_mtime_ns == entry.mtime_ns or same_time(found, entry.mtime_ns))
            and (found.st_size == entry.size_bytes or entry.type == FileType.DIRECTORY)
            and (found.st_mode & 0o7777 == entry.mode or entry.type == _SYMLINK)
            and found.st_uid == self._ids.uid(entry.user, entry.uid)
            and found.st_gid == self._ids.gid(entry.group, entry.gid)
            and (not entry.rdev or found.st_rdev == entry.rdev)
        )

    def differing(
        self, target: Target, found: os.stat_result, entry: Entry, *, is_way: bool = False
    ) -> tuple[str, ...]:
        """Return the parts of the metadata that are not the entry's, by their names in `ls` and reports."""
        parts = self.stat_differing(found, entry)
        try:
            has_xattrs = self._has_xattrs(target, entry, is_way=is_way)
        except OSError:
            has_xattrs = False
        parts += () if has_xattrs else ("xattrs",)
        return parts if self._has_flags(target, entry, is_way=is_way) else (*parts, "flags")

    def stat_differing(self, found: os.stat_result, entry: Entry) -> tuple[str, ...]:
        """The same of what `found` tells."""
        owner = self._ids.uid(entry.user, entry.uid), self._ids.gid(entry.group, entry.gid)
        differing = {
            "device": bool(entry.rdev) and found.st_rdev != entry.rdev,
            "owner": (found.st_uid, found.st_gid) != owner,
            "mode": entry.type != _SYMLINK and found.st_mode & 0o7777 != entry.mode,
            "mtime": not same_time(found, entry.mtime_ns),
        }
        return tuple(name for name, differs in differing.items() if differs)

    def decides_flags(self, entry: Entry, *, is_way: bool = False) -> bool:
        """Return whether the snapshot saw the flags of what it has this entry of."""
        return self._sight.of_flags(entry, is_way=is_way) is True

    def may_set(self, found: os.stat_result) -> bool:
        """Return whether this process may change the metadata of what is there."""
        return self._is_root or found.st_uid == os.geteuid()

    def unseen(self, target: Target, entry: Entry) -> list[tuple[bytes, bytes]]:
        """Return the attributes of a file that the snapshot could not see, which a new file in its place gets as well."""
        if self._sight.trusted and not entry.uncaptured:
            return []
        names = {name for name, _ in entry.xattrs}
        pairs, _ = readable_xattrs(target, follow_symlinks=_follow(target))
        return [pair for pair in _ours(pairs) if pair[0] not in names and not self._sight.of_xattr(pair[0], entry)]

    def take_over(self, fd: int, pairs: list[tuple[bytes, bytes]], entry: Entry) -> list[str]:
        """Give a file attributes that the snapshot could not see. Return what could not be set, and what is unknown."""
        problems: list[str] = []
        self._xattrs(fd, pairs, problems)
        unknown = [name for name, _ in pairs if self._sight.of_xattr(name, entry) is None]
        return [*problems, *(f"xattr {os.fsdecode(name)}: {_UNKNOWN}" for name in unknown)]

    def _tidy(self, target: Target, entry: Entry, problems: list[str], *, older: bool, is_way: bool) -> int:
        """Remove what the entry does not have: inherited or older attributes, flags that would stand in the way.

        Of what was there before, what the snapshot could not see stays. Returns the flags that stay.
        """
        kept = 0
        if isinstance(target, int):
            seen = self._sight.of_flags(entry, is_way=is_way) if older else True
            kept = self._tidy_flags(target, entry, problems, seen)
        if HAS_XATTRS:
            self._tidy_xattrs(target, entry, problems, older=older, is_way=is_way)
        return kept

    def _tidy_xattrs(self, target: Target, entry: Entry, problems: list[str], *, older: bool, is_way: bool) -> None:
        wanted = {name for name, _ in entry.xattrs}
        try:
            present = os.listxattr(target, follow_symlinks=_follow(target))
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                problems.append(reason("xattrs", error))
            return
        for name in map(os.fsencode, present):
            if name in wanted or not decided_by_restore(name):
                continue
            seen = self._sight.of_xattr(name, entry, is_way=is_way) if older else True
            if seen:
                remove = partial(os.removexattr, target, name, follow_symlinks=_follow(target))
                _try(f"xattr {os.fsdecode(name)}", remove, problems)
            elif seen is None:
                problems.append(f"xattr {os.fsdecode(name)}: {_UNKNOWN}")

    def _tidy_flags(self, fd: int, entry: Entry, problems: list[str], seen: bool | None) -> int:
        """Clear the flags that the entry does not have, and return those that stay."""
        flags = flags_of(fd)
        kept = 0 if seen else flags & ~entry.flags
        if seen is None and kept:
            problems.append(f"flags: {_UNKNOWN}")
        if flags & ~entry.flags & ~kept | flags & LOCKING_FLAGS:
            _try("flags", partial(set_flags, fd, (entry.flags | kept) & ~LOCKING_FLAGS), problems)
        return kept

    def _owner(self, target: Target, entry: Entry, problems: list[str]) -> bool:
        uid, gid = self._ids.uid(entry.user, entry.uid), self._ids.gid(entry.group, entry.gid)
        try:
            os.chown(target, uid, gid, follow_symlinks=_follow(target))
        except OSError as error:
            found = _stat(target)
            if (found.st_uid, found.st_gid) == (uid, gid):
                return True
            problems.append(reason("owner", error))
        else:
            return True
        try:
            os.chown(
                target, -1, gid, follow_symlinks=_follow(target)
            )  # a group of ours we may give even without the owner
        except OSError:
            return False  # said above already
        return False

    def _mode(self, target: Target, mode: int, problems: list[str]) -> None:
        try:
            os.chmod(target, mode)
        except OSError as error:
            if stat.S_IMODE(os.stat(target).st_mode) != mode:
                problems.append(reason("mode", error))
        # Without privileges the kernel drops setgid in silence where we are not in the file's group.
        if mode & stat.S_ISGID and not self._is_root and not os.stat(target).st_mode & stat.S_ISGID:
            problems.append("mode: setgid is reserved to members of the group")

    def _xattrs(self, target: Target, pairs: list[tuple[bytes, bytes]], problems: list[str]) -> None:
        if not HAS_XATTRS and pairs:
            problems.append("xattrs: this system's Python cannot set them")
            return
        for name, value in pairs:
            try:
                os.setxattr(target, name, value, follow_symlinks=_follow(target))
            except OSError as error:
                if _is_label(name) and error.errno in _REFUSED:
                    self.labels_not_set += 1
                else:
                    problems.append(reason(f"xattr {os.fsdecode(name)}", error))

    def _times(self, target: Target, mtime_ns: int, problems: list[str], *, exact: bool) -> None:
        refused = None
        try:
            os.utime(target, ns=(mtime_ns, mtime_ns), follow_symlinks=_follow(target))
        except OSError as error:
            refused = reason("mtime", error)
        if exact and is_exact(mtime_ns) and refused is None:
            return
        found = _stat(target)
        if found.st_mtime_ns == mtime_ns:
            return
        if abs(found.st_mtime_ns - mtime_ns) < COARSEST_NS and refused is None:
            self.times_rounded += 1
        else:
            problems.append(refused or f"mtime: {cannot_hold(found, mtime_ns)}")


def _follow(target: Target) -> bool:
    return not isinstance(target, bytes)


def _stat(target: Target) -> os.stat_result:
    return os.stat(target, follow_symlinks=_follow(target))


def prepare_flags(fd: int, entry: Entry) -> None:
    """Set the flags that must precede the first byte. What fails here fails again, and is reported, in `apply`."""
    if entry.flags & EARLY_FLAGS:
        _try("flags", partial(set_flags, fd, entry.flags & EARLY_FLAGS), [])


def _try(what: str, action: Callable[[], None], problems: list[str]) -> None:
    try:
        action()
    except OSError as error:
        problems.append(reason(what, error))


def decided_by_restore(name: bytes) -> bool:
    """Whether a restore decides about this attribute; labels and signatures (`security.selinux`) are the host's."""
    return name in ACLS or name == _CAPABILITY or name.startswith((b"user.", b"trusted."))


def _is_label(name: bytes) -> bool:
    return name.startswith(b"security.") and name != _CAPABILITY


def _ours(xattrs: tuple[tuple[bytes, bytes], ...]) -> list[tuple[bytes, bytes]]:
    return [pair for pair in xattrs if decided_by_restore(pair[0])]
