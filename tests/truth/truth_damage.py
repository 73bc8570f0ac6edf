"""What can happen to the objects of a site, done to real files."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from truth_catalogue import Shelf

FLIPPED_BIT = 0x10


def _flip(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[int(at * len(data))] ^= FLIPPED_BIT
        path.write_bytes(data)


def _truncate(path: Path, at: float) -> None:
    os.truncate(path, int(at * path.stat().st_size))


def _empty(path: Path, _: float) -> None:
    os.truncate(path, 0)


def _delete(path: Path, _: float) -> None:
    path.unlink()


DAMAGES: Mapping[str, Callable[[Path, float], None]] = {
    "flip": _flip,
    "truncate": _truncate,
    "empty": _empty,
    "delete": _delete,
}
"""`at`, 0 to 1: where in the object."""

KINDS: Mapping[str, str] = {
    "packs": "packs/",
    "segments": "index/",
    "pages": "manifest/obj/",
    "records": "manifest/acc/",
    "mirrors": "manifest/mirror/",
    "slots": "keys/",
    "marker": "drtool.json",
}
"""Every kind of object, by the prefix of its names."""


def objects_of(root: Path, kind: str) -> list[Path]:
    """The objects of one kind, in the order in which they were stored: names are random, ages are not."""
    prefix = KINDS[kind]
    paths = [root / name for name in Shelf(root).names() if name.startswith(prefix)]
    return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name))


def damage(root: Path, kind: str, how: str, share: float, at: float) -> list[str]:
    """Damages that share of the objects of a kind, the newest first and at least one; returns their names."""
    found = objects_of(root, kind)[::-1]
    chosen = found[: max(1, round(share * len(found)))]
    modes = {path.parent: path.parent.stat().st_mode for path in chosen}
    for path in chosen:
        path.chmod(0o600)
        DAMAGES[how](path, at)
    for path, mode in modes.items():
        path.chmod(mode)
    return [path.relative_to(root).as_posix() for path in chosen]


def set_writable(root: Path, *, writable: bool) -> None:
    """Every directory of a target; the processes of the commands have no right to write where the mode forbids it."""
    for top, _, _ in os.walk(root):
        os.chmod(top, 0o755 if writable else 0o555)


def is_writable(root: Path) -> bool:
    return bool(root.stat().st_mode & 0o200)


def copy_site(root: Path, to: Path) -> None:
    """What a site looks like now, for later."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(root, to)


def put_back(saved: Path, root: Path) -> None:
    """The site is as it was when it was saved."""
    shutil.rmtree(root)
    shutil.copytree(saved, root)
