"""Where a medium is tried: objects below `probe/`, in a directory whose name says when the trial began.

Invariants
    Nothing of a repository is ever there, and nobody looks there for anything: what a killed process leaves harms nobody.
    What is older than `OLD_S` was left by somebody who is gone, and the next trial removes it; what is younger may be in use.
"""

import os
import re
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress

from drtool.errors import StoreError
from drtool.stores.local import LocalStore
from drtool.stores.medium import translated
from drtool.stores.names import PROBE_DIRECTORY
from drtool.stores.ports import Store

OLD_S = 3600
_LABEL = re.compile(r"([0-9a-f]{8,12})-[0-9a-f]{16}")


def new_label(now_s: float) -> str:
    """The name of a trial's directory below `probe/`."""
    return f"{int(now_s):08x}-{secrets.token_hex(8)}"


def is_old(label: str, now_s: float) -> bool:
    """Whether a trial's directory was left behind; one from the future as well, since clocks are set right."""
    match = _LABEL.fullmatch(label)
    return match is not None and abs(now_s - int(match[1], 16)) > OLD_S


class Scratch:
    """One trial's own directory. Leaving it removes it; what cannot be removed stays, below `probe/`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.label = new_label(time.time())

    def name(self, word: str) -> str:
        """The name of an object in it."""
        return f"{PROBE_DIRECTORY}/{self.label}/{word}"

    def clear(self) -> None:
        """StoreError if something is left."""
        _remove(self.store, self.label)


def remove_leftovers(store: Store) -> int:
    """Removes what killed processes left; how many directories. What cannot be removed is passed over."""
    removed = 0
    now_s = time.time()
    with suppress(StoreError):
        for label in [label for label in _labels(store) if is_old(label, now_s)]:
            _remove(store, label)
            removed += 1
    return removed


def modified_at_s(store: Store, name: str) -> float | None:
    """When an object was written, by the clock of where it lies; None where that is not told."""
    from drtool.stores.sftp import SftpStore
    from drtool.stores.sftp_steps import modified_at

    if isinstance(store, LocalStore):
        with translated(f"{store.root}/{name}", writing=False):
            return os.stat(store.root / name).st_mtime
    if isinstance(store, SftpStore):
        path = f"{store.place.path}/{name}"
        return store.link.call(lambda client: modified_at(client, path), path)
    return None


def _labels(store: Store) -> Sequence[str]:
    """Directories below `probe/`, also those in which only a temporary file is left."""
    from drtool.stores.sftp import SftpStore
    from drtool.stores.sftp_steps import names_in

    if isinstance(store, LocalStore):
        with translated(str(store.root), writing=False):
            try:
                return sorted(os.listdir(store.root / PROBE_DIRECTORY))
            except FileNotFoundError:
                return []
    if isinstance(store, SftpStore):
        path = f"{store.place.path}/{PROBE_DIRECTORY}"
        return store.link.call(lambda client: names_in(client, path), path)
    return sorted({row.name.split("/")[1] for row in store.list(f"{PROBE_DIRECTORY}/")})


def _remove(store: Store, label: str) -> None:
    """Its objects, a lone one of that name included; then directories, with temporary files that a killed writer left."""
    from drtool.stores.sftp import SftpStore
    from drtool.stores.sftp_steps import remove_all, remove_empty

    for row in list(store.list(f"{PROBE_DIRECTORY}/{label}")):
        store.delete(row.name)
    if isinstance(store, LocalStore):
        shutil.rmtree(store.root / PROBE_DIRECTORY / label, ignore_errors=True)
        with suppress(OSError):  # somebody else's trial is in it
            os.rmdir(store.root / PROBE_DIRECTORY)
    elif isinstance(store, SftpStore):
        path = f"{store.place.path}/{PROBE_DIRECTORY}"
        store.link.call(lambda client: remove_all(client, f"{path}/{label}"), path)
        store.link.call(lambda client: remove_empty(client, path), path)
