"""A file system that folds the case of names, as vfat, APFS and SMB shares do: a directory behind FUSE.

`python folding_files.py POINT DIRECTORY` serves until it is unmounted. It has no attributes, flags, devices or hard links, and
keeps times to 2 s: a destination that holds less than the source.
"""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STEP_NS = 2 * 10**9


class Folding:
    """Answers the kernel from a directory in which every name is in lower case."""

    use_ns = True

    def __init__(self, root: str) -> None:
        self._root = root

    def _real(self, path: str) -> str:
        return self._root + path.lower()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        found = os.lstat(self._real(path))
        times = {f"st_{kind}time": getattr(found, f"st_{kind}time_ns") // STEP_NS * STEP_NS for kind in "amc"}
        return {
            key: getattr(found, key) for key in ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks")
        } | times

    def readdir(self, path: str, fh: int) -> Iterator[str]:
        yield from (".", "..", *os.listdir(self._real(path)))

    def readlink(self, path: str) -> str:
        return os.readlink(self._real(path))

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._real(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._real(path))

    def unlink(self, path: str) -> None:
        os.unlink(self._real(path))

    def symlink(self, target: str, source: str) -> None:
        os.symlink(source, self._real(target))

    def rename(self, old: str, new: str) -> None:
        os.rename(self._real(old), self._real(new))

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._real(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.lchown(self._real(path), uid, gid)

    def utimens(self, path: str, times: Any = None) -> None:
        os.utime(self._real(path), ns=tuple(map(int, times)), follow_symlinks=False)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return os.open(self._real(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    def open(self, path: str, flags: int) -> int:
        return os.open(self._real(path), flags & (os.O_ACCMODE | os.O_TRUNC))

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(self._real(path) if fh is None else fh, length)

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    def link(self, target: str, source: str) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def mknod(self, path: str, mode: int, dev: int) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def setxattr(self, path: str, name: str, value: bytes, options: int, position: int = 0) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def listxattr(self, path: str) -> list[str]:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


def serve(point: str, directory: str) -> None:
    """Serve `directory` at `point` in the foreground."""
    import mfusepy

    mfusepy.FUSE(Folding(directory), point, foreground=True, nothreads=True, entry_timeout=0, attr_timeout=0)


@contextlib.contextmanager
def folding_files(directory: Path) -> Iterator[Path]:
    """Mount such a file system below `directory`."""
    point, behind = directory / "folding", directory / "behind"
    point.mkdir()
    behind.mkdir()
    with subprocess.Popen([sys.executable, __file__, str(point), str(behind)]) as server:
        try:
            until = time.monotonic() + 20
            while not os.path.ismount(point):
                if server.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("the folding file system did not come up")
                time.sleep(0.02)
            yield point
        finally:
            subprocess.run(["fusermount3", "-u", "-z", point], check=False, capture_output=True)
            server.terminate()
    shutil.rmtree(behind, ignore_errors=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
