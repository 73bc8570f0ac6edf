"""The reproducible data to back up: W1 a source tree, W2 a half-compressible file, W3 noise, W4 small files.

Invariants
    A workload that exists is complete, because it is made beside its place and renamed.
    All changes that a benchmark makes to it are undone, times included, also when the benchmark fails.
"""

import contextlib
import itertools
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_MIB = 1 << 20
_THEN_NS = 1_700_000_000 * 10**9
_EDITS = 50
# The second pass over the text swaps the case and changes digits. So it compresses as before but is not a repetition.
_TURNED = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ3456789012",
)


class Unavailable(Exception):
    """Something that a benchmark needs is not available here. The message has the reason."""


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of the workloads."""

    name: str
    kernel_source: bool
    """W1 is Debian's kernel source if true, else a part of this machine's /usr."""
    tree_bytes: int
    file_bytes: int
    small_files: int


SIZES = {
    size.name: size
    for size in (
        Size(name="full", kernel_source=True, tree_bytes=0, file_bytes=4096 * _MIB, small_files=200_000),
        Size(name="small", kernel_source=False, tree_bytes=300 * _MIB, file_bytes=256 * _MIB, small_files=20_000),
    )
}
WORKLOADS = {
    "W1": "a source tree",
    "W2": "one file, half of it compressible",
    "W3": "one file of noise",
    "W4": "many small files",
}


class Workloads:
    """The data below one directory, which this class makes and changes."""

    def __init__(self, root: Path, size: Size) -> None:
        self.root = root / f"data-{size.name}"
        self.downloads = root / "downloads"
        self.size = size

    def place(self, name: str) -> Path:
        return self.root / name

    def prepare(self, name: str) -> Path:
        """Return the directory of workload `name`, and make it first if it is missing. Raises Unavailable."""
        place = self.place(name)
        if not place.exists():
            if name in ("W2", "W4"):
                self.prepare("W1")  # their text comes from it
            unfinished = self.root / f"{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            makers: dict[str, Callable[[Path], None]] = {
                "W1": self._make_tree,
                "W2": self._make_half_compressible,
                "W3": self._make_noise,
                "W4": self._make_small_files,
            }
            makers[name](unfinished)
            unfinished.rename(place)
        return place

    def _make_tree(self, here: Path) -> None:
        if self.size.kernel_source:
            _unpack_kernel_source(self.downloads, here)
        else:
            _copy_part_of_usr(here, self.size.tree_bytes)

    def _make_half_compressible(self, here: Path) -> None:
        noise, text = _noise(b"\x11"), _text(self.place("W1"))
        with (here / "big.bin").open("wb") as file:
            for _ in range(self.size.file_bytes // (8 * _MIB)):
                file.write(noise(4 * _MIB))
                file.write(_take(text, 4 * _MIB))
        os.utime(here / "big.bin", ns=(_THEN_NS, _THEN_NS))

    def _make_noise(self, here: Path) -> None:
        noise = _noise(b"\x22")
        with (here / "noise.bin").open("wb") as file:
            for _ in range(self.size.file_bytes // (4 * _MIB)):
                file.write(noise(4 * _MIB))
        os.utime(here / "noise.bin", ns=(_THEN_NS, _THEN_NS))

    def _make_small_files(self, here: Path) -> None:
        draw, text = random.Random(4), _text(self.place("W1"))
        pool = _take(text, 64 * _MIB)
        for number in range(self.size.small_files):
            directory, in_directory = divmod(number, 100)
            folder = here / f"d{directory // 50:02d}" / f"s{directory:04d}"
            if in_directory == 0:
                folder.mkdir(parents=True)
            head = b"id %d.%d\n" % (directory, in_directory)
            offset, length = draw.randrange(len(pool) - 4096), draw.randint(1024, 4096) - len(head)
            path = folder / f"f{in_directory:03d}.txt"
            path.write_bytes(head + pool[offset : offset + length])
            os.utime(path, ns=(_THEN_NS, _THEN_NS + directory))

    @contextlib.contextmanager
    def changed(self, name: str, seed: int) -> Iterator[int]:
        """Change 1 % of the workload's files (W2, W3: 50 places in the file) temporarily, and yield the number of changes."""
        place = self.place(name)
        if name in ("W2", "W3"):
            with self._edited_file(next(place.iterdir()), seed):
                yield _EDITS
        else:
            with _changed_files(place, random.Random(f"{name}-{seed}")) as count:
                yield count

    @contextlib.contextmanager
    def _edited_file(self, path: Path, seed: int) -> Iterator[None]:
        original = self.root / f"{path.name}.original"
        path.rename(original)
        try:
            _edit(original, path, random.Random(seed))
            yield
        finally:
            original.replace(path)


@contextlib.contextmanager
def _changed_files(place: Path, draw: random.Random) -> Iterator[int]:
    """Insert one line somewhere in 1 % of the files."""
    regular = sorted(p for p in place.rglob("*") if p.is_file() and not p.is_symlink() and p.stat().st_size)
    chosen = {path: (path.read_bytes(), path.stat()) for path in draw.sample(regular, max(1, len(regular) // 100))}
    try:
        for path, (content, _) in chosen.items():
            at = draw.randrange(len(content) + 1)
            path.write_bytes(content[:at] + b"\n/* changed %s */\n" % draw.randbytes(8).hex().encode() + content[at:])
        yield len(chosen)
    finally:
        for path, (content, was) in chosen.items():
            path.write_bytes(content)
            os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def _edit(source: Path, destination: Path, draw: random.Random) -> None:
    """Make a copy with 4 KiB of noise at 50 places, alternately inserted and overwriting."""
    places = sorted(draw.sample(range(4096, source.stat().st_size - 8192), _EDITS))
    with source.open("rb") as before, destination.open("wb") as after:
        for number, place in enumerate(places):
            _copy_bytes(before, after, place - before.tell())
            after.write(draw.randbytes(4096))
            if number % 2:
                before.seek(4096, os.SEEK_CUR)
        shutil.copyfileobj(before, after, 8 * _MIB)


def _copy_bytes(before: BinaryIO, after: BinaryIO, count: int) -> None:
    while count > 0:
        piece = before.read(min(count, 8 * _MIB))
        after.write(piece)
        count -= len(piece)


def _noise(key: bytes) -> Callable[[int], bytes]:
    """Return a function that reads from an endless incompressible stream, always the same for one key."""
    stream = Cipher(algorithms.AES(key * 32), modes.CTR(bytes(16))).encryptor()
    zeros = bytes(4 * _MIB)
    return lambda count: stream.update(zeros[:count])


def _text(tree: Path) -> Iterator[bytes]:
    """Yield the contents of a tree's files in order, repeatedly. Every second pass is modified."""
    paths = sorted(p for p in tree.rglob("*") if p.is_file() and not p.is_symlink())
    for turn in itertools.cycle((False, True)):
        for path in paths:
            content = path.read_bytes()
            yield content.translate(_TURNED) if turn else content


def _take(pieces: Iterator[bytes], count: int) -> bytes:
    """Return the first `count` bytes of `pieces`."""
    taken = bytearray()
    while len(taken) < count:
        taken += next(pieces)
    return bytes(taken[:count])


def _unpack_kernel_source(downloads: Path, here: Path) -> None:
    downloads.mkdir(parents=True, exist_ok=True)
    if not list(downloads.glob("linux-source-*.deb")):
        if not shutil.which("apt-get"):
            raise Unavailable(
                "the full size needs Debian's linux-source package, and there is no apt-get; try SIZE=small"
            )
        package = _newest_kernel_source()
        got = subprocess.run(
            ["apt-get", "download", package], cwd=downloads, capture_output=True, text=True, check=False
        )
        if got.returncode != 0:
            raise Unavailable(
                f"apt-get download {package} failed ({got.stderr.strip()}); try `apt-get update`, or SIZE=small"
            )
    unpacked = downloads / "linux-source"
    subprocess.run(["dpkg", "-x", str(max(downloads.glob("linux-source-*.deb"))), str(unpacked)], check=True)
    archive = next(unpacked.glob("usr/src/linux-source-*.tar.xz"))
    subprocess.run(["tar", "xf", str(archive), "-C", str(here), "--no-same-owner"], check=True)
    shutil.rmtree(unpacked)


def _newest_kernel_source() -> str:
    depends = subprocess.run(
        ["apt-cache", "depends", "linux-source"], capture_output=True, text=True, check=False
    ).stdout
    named = [line.split()[-1] for line in depends.splitlines() if "Depends: linux-source-" in line]
    return named[0] if named else "linux-source-6.1"


def _copy_part_of_usr(here: Path, limit_bytes: int) -> None:
    """Copy files of /usr/share and /usr/lib in order of name, as many as fit. Unreadable files are left out."""
    copied = 0
    for top in ("/usr/share", "/usr/lib"):
        for folder, folders, names in os.walk(top):
            folders.sort()
            destination = here / os.path.relpath(folder, "/")
            for name in sorted(names):
                path = os.path.join(folder, name)
                if copied >= limit_bytes:
                    return
                if os.path.islink(path) or not os.access(path, os.R_OK) or os.path.getsize(path) > limit_bytes // 20:
                    continue
                destination.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, destination / name)
                copied += os.path.getsize(path)
