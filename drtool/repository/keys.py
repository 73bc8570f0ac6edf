"""Key slots on the targets: found, tried with a password, written at `init`.

Invariants
    The slot that worked last on this host is tried first; a slot that does not parse is passed over, not fatal.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from drtool.crypto import Keyring, KeySlot, open_slot
from drtool.crypto.slots import SLOT_BYTES_MAX
from drtool.errors import DrtoolError, FormatError, NoQuorum, WrongPassword
from drtool.model import RepositoryId
from drtool.repository.cache import write_atomically
from drtool.repository.targets import Targets
from drtool.stores import Store

KEYS_PREFIX = "keys/"
SLOTS_MAX = 64
_LAST_SLOT = "last-slot"


def unlock(targets: Targets, repository: RepositoryId, password: Callable[[], bytes], state_dir: Path) -> Keyring:
    """The keyring, from the first slot that the password opens; WrongPassword if none does."""
    last = _last_slot(state_dir)
    secret: bytes | None = None
    tried: set[str] = set()
    for slot in _slots(targets, repository, last):
        secret = password() if secret is None else secret
        tried.add(slot.id)
        with suppress(WrongPassword, FormatError):
            keyring = open_slot(slot, secret)
            if slot.id != last:
                with suppress(OSError):  # it only saves time
                    write_atomically(state_dir / _LAST_SLOT, slot.id.encode())
            return keyring
    if not tried:
        raise NoQuorum(
            "no reachable target holds a key slot of this repository",
            hint="bring back a target that keeps key slots (`keys: false` targets do not)",
        )
    raise WrongPassword(
        f"the password opens none of the repository's {len(tried)} key slot{'s' if len(tried) > 1 else ''}",
        hint="check --password-file, $DRTOOL_PASSWORD and the configuration's password_file, in this order",
    )


def _slots(targets: Targets, repository: RepositoryId, last: str) -> Iterator[KeySlot]:
    """Every slot, `last` first; a further target's only where its bytes are others: one of the two is damaged then."""
    seen: set[bytes] = set()
    for target in targets.online():
        try:
            data = _objects(targets.store(target))
        except DrtoolError as error:
            targets.fail(target, error.message)
            continue
        slots = [slot for text in data if text not in seen and (slot := _slot(text, repository)) is not None]
        seen.update(data)
        yield from sorted(slots, key=lambda slot: (slot.id != last, slot.id))


def _objects(store: Store) -> list[bytes]:
    names = [info.name for info in islice(store.list(KEYS_PREFIX), SLOTS_MAX)]
    return [store.get(name, 0, SLOT_BYTES_MAX + 1) for name in names]


def _slot(data: bytes, repository: RepositoryId) -> KeySlot | None:
    with suppress(FormatError):
        slot = KeySlot.decode(data)
        if slot.repository == repository.hex():
            return slot
    return None


def _last_slot(state_dir: Path) -> str:
    try:
        return (state_dir / _LAST_SLOT).read_text()
    except OSError:
        return ""
