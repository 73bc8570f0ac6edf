"""Trial objects below `probe/`, in a directory whose name contains the start time of the trial.

Invariants
    `probe/` never contains repository data and is never read otherwise, so leftovers of a killed process are harmless.
    Leftovers older than `OLD_S` are abandoned, and the next trial removes them. Younger ones may be in use.
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
    """Return a name for a trial's directory below `probe/`."""
    return f"{int(now_s):08x}-{secrets.token_hex(8)}"


def is_old(label: str, now_s: float) -> bool:
    """Return whether a trial's directory is abandoned, or from the future, because clocks are corrected."""
    match = _LABEL.fullmatch(label)
    return match is not None and abs(now_s - int(match[1], 16)) > OLD_S


class Scratch:
    """The directory of one trial. Leaving the block removes it. Objects that cannot be removed stay below `probe/`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.label = new_label(time.time())

    def name(self, word: str) -> str:
        """Return the name of an object in it."""
        return f"{PROBE_DIRECTORY}/{self.label}/{word}"

    def clear(self) -> None:
        """Remove the directory. Raises StoreError if something is left."""
        _remove(self.store, self.label)


def remove_leftovers(store: Store) -> int:
    """Remove leftovers of killed processes, and return the number of directories. Failures are ignored."""
    removed = 0
    now_s = time.time()
    with suppress(StoreError):
        for label in [label for label in _labels(store) if is_old(label, now_s)]:
            _remove(store, label)
            removed += 1
    return removed


def modified_at_s(store: Store, name: str) -> float | None:
    """Return when an object was written, by the clock of its medium, or None if it is unknown."""
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
    """Return the directories below `probe/`, including those that contain only a temporary file."""
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
    """Remove a trial: its objects, a single object of that name, then directories with temporary files of killed writers."""
    from drtool.stores.sftp import SftpStore
    from drtool.stores.sftp_steps import remove_all, remove_empty

    for row in list(store.list(f"{PROBE_DIRECTORY}/{label}")):
        store.delete(row.name)
    if isinstance(store, LocalStore):
        shutil.rmtree(store.root / PROBE_DIRECTORY / label, ignore_errors=True)
        with suppress(OSError):  # another trial is in it
            os.rmdir(store.root / PROBE_DIRECTORY)
    elif isinstance(store, SftpStore):
        path = f"{store.place.path}/{PROBE_DIRECTORY}"
        store.link.call(lambda client: remove_all(client, f"{path}/{label}"), path)
        store.link.call(lambda client: remove_empty(client, path), path)
