"""Generated trees through backup and restore, beside GNU tar and rsync, on several file systems.

What one of the two keeps, a restore keeps. What a restore cannot keep, it reports by path.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from folding_files import folding_files
from generated_tree import Facts, facts, plant, unlock_all
from thoroughness import THOROUGH
from three_sites import founded, place, world

from drtool.events import Event, Warned
from drtool.operations.restore import RestoreRequest, restore

__all__ = ["founded", "place", "world"]
IMAGE_BYTES = 400 * 1024 * 1024  # less is no XFS
LESSER = ("folding", "vfat")
"""They cannot hold everything."""
MAKERS = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-I", "256"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "vfat": ["mkfs.vfat", "-F", "32"],
}


def absent(reason: str) -> None:
    """Skip with a reason, or fail in CI, where everything is to be there."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@contextlib.contextmanager
def mounted(kind: str, directory: Path) -> Iterator[Path]:
    """An empty file system of some kind, below `directory`."""
    if kind == "folding":
        if shutil.which("fusermount3") is None or not os.access("/dev/fuse", os.R_OK | os.W_OK):
            absent("FUSE is not here: apt-get install fuse3")
        with folding_files(directory) as point:
            yield point
        return
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    words = ["mount", "-t", kind]
    if kind != "tmpfs":
        image = directory / f"{kind}.image"
        with image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        if shutil.which(MAKERS[kind][0]) is None:
            absent(f"{MAKERS[kind][0]} is not here: apt-get install e2fsprogs xfsprogs dosfstools")
        subprocess.run([*MAKERS[kind], image], check=True, capture_output=True)
        words += ["-o", "loop", str(image)]
    else:
        words += ["tmpfs"]
    point = directory / kind
    point.mkdir()
    tried = subprocess.run([*words, point], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no {kind} can be mounted here: {tried.stderr.strip()}")
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=True)


def through_tar(source: Path, to: Path) -> None:
    every = ["--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner"]
    archive = to.parent / "archive.tar"
    subprocess.run(
        ["tar", "-C", source, *every, "--sparse", "--format=pax", "-cf", archive, "."], check=False, capture_output=True
    )
    subprocess.run(["tar", "-C", to, *every, "-xpf", archive], check=False, capture_output=True)
    archive.unlink()


def through_rsync(source: Path, to: Path) -> None:
    words = ["rsync", "-aHAXS", "--numeric-ids", f"{source}/", f"{to}/"]
    subprocess.run(words, check=False, capture_output=True)


def folded(path: bytes) -> bytes:
    return os.fsencode(os.fsdecode(path).lower())


def compare(world, source: Path, to: Path, kind: str) -> list[str]:
    """Restore `source` below `to`; return what is neither kept nor reported, and who keeps it."""
    report = world.backup(source)
    assert report.errors == []
    peers = {}
    for name, copy in (("tar", through_tar), ("rsync", through_rsync)):
        (to / name).mkdir()
        copy(source, to / name)
        peers[name] = facts(to / name)
    heard: list[Event] = []
    with world.open() as repository:
        request = RestoreRequest(
            snapshot=world.snapshots()[-1], path=os.fsencode(source), to=os.fsencode(to / "drtool")
        )
        result = restore(repository, request, heard.append)
    reported = {os.path.relpath(os.fsencode(row.path), os.fsencode(source)): row.restored for row in result.errors}
    if kind not in LESSER:
        assert result.errors == []
    where = folded if kind == "folding" else lambda path: path
    rounded_ns = (
        2 * 10**9 if any("rounds times" in event.message for event in heard if isinstance(event, Warned)) else 0
    )
    assert bool(rounded_ns) == (kind in LESSER)
    return missing(facts(source), facts(to / "drtool"), peers, reported, where, rounded_ns)


def _above(path: bytes) -> list[bytes]:
    parts = path.split(b"/")
    return [b"/".join(parts[:count]) for count in range(1, len(parts))]


def missing(
    original: Facts,
    ours: Facts,
    peers: dict[str, Facts],
    reported: dict[bytes, bool],
    where: Callable[[bytes], bytes],
    rounded_ns: int,
) -> list[str]:
    """Return each aspect that is not as it was, of paths that are not reported; times may differ by less than `rounded_ns`.

    `reported` says of a path whether it is there, and only lacks attributes. What is below one that is not there is not listed.
    """
    found = []
    for path, aspects in original.items():
        if any(reported.get(above) is False for above in _above(path)):
            continue
        mine = ours.get(where(path), {})
        for aspect, value in aspects.items():
            wanted = where(value) if aspect == "link" else value
            if path in reported or mine.get(aspect) == wanted or (aspect == "link" and value in reported):
                continue
            if aspect == "mtime" and aspect in mine and abs(mine[aspect] - value) < rounded_ns:
                continue
            keepers = [name for name, peer in peers.items() if peer.get(where(path), {}).get(aspect) == wanted]
            found.append(f"{path!r}: {aspect} {value!r} became {mine.get(aspect)!r}; kept by {keepers}")
    return found


@pytest.mark.parametrize(
    ("seed", "kind", "to_kind"),
    [
        (1, "tmpfs", "tmpfs"),
        *(
            pytest.param(seed, kind, to_kind, marks=pytest.mark.thorough)
            for seed in range(2, 6)
            for kind, to_kind in [
                ("tmpfs", "tmpfs"),
                ("ext4", "ext4"),
                ("xfs", "xfs"),
                ("ext4", "tmpfs"),
                ("tmpfs", "ext4"),
            ]
        ),
        *(
            pytest.param(seed, "ext4", to_kind, marks=pytest.mark.thorough)
            for seed in range(6, 10)
            for to_kind in ("vfat", "folding")
        ),
    ],
)
def test_what_they_keep_is_kept_and_what_is_not_kept_is_reported(world, tmp_path, seed, kind, to_kind):
    for program in ("tar", "rsync"):
        if shutil.which(program) is None:
            absent(f"{program} is not here: apt-get install tar rsync")
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    with mounted(kind, tmp_path / "from") as source, mounted(to_kind, tmp_path / "to") as to:
        (source / "tree").mkdir()
        try:
            plant(source / "tree", seed, 200 if THOROUGH else 60)
            assert compare(world, source / "tree", to, to_kind) == []
        finally:
            unlock_all(source)
            unlock_all(to)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", [100, 101])
def test_a_restore_over_another_tree_makes_it_the_snapshot(world, tmp_path, seed):
    (tmp_path / "from").mkdir()
    with mounted("tmpfs", tmp_path / "from") as top:
        source, to = top / "source", top / "to"
        for directory, planted in ((source, seed), (to, seed + 1000)):
            directory.mkdir()
            plant(directory, planted, 150)
        try:
            world.backup(source)
            foreseen = world.restore(to, path=source, overwrite="always", delete=True, dry_run=True)
            result = world.restore(to, path=source, overwrite="always", delete=True)
            assert result.errors == []
            assert (foreseen.deleted, foreseen.files) == (result.deleted, result.files)
            assert facts(to) == facts(source)
            again = world.restore(to, path=source, overwrite="always", delete=True)
            assert (again.errors, again.written_bytes, again.deleted) == ([], 0, 0)
        finally:
            unlock_all(top)
