"""The keys of an open repository: master keys by generation, and what is derived from them.

Invariants
    Chunk ids always use generation 1's keys, so that deduplication survives a rotation. New objects are sealed under the
    generation that the manifest names, which need not be the newest in the key slot: a rotation may have been cut off.
    Keys never leave this object as text: its repr says how many there are.
"""

import hmac
import os
from collections.abc import Callable, Iterator, Mapping
from threading import Lock

from blake3 import blake3

from drtool.crypto.sealing import HEADER_BYTES, SALT_BYTES, TAG_BYTES, Opener, Sealer, SealKind, derive
from drtool.errors import KeyMissing, SealBroken
from drtool.model import Buffer, ChunkKind, RepositoryId

MASTER_KEY_BYTES = 32
RECOVERY_SHIFT = 20
"""After a forced recovery to generation g of the manifest, keys are numbered from (g - 1) << 20."""
_NO_SALT = bytes(SALT_BYTES)


def object_name(data: Buffer) -> bytes:
    """The content address of sealed bytes: BLAKE3-256, 32 bytes; anyone can check it without a key."""
    return blake3(data).digest()


class Keyring:
    """Complete once `seal_under` was called: then safe to share between threads and to inherit by a fork."""

    def __init__(
        self,
        repository: RepositoryId,
        masters: Mapping[int, bytes],
        draw: Callable[[int], bytes] = os.urandom,
        slot: str = "",
    ) -> None:
        self.repository = repository
        self.generation = max(masters)
        self.slot = slot
        """The id of the key slot that gave the newest of these keys; empty if none did."""
        self._masters = dict(masters)
        self._draw = draw
        self._further: Iterator[Keyring] = iter(())
        self._looking = Lock()
        self._id_keys = {kind: derive(masters[1], _NO_SALT, f"id/{kind.name.lower()}") for kind in ChunkKind}

    @classmethod
    def draw(cls, repository: RepositoryId) -> "Keyring":
        """A new repository's keyring: one master key, generation 1."""
        return cls(repository, {1: os.urandom(MASTER_KEY_BYTES)})

    def __repr__(self) -> str:
        return f"Keyring({self.repository.hex()}, {len(self._masters)} generations)"

    @property
    def masters(self) -> Mapping[int, bytes]:
        """For wrapping into a key slot only."""
        return self._masters

    def complete_from(self, further: "Iterator[Keyring]") -> None:
        """A key that is missing is looked for there: an old slot of the same password may have been the first to open.

        Until `seal_under` says what the manifest names, the first generation seals: everybody has it.
        """
        self.generation = 1
        self._further = further

    def seal_under(self, generation: int) -> None:
        """The key of new objects from here on; nothing more is looked for. KeyMissing if no slot has it."""
        self.master(generation)
        self.generation = generation
        self._further = iter(())

    def master(self, generation: int) -> bytes:
        if generation not in self._masters:
            self._look_for(generation)
        try:
            return self._masters[generation]
        except KeyError:
            raise KeyMissing(
                f"sealed under key generation {generation}, which this password's key slot does not hold",
                hint="the keys were rotated: run the command again; if that does not help, this password was left out, and "
                "a host that opens the repository can add it: drtool key add",
            ) from None

    def _look_for(self, generation: int) -> None:
        with self._looking:
            while generation not in self._masters and (other := next(self._further, None)) is not None:
                if other.masters[1] != self._masters[1]:
                    continue
                self.slot = other.slot if max(other.masters) > max(self._masters) else self.slot
                self._masters = {**other.masters, **self._masters}

    def sealer(self, kind: SealKind, newest: int | None = None) -> Sealer:
        """For one object of several parts, under a fresh salt.

        `newest`: the key that a table of key slots names; whoever has those slots can open the object. KeyMissing if this
        keyring has no such key.
        """
        generation = self.generation if newest is None else self._held_by_slots_of(newest)
        return Sealer(self.master(generation), generation, kind, self._draw(SALT_BYTES))

    def _held_by_slots_of(self, newest: int) -> int:
        """The key in use if slots whose newest key is `newest` are sure to hold it; `newest` otherwise.

        They hold every key that was in force before. A key of before a forced recovery may never have been: it was perhaps
        given up.
        """
        older = self.generation <= newest
        kept = self.generation == 1 or self.generation >> RECOVERY_SHIFT == newest >> RECOVERY_SHIFT
        return self.generation if older and kept else newest

    def opener(self, kind: SealKind, header: Buffer) -> Opener:
        return Opener(self.master, kind, header)

    def seal(self, kind: SealKind, plaintext: Buffer, newest: int | None = None) -> bytes:
        """An object of one part: header ‖ part 0 ‖ empty footer. `newest`: as for `sealer`."""
        sealer = self.sealer(kind, newest)
        return sealer.header + sealer.part(0, plaintext) + sealer.footer(1, b"")

    def open(self, kind: SealKind, sealed: Buffer) -> bytes:
        """The text of `seal`; SealBroken unless every byte is as it was sealed."""
        view = memoryview(sealed)
        if len(view) < HEADER_BYTES + 2 * TAG_BYTES:
            raise SealBroken(f"a sealed {kind.word} is cut short")
        opener = self.opener(kind, view[:HEADER_BYTES])
        opener.footer(1, view[-TAG_BYTES:])
        return opener.part(0, view[HEADER_BYTES:-TAG_BYTES])

    def id_key(self, kind: ChunkKind) -> bytes:
        """The key of `blake3(chunk, key=…)` for chunks of this kind."""
        return self._id_keys[kind]

    def cut_seed(self) -> int:
        """What the gear table of chunking is varied by: 63 bits, under generation 1, so that cuts survive a rotation."""
        return int.from_bytes(derive(self._masters[1], _NO_SALT, "cuts")[:8], "big") >> 1

    def mac(self, purpose: str, data: Buffer) -> bytes:
        """32 bytes: BLAKE3 keyed for `purpose` under generation 1."""
        return blake3(data, key=derive(self._masters[1], _NO_SALT, f"mac/{purpose}")).digest()

    def mac_matches(self, purpose: str, data: Buffer, tag: bytes) -> bool:
        return hmac.compare_digest(self.mac(purpose, data), tag)
