"""Key slots on the targets: found, tried with a password, written at `init`.

Invariants
    The slot that worked last on this host is tried first; a slot that does not parse is passed over, not fatal.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from drtool.crypto import Keyring, KeySlot, open_slot
from drtool.errors import DrtoolError, FormatError, NoQuorum, WrongPassword
from drtool.model import RepositoryId
from drtool.repository.cache import write_atomically
from drtool.repository.targets import Targets

KEYS_PREFIX = "keys/"
SLOTS_MAX = 64
_LAST_SLOT = "last-slot"


def unlock(targets: Targets, repository: RepositoryId, password: Callable[[], bytes], state_dir: Path) -> Keyring:
    """The keyring, from the first slot that the password opens; WrongPassword if none does."""
    slots = _slots(targets, repository)
    if not slots:
        raise NoQuorum(
            "no reachable target holds a key slot of this repository",
            hint="bring back a target that keeps key slots (`keys: false` targets do not)",
        )
    last = _last_slot(state_dir)
    ordered = sorted(slots.values(), key=lambda slot: (slot.id != last, slot.id))
    secret = password()
    for slot in ordered:
        with suppress(WrongPassword):
            keyring = open_slot(slot, secret)
            if slot.id != last:
                with suppress(OSError):  # it only saves time
                    write_atomically(state_dir / _LAST_SLOT, slot.id.encode())
            return keyring
    raise WrongPassword(
        f"the password opens none of the repository's {len(ordered)} key slot{'s' if len(ordered) > 1 else ''}",
        hint="check --password-file, $DRTOOL_PASSWORD and the configuration's password_file, in this order",
    )


def _slots(targets: Targets, repository: RepositoryId) -> dict[str, KeySlot]:
    slots: dict[str, KeySlot] = {}
    for target in targets.online():
        try:
            store = targets.store(target)
            names = [info.name for info in store.list(KEYS_PREFIX)][:SLOTS_MAX]
            for name in names:
                if name.removeprefix(KEYS_PREFIX) not in slots:
                    _add_slot(slots, store.get(name), repository)
        except DrtoolError as error:
            targets.fail(target, error.message)
        if slots:
            break  # every target that keeps slots keeps all of them
    return slots


def _add_slot(slots: dict[str, KeySlot], data: bytes, repository: RepositoryId) -> None:
    with suppress(FormatError):
        slot = KeySlot.decode(data)
        if slot.repository == repository.hex():
            slots[slot.id] = slot


def _last_slot(state_dir: Path) -> str:
    try:
        return (state_dir / _LAST_SLOT).read_text()
    except OSError:
        return ""
