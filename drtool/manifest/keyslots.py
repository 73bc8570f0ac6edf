"""Key slots before heads: a voter accepts a head only once its own key slots can open that head.

A site that was away misses changes of the key slots: a rotation, an added password, a removed one. The next head that
it is offered may be sealed under a key that none of its slots holds. So the slots of the head's own table are copied
there first.

A slot of that table opens the head because the head is sealed under a key of that table's past (`seal_head`).

Invariants
    A site that keeps key slots accepts a head only if it holds at least one slot of that head's table, whole. Every
    other slot that any site can provide is copied there as well.
    A slot's bytes must have the hash in the table. Their origin does not matter.
    A site is not asked if its head already includes the table's last change, since it was asked when it accepted that
    change.
"""

from collections.abc import Collection, Iterable, Mapping

import msgspec

from drtool.crypto import object_name
from drtool.manifest.head import Head, digests_of, open_head
from drtool.manifest.library import Learned
from drtool.manifest.names import SLOTS, slot_key
from drtool.manifest.ops import SetKeys
from drtool.manifest.place import SiteView, Trouble, unreachable
from drtool.manifest.ports import Failed, Keys, List, Put, Read, Talk
from drtool.manifest.records import Config, SlotRow
from drtool.model import SiteName, TargetName


class SlotSource(msgspec.Struct, frozen=True):
    """Where slots may be read, and which targets hold none according to this host's configuration."""

    sites: tuple[SiteName, ...] = ()
    keyless: frozenset[TargetName] = frozenset()


class SlotGuard:
    """Copies the key slots of one head to the sites that are about to accept it."""

    def __init__(
        self, source: SlotSource, offered: Learned, config: Config, keepers: Collection[SiteName] | None = None
    ) -> None:
        """`keepers`: the sites that keep slots, by default the voters whose register is on a target that keeps them."""
        self._slots = offered.state.keys.slots if offered.state.keys.epoch else ()
        self._source = source
        self._keepers = _keepers(offered, config, source.keyless) if keepers is None else set(keepers)
        self._settled: set[SiteName] = set()
        self._texts: dict[bytes, bytes] = {}

    def settle(self, keys: Keys, offered: Head, views: Mapping[SiteName, SiteView]) -> None:
        """Note the sites whose present head includes the last change of the slots. They are not asked.

        A higher sequence alone proves nothing, since a head that was accepted but never chosen has other changes.
        """
        floor = _last_change(offered)
        known: dict[bytes, bool] = {}
        for site, view in views.items() if self._slots else ():
            value = view.record.value
            if value not in known:
                known[value] = _has_in_its_past(open_head(keys, value), offered, floor)
            if known[value]:
                self._settled.add(site)

    def ready(self, site: SiteName) -> Talk[Trouble | None]:
        """Return None once the site holds a slot that opens the head, or otherwise why it does not."""
        if not self._slots or site in self._settled or site not in self._keepers:
            return None
        listed = yield List(site, SLOTS)
        if isinstance(listed, Failed):
            return unreachable(listed)
        whole = 0
        for slot in self._slots:
            held = yield from self._hold(site, slot, listed)
            if isinstance(held, Failed):
                return unreachable(held)
            whole += held
        if not whole:
            return Trouble("unreachable", "it holds no key slot that opens the catalogue, and no other site gave one")
        self._settled.add(site)
        return None

    def _hold(self, site: SiteName, slot: SlotRow, listed: Collection[str]) -> Talk[bool | Failed]:
        """Return whether the slot is now at the site, whole."""
        name = slot_key(slot.id)
        if name in listed and _is_whole((yield Read(site, name)), slot):
            return True
        text = yield from self._text(slot, but=site)
        if text is None:
            return False
        failed = yield Put(site, name, text)
        return failed if isinstance(failed, Failed) else True

    def _text(self, slot: SlotRow, but: SiteName) -> Talk[bytes | None]:
        """Return the slot's bytes from the first site that has them."""
        for site in self._source.sites if slot.id not in self._texts else ():
            if site == but:
                continue
            text = yield Read(site, slot_key(slot.id))
            if isinstance(text, bytes) and _is_whole(text, slot):
                self._texts[slot.id] = text
                break
        return self._texts.get(slot.id)


def _is_whole(text: object, slot: SlotRow) -> bool:
    return isinstance(text, bytes) and object_name(text) == slot.hash


def _keepers(offered: Learned, config: Config, keyless: Iterable[TargetName]) -> set[SiteName]:
    """Return the voters whose register is on a target that keeps key slots."""
    without = {row.name for row in offered.state.targets if not row.keys} | set(keyless)
    return {voter.site for voter in config.voters if voter.target not in without}


def _has_in_its_past(held: Head, offered: Head, sequence: int) -> bool:
    """Return whether change `sequence` of `offered` is also in `held`.

    False if it is unknown because neither head has it.
    """
    at, offered_at = sequence - held.checkpoint_sequence, sequence - offered.checkpoint_sequence
    if at < 0 or sequence > held.sequence:
        return False
    return digests_of(held)[at] == digests_of(offered)[offered_at]


def _last_change(head: Head) -> int:
    """Return the newest change of the slots in the head, or its checkpoint's change if it has none."""
    changed = [n for n, change in enumerate(head.recent, 1) if isinstance(change.op, SetKeys)]
    return head.checkpoint_sequence + (changed[-1] if changed else 0)
