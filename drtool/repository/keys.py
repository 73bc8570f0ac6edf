"""Unlocking a repository: the key slots at its targets are tried with a password.

Invariants
    The exact bytes that worked last on this host are tried first. A slot that does not parse is skipped, and is not
    fatal.
    Those bytes are also kept here, in case no target has a valid slot. They count only if the manifest still names
    them, since a removed password must not open anything.
    The cost of slots is bounded for each target: a target with expensive slots exhausts only its own share.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from drtool.crypto import Keyring, KeySlot, object_name, open_slot
from drtool.crypto.slots import Argon2Parameters
from drtool.errors import DrtoolError, FormatError, NoQuorum, WrongPassword
from drtool.manifest.records import KeyTable
from drtool.model import RepositoryId, TargetName
from drtool.repository.cache import write_atomically
from drtool.repository.slots import SLOTS_MAX, parsed_slot, slot_texts
from drtool.repository.targets import Targets

WORK_MAX = SLOTS_MAX * Argon2Parameters(salt=b"").work
"""The limit on the cost of one target's slots: the maximum number of slots with the default parameters."""
_LAST_SLOT = "last-slot"
_KEPT_SLOT = "last-slot.json"


def unlock(targets: Targets, repository: RepositoryId, password: Callable[[], bytes], state_dir: Path) -> Keyring:
    """Return the keyring from the first slot that the password opens. WrongPassword if none does."""
    unlocking = _Unlocking(targets, repository, password, state_dir)
    opened = unlocking.keyrings()
    keyring = next(opened, None)
    if keyring is not None:
        keyring.complete_from(opened)
        return keyring
    if not unlocking.seen:
        raise NoQuorum(
            "no reachable target holds a key slot of this repository",
            hint="bring back a target that keeps key slots (`keys: false` targets do not)",
        )
    raise WrongPassword(
        f"the password is wrong: it opens none of the repository's key slots ({unlocking.seen})",
        hint="check --password-file, $DRTOOL_PASSWORD and the configuration's password_file, in this order; "
        "or it was removed: `drtool key list`, on a host that opens the repository, shows what is left",
    )


def kept_slot(state_dir: Path) -> bytes | None:
    """Return the bytes of the slot that worked last on this host."""
    try:
        return (state_dir / _KEPT_SLOT).read_bytes()
    except OSError:
        return None


def unlock_kept(repository: RepositoryId, password: Callable[[], bytes], state_dir: Path) -> Keyring | None:
    """Return the keyring from the slot that this host keeps, or None if the password does not open it.

    `check_kept` must follow as soon as the manifest can be read.
    """
    text = kept_slot(state_dir)
    slot = parsed_slot(text, repository) if text is not None else None
    if slot is None:
        return None
    with suppress(WrongPassword, FormatError):
        return open_slot(slot, password())
    return None


def check_kept(state_dir: Path, table: KeyTable) -> None:
    """Raise `WrongPassword` unless the manifest names the very slot that this host keeps."""
    text = kept_slot(state_dir) or b""
    if object_name(text) not in {slot.hash for slot in table.slots}:
        raise WrongPassword(
            "no target has a key slot that this password opens, and the one that this host keeps was removed or replaced",
            hint="use a password that is not removed: `drtool key list`, on a host that opens the repository, shows them",
        )


class _Found(Struct):
    """One slot with identical bytes on some targets."""

    slot: KeySlot
    text: bytes
    hash: bytes
    holders: list[TargetName]


class _Unlocking:
    """The slots of the reachable targets, tried one after the other."""

    def __init__(
        self, targets: Targets, repository: RepositoryId, password: Callable[[], bytes], state_dir: Path
    ) -> None:
        self._targets = targets
        self._repository = repository
        self._password = password
        self._last = state_dir / _LAST_SLOT
        self.seen = 0

    def keyrings(self) -> Iterator[Keyring]:
        """Yield the keyrings that the password opens. Nothing is listed or derived before it is needed."""
        left = dict.fromkeys(self._targets.online(), WORK_MAX)
        secret: bytes | None = None
        last = _read(self._last)
        for found in self._slots(last):
            self.seen += 1
            secret = self._password() if secret is None else secret
            payer = max(found.holders, key=lambda holder: left[holder])
            left[payer] -= found.slot.argon2id.work
            if left[payer] < 0:
                continue
            with suppress(WrongPassword, FormatError):
                keyring = open_slot(found.slot, secret)
                if found.hash.hex() != last or kept_slot(self._last.parent) is None:
                    self._keep(found)
                yield keyring

    def _keep(self, found: _Found) -> None:
        """Keep the slot that worked: its hash saves time at the next opening, and its bytes help if no target has them."""
        with suppress(OSError):  # a full disk costs time at the next opening
            write_atomically(self._last, found.hash.hex().encode())
            write_atomically(self._last.parent / _KEPT_SLOT, found.text)

    def _slots(self, last: str) -> Iterator[_Found]:
        """Yield the slot that worked last as soon as a target shows it, then the others, the most widespread first."""
        known: dict[bytes, _Found] = {}
        for target in self._targets.online():
            for found in self._slots_at(target):
                if (before := known.get(found.hash)) is not None:
                    before.holders.append(target)
                    continue
                known[found.hash] = found
                if found.hash.hex() == last:
                    yield found
        others = [found for found in known.values() if found.hash.hex() != last]
        yield from sorted(others, key=lambda found: (-len(found.holders), found.slot.id))

    def _slots_at(self, target: TargetName) -> list[_Found]:
        try:
            texts = slot_texts(self._targets.store(target)).values()
        except DrtoolError as error:
            self._targets.fail_by(target, error)
            return []
        slots = ((parsed_slot(text, self._repository), text) for text in texts)
        return [_Found(slot, text, object_name(text), [target]) for slot, text in slots if slot is not None]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
