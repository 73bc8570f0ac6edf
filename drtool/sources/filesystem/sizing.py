"""The number and size of the files that a backup will walk over, for its progress display.

It applies the same rules as `capture`, without describing or opening any file. What cannot be read is skipped here, because
the backup itself reports it.
"""

import os
import stat
from collections.abc import Iterator

from drtool.sources.filesystem.capture import items_of
from drtool.sources.filesystem.excludes import Rules, Scope
from drtool.sources.filesystem.reading import open_directory_path, open_passage_path
from drtool.sources.filesystem.roots import join


def sizes(rules: Rules) -> Iterator[tuple[int, int]]:
    """Yield the number of files, and their bytes, of each directory."""
    directories = [b"/"]
    while directories:
        path = directories.pop()
        try:
            fd = _open(path, rules)
        except OSError:
            continue
        try:
            yield _directory(fd, path, rules, directories)
        except OSError:
            continue
        finally:
            os.close(fd)


def _open(path: bytes, rules: Rules) -> int:
    try:
        return open_directory_path(path, follow=path in rules.roots.devices)
    except PermissionError:
        if rules.roots.root_of(path) is not None:
            raise
        return open_passage_path(path)


def _directory(fd: int, path: bytes, rules: Rules, below: list[bytes]) -> tuple[int, int]:
    if rules.ignore_files:
        try:
            rules.learn(path, fd)
        except OSError:  # there is none, or the backup reports it
            pass
    scope = rules.scope(path)
    files = size_bytes = 0
    for item in items_of(fd, path, rules, scope):
        try:
            found = item.stat(follow_symlinks=False)
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode):
            if _is_entered(item.name, found, scope):
                below.append(join(path, os.fsencode(item.name)))
        elif not _is_left_out(found, rules):
            files += 1
            size_bytes += found.st_size
    return files, size_bytes


def _is_entered(name: str, found: os.stat_result, scope: Scope) -> bool:
    return scope.device is None or found.st_dev == scope.device or os.fsencode(name) in scope.named


def _is_left_out(found: os.stat_result, rules: Rules) -> bool:
    if stat.S_ISSOCK(found.st_mode):
        return True
    limit_bytes = rules.larger_than_bytes
    return limit_bytes is not None and stat.S_ISREG(found.st_mode) and found.st_size > limit_bytes
