"""The targets of a repository as this host last saw them, in a file of the state directory. It is used when the
configuration names no reachable place and the catalogue, which names the targets, cannot be read.

Invariants
    It holds no secret. Nothing is trusted because of it: a place that it names counts only with an authentic marker.
    A file that is damaged, or that another user could have written, counts as absent. The next opening writes it again.
    It never goes back: a view older than the recorded one only changes where targets were reached.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from drtool.config.urls import NO_ACCESS, Access
from drtool.errors import TargetHung
from drtool.manifest.facade import View
from drtool.manifest.records import Target
from drtool.model import RepositoryId, TargetName
from drtool.repository.cache import write_atomically
from drtool.repository.places import full_url, is_directory
from drtool.repository.spec import RepositorySpec, TargetSpec, local_path
from drtool.repository.targets import Targets
from drtool.stores import Errand

FILE = "targets.json"
_BYTES_MAX = 4 << 20
_STAT_TIMEOUT_S = 2.0
_DIRECTORY = "repositories"

Place = tuple[TargetName, str]
"""A target's name and its full URL."""


class Reached(Struct, frozen=True):
    """Where this host last reached a target, and with which access."""

    name: TargetName
    url: str
    access: Access = NO_ACCESS


class Root(Struct, frozen=True):
    """The directory of a target's root, and its parent: file system and inode number of each."""

    url: str
    own: tuple[int, int]
    parent: tuple[int, int]


class Known(Struct, frozen=True, kw_only=True):
    """`targets`: the catalogue's rows at change `sequence` of `generation`. `seen`: every place reached so far."""

    repository: str
    generation: int = 0
    sequence: int = 0
    targets: tuple[Target, ...] = ()
    reached: tuple[Reached, ...] = ()
    seen: tuple[Place, ...] = ()
    roots: tuple[Root, ...] = ()
    """For the targets that are directories, as they were last reached."""

    @property
    def repository_id(self) -> RepositoryId:
        return RepositoryId(bytes.fromhex(self.repository))

    def places(self) -> set[Place]:
        """Return every place at which a target of this repository is named, or was reached."""
        return {*self.seen, *((row.name, full_url(row.url)) for row in self.targets)}


class _File(Struct, frozen=True):
    sha256: str
    known: msgspec.Raw


def recall(state_dir: Path, repository: RepositoryId) -> Known | None:
    """Return the record of a repository, or None if there is none that can be trusted."""
    path = state_dir / _DIRECTORY / repository.hex() / FILE
    try:
        file = msgspec.json.decode(_read(path), type=_File)
        text = bytes(file.known)
        known = msgspec.json.decode(text, type=Known)
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        return None
    sound = file.sha256 == hashlib.sha256(text).hexdigest() and known.repository == repository.hex()
    return known if sound else None


def repository_at(state_dir: Path, specs: Iterable[TargetSpec]) -> Known | None:
    """Return the repository with the targets of a configuration, according to this host's records.

    None unless exactly one.
    """
    asked = {(spec.name, full_url(spec.url)) for spec in specs}
    found = [known for known in _all(state_dir) if asked & known.places()]
    return found[0] if len(found) == 1 else None


def beyond_configuration(state_dir: Path, specs: Sequence[TargetSpec]) -> list[TargetSpec]:
    """Return further targets of the repository that these specs mean, where this host reached them.

    A target in the specs gets the place where it was reached last, if it was reached at the configured place before
    that, or has replaced the one there.
    """
    known = repository_at(state_dir, specs)
    if known is None:
        return []
    rows = {row.name: row for row in known.targets if row.state != "lost"}
    named = {spec.name: full_url(spec.url) for spec in specs}
    return [
        TargetSpec(name=one.name, url=one.url, access=one.access, weight=max(1, rows[one.name].weight))
        for one in known.reached
        if one.name in rows and has_left(known, one, rows[one.name], named.get(one.name))
    ]


def has_left(known: Known, reached: Reached, row: Target, configured: str | None) -> bool:
    """Return whether a target was reached elsewhere since it was at its configured place (None: it is not configured)."""
    if reached.url == configured:
        return False
    return configured is None or bool(row.id) or (row.name, configured) in known.seen


def strange_root(state_dir: Path, url: str) -> Known | None:
    """Return the repository that this host knows at the directory `url`, if another directory is there now.

    An unmounted disk looks like this: its mount point is an empty directory of another file system. A root that was
    deleted from an unchanged parent directory does not.
    """
    full = full_url(url)
    for known in _all(state_dir):
        current = {full_url(row.url) for row in known.targets if row.state != "lost"}
        for root in known.roots:
            if root.url == full and full in current and not _is_same(root):
                return known
    return None


def _is_same(root: Root) -> bool:
    path = local_path(root.url)
    own = _identity(path)
    return own == root.own if own is not None else _identity(path.parent) == root.parent


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the file system and inode number of a directory, or None if it does not exist or does not answer.

    Device numbers are not used, since they change when a host restarts.
    """
    try:
        return Errand(lambda: (os.statvfs(path).f_fsid, os.stat(path).st_ino)).result(_STAT_TIMEOUT_S, str(path))
    except (OSError, TargetHung):
        return None


def _root(spec: TargetSpec) -> Root | None:
    if not is_directory(spec.url):
        return None
    path = local_path(spec.url)
    own, parent = _identity(path), _identity(path.parent)
    return None if own is None or parent is None else Root(full_url(spec.url), own, parent)


def _all(state_dir: Path) -> list[Known]:
    try:
        names = sorted(os.listdir(state_dir / _DIRECTORY))
    except OSError:
        return []
    found = (recall(state_dir, RepositoryId(bytes.fromhex(name))) for name in names if _is_id(name))
    return [known for known in found if known is not None]


def _is_id(name: str) -> bool:
    try:
        return bytes.fromhex(name).hex() == name
    except ValueError:
        return False


def _read(path: Path) -> bytes:
    """Read a file that only this user, or root, can have written. OSError if another user could have."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
            raise PermissionError(f"others could have written {path}")
        return file.read(_BYTES_MAX)


def remember(
    spec: RepositorySpec, repository: RepositoryId, view: View, targets: Targets, also: Iterable[Place] = ()
) -> None:
    """Record the catalogue's targets and where they were reached. `also`: other known places of this repository.

    Nothing is written if nothing is new. A full disk fails no command, since the next one tries again.
    """
    before = recall(spec.state_dir, repository)
    known = _brought_up_to_date(before or Known(repository=repository.hex()), view, targets, also)
    if before is None or replace(before, generation=known.generation, sequence=known.sequence) != known:
        text = msgspec.json.encode(known)
        file = msgspec.json.encode(_File(hashlib.sha256(text).hexdigest(), msgspec.Raw(text)))
        with suppress(OSError):
            write_atomically(spec.state_dir / _DIRECTORY / repository.hex() / FILE, file)


def _brought_up_to_date(known: Known, view: View, targets: Targets, also: Iterable[Place]) -> Known:
    now = (view.config.generation, view.sequence)
    if now >= (known.generation, known.sequence):
        rows = tuple(sorted(view.state.targets, key=lambda row: row.name))
        known = replace(known, generation=now[0], sequence=now[1], targets=rows)
    names = {row.name for row in known.targets if row.state != "lost"}
    found = {row.name: row for row in known.reached if row.name in names}
    roots = {root.url: root for root in known.roots}
    for name in filter(targets.reachable, names):
        spec = targets.specs[name]
        found[name] = Reached(name, full_url(spec.url), spec.access)
        root = _root(spec)
        roots |= {root.url: root} if root is not None else {}
    seen = {*known.seen, *((row.name, row.url) for row in found.values()), *also}
    return replace(
        known,
        reached=tuple(found[name] for name in sorted(found)),
        seen=tuple(sorted(seen)),
        roots=tuple(roots[url] for url in sorted(roots)),
    )
