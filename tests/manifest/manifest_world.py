"""Three sites as real directories, a real keyring, hosts with real state directories."""

import os
import time
from pathlib import Path

from drtool.crypto import Keyring
from drtool.manifest import (
    AddSnapshot,
    Author,
    Counts,
    DirectoryState,
    Founding,
    Manifest,
    OpenSession,
    Policy,
    SegmentRef,
    Snapshot,
    Target,
)
from drtool.stores import LocalStore


class Sites:
    """A repository's voters below one directory."""

    def __init__(self, root: Path, count: int = 3, spare: int = 0) -> None:
        self.root = root
        names = [f"site{i}" for i in range(count + spare)]
        self.names, self.spare = names[:count], names[count:]
        for name in names:
            LocalStore.create(root / name)
        self.keys = Keyring.draw(os.urandom(16))

    def stores(self) -> dict[str, LocalStore]:
        return {name: LocalStore.open(self.root / name) for name in self.names if (self.root / name).is_dir()}

    def host(self, name: str = "host", **options) -> Manifest:
        """A run on a host with its own state directory."""
        local = DirectoryState(self.root / "state" / name)
        author = Author(host_id=name, host=name)
        return Manifest(options.pop("sites", None) or self.stores(), self.keys, local, author=author, **options)

    def founding(self) -> Founding:
        return Founding(
            repository=self.keys.repository,
            label="acme",
            policy=Policy(copies=2),
            targets=tuple(
                Target(f"{name}/main", 1, "active", f"file:///{name}", "host") for name in (*self.names, *self.spare)
            ),
            voters=tuple((name, f"{name}/main") for name in self.names),
        )

    def found(self) -> Manifest:
        local = DirectoryState(self.root / "state" / "host")
        return Manifest.found(
            self.stores(), self.keys, self.founding(), local, author=Author(host_id="host", host="host")
        )


def snapshot(session: bytes, source: str = "home") -> Snapshot:
    now = time.time_ns()
    return Snapshot(
        id=os.urandom(16),
        session=session,
        source=source,
        host="host",
        user="root",
        time_ns=now,
        started_ns=now,
        paths=(b"/home",),
        tags=(),
        root=os.urandom(32),
        parent=None,
        counts=Counts(files=3, bytes=1000),
        program="drtool 0.1",
    )


def backup(manifest: Manifest, source: str = "home"):
    """One backup, as far as the manifest sees it."""
    opened = manifest.commit(OpenSession(kind="backup", host_id="host", host="host", source=source))
    segment = SegmentRef(os.urandom(32), 4096, 10, 1)
    return manifest.commit(AddSnapshot(opened.session, snapshot(opened.session, source), (segment,)))


def sources(view) -> list[str]:
    return [row.source for row in view.state.snapshots]
