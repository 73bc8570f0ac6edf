"""A tree captured into memory and restored from it: the shortest use of both halves, for tests."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from drtool.sources.filesystem import (
    Captured,
    Folder,
    HardLinks,
    OwnerNames,
    Recent,
    Rules,
    capture_directory,
    complete,
    join,
    open_directory,
    open_for_read,
    plan_roots,
    settle_directory,
    still_same,
    write_data,
)
from drtool.trees import Entry, FileType

FOREVER_NS = 2**62


class Tree(NamedTuple):
    entries: list[Entry]
    inside: "dict[bytes, bytes | Tree]"

    def __getitem__(self, path: str) -> Entry:
        *above, name = path.split("/")
        tree = self
        for part in above:
            below = tree.inside[os.fsencode(part)]
            assert isinstance(below, Tree)
            tree = below
        return next(entry for entry in tree.entries if entry.name == os.fsencode(name))

    def paths(self, prefix: str = "") -> list[str]:
        found = []
        for entry in self.entries:
            found.append(prefix + os.fsdecode(entry.name))
            below = self.inside.get(entry.name)
            if isinstance(below, Tree):
                found += below.paths(found[-1] + "/")
        return found


def capture(path: Path | bytes, rules: Rules | None = None) -> Tree:
    """Capture everything below `path`, including contents."""
    where = os.fsencode(path)
    rules = rules or Rules(plan_roots([where]))
    fd = os.open(where, os.O_RDONLY)
    try:
        return _capture(fd, where, rules, OwnerNames())
    finally:
        os.close(fd)


def _capture(fd: int, path: bytes, rules: Rules, names: OwnerNames) -> Tree:
    captured = capture_directory(fd, path, None, rules, Recent(0), names)
    assert not captured.problems
    inside: dict[bytes, bytes | Tree] = {}
    for index in captured.fresh:
        entry = captured.entries[index]
        file = open_for_read(fd, entry.name, follow=entry.name in captured.followed)
        with open(file, "rb", buffering=0) as reader:
            inside[entry.name] = reader.readall()
            captured.entries[index] = complete(entry, file, content=b"c" * 32)
            assert still_same(file, entry)
    for index in captured.enter:
        entry = captured.entries[index]
        below = open_directory(fd, entry.name, follow=entry.name in captured.followed)
        inside[entry.name] = _capture(below, join(path, entry.name), rules, names)
        captured.entries[index] = settle_directory(entry, below, b"t" * 32)
        os.close(below)
    return Tree(captured.entries, inside)


def put_back(tree: Tree, path: Path) -> list[str]:
    """Restore the tree below `path`, and return failures in words."""
    with Folder.destination(os.fsencode(path)) as folder:
        return _put_back(tree, folder, HardLinks(folder), ())


def _put_back(tree: Tree, folder: Folder, links: HardLinks, above: tuple[bytes, ...]) -> list[str]:
    problems = []
    for entry in tree.entries:
        inside = tree.inside.get(entry.name)
        if entry.type == FileType.DIRECTORY:
            with folder.enter(entry.name) as below:
                if isinstance(inside, Tree):
                    problems += _put_back(inside, below, links, (*above, entry.name))
                problems += below.finish(entry)
        elif not links.link(entry, folder):
            problems += _put_back_one(entry, inside if isinstance(inside, bytes) else b"", folder)
            found = folder.stat(entry.name)
            assert found is not None
            links.remember(entry, (*above, entry.name), found)
    return problems


def _put_back_one(entry: Entry, content: bytes, folder: Folder) -> list[str]:
    if entry.type != FileType.FILE:
        return folder.make(entry)
    fd = folder.create_file(entry)
    try:
        write_data(fd, entry, 0, content)
        return folder.finish_file(fd, entry)
    finally:
        os.close(fd)


def comparable(tree: Tree) -> list[object]:
    """Return a tree without parts that no restore can recover: inode numbers, change times, devices, alignment of holes."""
    numbers: dict[tuple[int, int], int] = {}
    return _comparable(tree, numbers)


def _comparable(tree: Tree, numbers: dict[tuple[int, int], int]) -> list[object]:
    rows: list[object] = []
    for entry in tree.entries:
        group = numbers.setdefault((entry.device, entry.inode), len(numbers))
        plain = msgspec.structs.replace(entry, ctime_ns=0, device=0, inode=group)
        inside = tree.inside.get(entry.name)
        rows.append((plain, _comparable(inside, numbers) if isinstance(inside, Tree) else inside))
    return rows


def capture_once(
    path: Path,
    previous: dict[bytes, Entry] | None = None,
    *,
    rules: Rules | None = None,
    recent_after_ns: int = FOREVER_NS,
) -> Captured:
    """Capture one directory."""
    where = os.fsencode(path)
    fd = os.open(where, os.O_RDONLY)
    try:
        rules = rules or Rules(plan_roots([where]))
        return capture_directory(fd, where, previous, rules, Recent(recent_after_ns), OwnerNames())
    finally:
        os.close(fd)


def completed(captured: Captured) -> dict[bytes, Entry]:
    """Return the entries for the next backup: files with contents, directories with subtrees."""
    replace = msgspec.structs.replace
    entries = {entry.name: entry for entry in captured.entries}
    for index in captured.fresh:
        entry = captured.entries[index]
        entries[entry.name] = replace(entry, content=b"c" * 32)
    for index in captured.enter:
        entry = captured.entries[index]
        entries[entry.name] = entry if entry.subtree else replace(entry, subtree=b"t" * 32)
    return entries


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Yield a descriptor for the length of a block."""
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def make_socket(path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    listener.close()
