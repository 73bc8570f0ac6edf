"""Argon2id that asks its memory first: tests open the same slots with the same passwords by the hundred.

What it gives is what Argon2id gives, to the byte: the program itself and another process open the same slots.
"""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from unittest.mock import patch

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from drtool.crypto import slots
from drtool.crypto.slots import Argon2Parameters


@contextmanager
def remembering(place: Path) -> Iterator[None]:
    """In this process and its forks; several may share `place`. Slots that are made meanwhile ask for one pass, not three."""
    with _slots_use(partial(_Remembered, place), partial(Argon2Parameters, passes=1)):
        yield


@contextmanager
def forgetting() -> Iterator[None]:
    """As in the product, for tests of the slots themselves."""
    with _slots_use(Argon2id, Argon2Parameters):
        yield


@contextmanager
def _slots_use(derivation: object, parameters: object) -> Iterator[None]:
    with patch.object(slots, "Argon2id", derivation), patch.object(slots, "Argon2Parameters", parameters):
        yield


class _Remembered:
    def __init__(self, place: Path, **parameters: object) -> None:
        self._place, self._parameters = place, parameters

    def derive(self, password: bytes) -> bytes:
        asked = repr((sorted(self._parameters.items()), password)).encode()
        known = self._place / hashlib.sha256(asked).hexdigest()
        with suppress(OSError):
            return known.read_bytes()
        key: bytes = Argon2id(**self._parameters).derive(password)
        with suppress(OSError):  # a process that has become another user may not write there
            fresh = known.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
            fresh.write_bytes(key)
            fresh.rename(known)
        return key
