"""A tree of everything that a file system can hold, generated from a seed; and what each of its names is, aspect by aspect."""

import contextlib
import errno
import hashlib
import os
import random
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from drtool.sources.filesystem.attributes import flags_of, set_flags

Facts = dict[bytes, dict[str, Any]]
"""What is below a directory: path, aspect, value."""

APPEND, IMMUTABLE, NO_DUMP, NO_ATIME = 0x20, 0x10, 0x40, 0x80
NO_ID = 2**32 - 1
NAMES = [
    *(
        b"plain",
        b"with space",
        b"-n",
        b"--delete",
        b"*?[a]",
        b"back\\slash",
        b"'quote\"",
        b"line\nbreak",
        b".hidden",
        b"...",
    ),
    *(b"dot.", b"space ", b" front", b"#hash", b"!bang", b"~tilde", b"%41", b"CON", b"Readme", b"README", b"readme"),
    *("\u00e4".encode(), "a\u0308".encode(), "\u540d\u524d".encode(), "\U0001f4be".encode(), b"latin\xe4", b"\xff\xfe"),
    *(b"n" * 255, b"tab\there", b"esc\x1b[31m", "\u202eabc".encode(), "\u2028".encode(), b"CVS", b"core"),
]
MODES = [0o644, 0o600, 0o755, 0o4755, 0o2755, 0o1777, 0o000, 0o444, 0o222, 0o7777, 0o640]
OWNERS = [(0, 0), (1, 2), (12_345, 54_321), (2**31 + 5, 2**31 + 6), (2**32 - 3, 2**32 - 4)]
TIMES_NS = [
    0,
    -1,
    -500_000_000,
    -(10**9) - 1,
    -(86_400 * 365 * 60) * 10**9,
    1_123_456_789,
    10**18 + 1,
    (2**31 + 5) * 10**9,
]
SIZES = [0, 1, 100, 4095, 4096, 4097, 70_000]
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


def plant(top: Path, seed: int, count: int = 60) -> None:
    """Fill `top` with about `count` names. What its file system or this user cannot do is left out."""
    _Gardener(top, random.Random(seed)).plant(count)


class _Gardener:
    def __init__(self, top: Path, lots: random.Random) -> None:
        self._lots = lots
        self._directories = [os.fsencode(top)]
        self._others: list[bytes] = []

    def plant(self, count: int) -> None:
        makers = (
            [self._file] * 6
            + [self._sparse] * 2
            + [self._directory] * 3
            + [self._symlink] * 2
            + [self._special, self._link]
        )
        for _ in range(count):
            where = self._lots.choice(self._directories[-8:] + self._directories[:1])
            path = os.path.join(where, self._lots.choice(NAMES))
            if not os.path.lexists(path):
                with contextlib.suppress(OSError):
                    self._lots.choice(makers)(path)
        dressed: set[tuple[int, int]] = set()
        for path in [*self._others, *reversed(self._directories)]:
            found = os.lstat(path)
            if (found.st_dev, found.st_ino) not in dressed:
                dressed.add((found.st_dev, found.st_ino))
                self._dress(path)
        for path in reversed(self._directories):
            _try(lambda path=path: os.utime(path, ns=(0, self._lots.choice(TIMES_NS))))
        for path in [*self._others, *reversed(self._directories[1:])]:
            if self._lots.random() < 0.15:
                _lock(path, self._lots.choice([NO_DUMP, NO_ATIME, IMMUTABLE, APPEND, IMMUTABLE | NO_DUMP]))

    def _file(self, path: bytes) -> None:
        size_bytes = self._lots.choice(SIZES) if self._lots.random() < 0.97 else 5_000_000
        with open(path, "xb") as file:
            file.write(self._lots.randbytes(size_bytes))
        self._others.append(path)

    def _sparse(self, path: bytes) -> None:
        with open(path, "xb") as file:
            file.truncate(self._lots.choice([65_536, 1_000_000, 8_000_000]))
            for offset in self._lots.sample(range(0, 60_000, 4096), self._lots.randrange(3)):
                os.pwrite(file.fileno(), b"data" * 1024, offset)
        self._others.append(path)

    def _directory(self, path: bytes) -> None:
        os.mkdir(path)
        self._directories.append(path)

    def _symlink(self, path: bytes) -> None:
        os.symlink(self._lots.choice([b"plain", b"/etc/fstab", b"..", b"no\nwhere", b"t" * 1000, b"\xff"]), path)
        self._others.append(path)

    def _special(self, path: bytes) -> None:
        kind, number = self._lots.choice(
            [(stat.S_IFIFO, 0), (stat.S_IFCHR, 0x103), (stat.S_IFBLK, os.makedev(259, 70_000))]
        )
        os.mknod(path, kind | 0o600, number)
        self._others.append(path)

    def _link(self, path: bytes) -> None:
        if self._others:
            os.link(self._lots.choice(self._others), path, follow_symlinks=False)
            self._others.append(path)

    def _dress(self, path: bytes) -> None:
        """Give one inode an owner, attributes, a mode and times."""
        lots = self._lots
        kind = stat.S_IFMT(os.lstat(path).st_mode)
        owner = lots.choice(OWNERS)
        _try(lambda: os.lchown(path, *owner))
        if kind in (stat.S_IFREG, stat.S_IFDIR):
            for name, value in _attributes(lots, is_directory=kind == stat.S_IFDIR):
                _try(lambda name=name, value=value: os.setxattr(path, name, value))
        if kind != stat.S_IFLNK:
            _try(lambda: os.chmod(path, lots.choice(MODES)))
        time_ns = lots.choice(TIMES_NS)
        _try(lambda: os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False))


def _attributes(lots: random.Random, *, is_directory: bool) -> Iterator[tuple[bytes, bytes]]:
    if lots.random() < 0.3:
        yield b"user.note", lots.choice([b"", b"text", b"\0\xff=\n", lots.randbytes(300)])
    if lots.random() < 0.15:
        yield "user.\u00e4 =%".encode(), b"odd name"
    if lots.random() < 0.1:
        yield b"trusted.mark", b"1"
    if lots.random() < 0.1 and not is_directory:
        yield b"security.capability", CAPABILITY
    if lots.random() < 0.3:
        yield b"system.posix_acl_access", _acl(lots)
    if lots.random() < 0.3 and is_directory:
        yield b"system.posix_acl_default", _acl(lots)


def _acl(lots: random.Random) -> bytes:
    users = sorted(lots.sample([1, 12_345, 4_000_000_000], lots.randrange(1, 3)))
    groups = sorted(lots.sample([2, 54_321], lots.randrange(2)))
    entries = [(1, 7, NO_ID), *((2, lots.randrange(8), user) for user in users), (4, 5, NO_ID)]
    entries += [*((8, lots.randrange(8), group) for group in groups), (16, 7, NO_ID), (32, lots.randrange(8), NO_ID)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def _try(action: Callable[[], object]) -> None:
    """Do it where that is possible."""
    with contextlib.suppress(OSError):
        action()


def _lock(path: bytes, flags: int) -> None:
    if stat.S_IFMT(os.lstat(path).st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
        return
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            set_flags(fd, flags)
        finally:
            os.close(fd)


def unlock_all(top: Path) -> None:
    """Take every flag off, so that the tree can be removed."""
    for directory, _, files in os.walk(os.fsencode(top)):
        for path in (directory, *(os.path.join(directory, name) for name in files)):
            _lock(path, 0)


def facts(top: Path) -> Facts:
    """Return what each name below `top` is; the values of an aspect are equal where a copy keeps it."""
    found: Facts = {}
    groups: dict[tuple[int, int], bytes] = {}
    root = os.fsencode(top)
    for directory, directories, files in os.walk(root):
        directories.sort()
        for name in sorted([*directories, *files]):
            path = os.path.join(directory, name)
            found[os.path.relpath(path, root)] = _aspects(path, os.path.relpath(path, root), groups)
    return found


def _aspects(path: bytes, relative: bytes, groups: dict[tuple[int, int], bytes]) -> dict[str, Any]:
    now = os.lstat(path)
    kind = stat.S_IFMT(now.st_mode)
    row: dict[str, Any] = {"type": kind, "owner": (now.st_uid, now.st_gid), "mtime": now.st_mtime_ns}
    if kind == stat.S_IFLNK:
        row["target"] = os.readlink(path)
    else:
        row["mode"] = stat.S_IMODE(now.st_mode)
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        row["device"] = now.st_rdev
    if kind != stat.S_IFDIR:
        row["link"] = groups.setdefault((now.st_dev, now.st_ino), relative)
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        names = []
    row |= {
        f"xattr {name}": os.getxattr(path, name, follow_symlinks=False) for name in names if name != "security.selinux"
    }
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            if flags := flags_of(fd):
                row["flags"] = flags
            if kind == stat.S_IFREG:
                row["size"] = now.st_size
                row["content"] = hashlib.sha256(os.pread(fd, now.st_size, 0)).hexdigest()
                row["sparse"] = now.st_size > 65_535 and now.st_blocks * 512 < now.st_size // 2
        finally:
            os.close(fd)
    return row
