"""Variants that are broken on purpose: the simulator's, and two that break the discipline of writing to a disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from sim_mutations import MUTATIONS as SIMULATED

from drtool.stores import durable


@contextmanager
def no_directory_sync() -> Iterator[None]:
    """A record is acknowledged when it has its name, whether the name is on the disk or not."""
    with patch.object(durable, "sync_directory", lambda _directory: None):
        yield


@contextmanager
def no_file_sync() -> Iterator[None]:
    """A record gets its name before its bytes are on the disk."""
    sync = durable.os.fsync

    class Lazy:
        def __getattr__(self, name: str) -> object:
            return getattr(_os, name) if name != "fsync" else self.fsync

        def fsync(self, descriptor: int) -> None:
            if _os.path.isdir(f"/proc/self/fd/{descriptor}"):
                sync(descriptor)

    _os = durable.os
    with patch.object(durable, "os", Lazy()):
        yield


MUTATIONS = {**SIMULATED, "no-directory-sync": no_directory_sync, "no-file-sync": no_file_sync}
