"""Which places of the file system one snapshot takes: the paths that the user named, and the way down to them.

Invariants
    The tree starts at `/`. Directories above a named path contribute their metadata and the one name that leads on.
    What the user named is taken whatever the rules say: it is never excluded, a symlink there is followed, and a named
    mount point is entered. One named twice, or below another named path, is stored once.
"""

import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

import msgspec


class Problem(NamedTuple):
    """A path that could not be captured or put back, and why, in words."""

    path: bytes
    message: str


class Roots(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of one snapshot's paths."""

    paths: tuple[bytes, ...]
    """What is there, absolute, sorted, without duplicates and without what lies below another."""
    missing: tuple[bytes, ...] = ()
    problems: tuple[Problem, ...] = ()
    devices: dict[bytes, int]
    """Every named path that exists, nested ones included, and the device that it is on."""
    named: dict[bytes, frozenset[bytes]]
    """Directory → the names in it that are, or lead to, a named path."""
    as_they_are: frozenset[bytes] = frozenset()
    """Named paths that are taken as symlinks if they are symlinks."""
    sockets: tuple[bytes, ...] = ()
    """Named paths at which there is a socket: nothing of it can be stored."""

    def root_of(self, path: bytes) -> bytes | None:
        """The innermost named path that `path` is or lies below."""
        at = path
        while at not in self.devices:
            if at == b"/":
                return None
            at = parent_of(at)
        return at


def plan_roots(paths: Sequence[bytes], as_they_are: Sequence[bytes] = ()) -> Roots:
    """Look at each path and plan one walk from `/` that takes them all.

    Of `paths` symlinks are followed; of `as_they_are` they are not, unless a path stands among `paths` as well.
    """
    devices: dict[bytes, int] = {}
    missing: list[bytes] = []
    problems: list[Problem] = []
    sockets: list[bytes] = []
    follow = dict.fromkeys((absolute(path) for path in as_they_are), False)
    follow |= dict.fromkeys((absolute(path) for path in paths), True)
    for path in follow:
        try:
            found = os.stat(path, follow_symlinks=follow[path])
            if stat.S_ISDIR(found.st_mode):
                found = _passed(path, found)
        except (FileNotFoundError, NotADirectoryError):
            missing.append(path)
        except OSError as error:
            problems.append(Problem(path, error.strerror or str(error)))
        else:
            if stat.S_ISSOCK(found.st_mode):
                sockets.append(path)
            else:
                devices[path] = found.st_dev
    named = _names_on_the_way(devices)
    return Roots(
        paths=_outermost(devices),
        missing=tuple(missing),
        problems=tuple(problems),
        devices=devices,
        sockets=tuple(sockets),
        as_they_are=frozenset(path for path in devices if not follow[path] and path not in named),
        named=named or {b"/": frozenset()},  # where nothing is named, nothing is taken
    )


def _passed(path: bytes, found: os.stat_result) -> os.stat_result:
    """Return the stat of a directory once it was passed: an automounter mounts then, and not when it is looked at."""
    try:
        return os.stat(join(path, b"."))
    except PermissionError:
        return found


def absolute(path: bytes) -> bytes:
    """Absolute and normalised by name alone (`..` removed, symlinks not resolved), with one leading slash."""
    return b"/" + os.path.normpath(os.path.join(os.getcwdb(), path)).lstrip(b"/")


def join(path: bytes, name: bytes) -> bytes:
    """`name` in the directory `path`."""
    return path + name if path == b"/" else path + b"/" + name


def parent_of(path: bytes) -> bytes:
    """The directory that holds `path`; `/` for `/` itself."""
    return path.rpartition(b"/")[0] or b"/"


def _outermost(paths: dict[bytes, int]) -> tuple[bytes, ...]:
    return tuple(sorted(path for path in paths if not any(above in paths for above in _above(path))))


def _above(path: bytes) -> list[bytes]:
    above = []
    while path != b"/":
        path = parent_of(path)
        above.append(path)
    return above


def _names_on_the_way(paths: dict[bytes, int]) -> dict[bytes, frozenset[bytes]]:
    named: dict[bytes, set[bytes]] = {}
    for path in paths:
        for below, above in zip([path, *_above(path)], _above(path), strict=False):
            named.setdefault(above, set()).add(below.rpartition(b"/")[2])
    return {directory: frozenset(names) for directory, names in named.items()}
