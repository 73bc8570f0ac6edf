"""The keys of an open repository: master keys by generation, and the keys derived from them.

Invariants
    Chunk ids always use generation 1's keys, so that deduplication survives a rotation. New objects are sealed under
    the generation that the manifest names, which need not be the newest in the key slot, since a rotation may have been
    interrupted.
    Keys never leave this object as text: its repr only shows their number.
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
    """Return the content address of sealed bytes: BLAKE3-256, 32 bytes. It can be checked without a key."""
    return blake3(data).digest()


class Keyring:
    """The keys. After `seal_under` it is complete, safe to share between threads, and safe to inherit by a fork."""

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
        """The id of the key slot that provided the newest of these keys, or empty."""
        self._masters = dict(masters)
        self._draw = draw
        self._further: Iterator[Keyring] = iter(())
        self._looking = Lock()
        self._id_keys = {kind: derive(masters[1], _NO_SALT, f"id/{kind.name.lower()}") for kind in ChunkKind}

    @classmethod
    def draw(cls, repository: RepositoryId) -> "Keyring":
        """Return a new repository's keyring: one master key, generation 1."""
        return cls(repository, {1: os.urandom(MASTER_KEY_BYTES)})

    def __repr__(self) -> str:
        return f"Keyring({self.repository.hex()}, {len(self._masters)} generations)"

    @property
    def masters(self) -> Mapping[int, bytes]:
        """Return the master keys, only for wrapping into a key slot."""
        return self._masters

    def complete_from(self, further: "Iterator[Keyring]") -> None:
        """Look for missing keys there, since an old slot of the same password may have been the first to open.

        Until `seal_under` selects the manifest's generation, the first one seals, since every slot has it.
        """
        self.generation = 1
        self._further = further

    def seal_under(self, generation: int) -> None:
        """Seal new objects under this key, and stop looking for more keys. KeyMissing if no slot has it."""
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
        """Return a sealer for one object of several parts, under a fresh salt.

        `newest`: the newest key in a table of key slots, so that those slots can open the object. KeyMissing if this
        keyring has no such key.
        """
        generation = self.generation if newest is None else self._held_by_slots_of(newest)
        return Sealer(self.master(generation), generation, kind, self._draw(SALT_BYTES))

    def _held_by_slots_of(self, newest: int) -> int:
        """Return the current key if slots whose newest key is `newest` are sure to hold it, else `newest`.

        They hold every key that was current before. A key from before a forced recovery may never have been current,
        because it may have been given up.
        """
        older = self.generation <= newest
        kept = self.generation == 1 or self.generation >> RECOVERY_SHIFT == newest >> RECOVERY_SHIFT
        return self.generation if older and kept else newest

    def opener(self, kind: SealKind, header: Buffer) -> Opener:
        return Opener(self.master, kind, header)

    def seal(self, kind: SealKind, plaintext: Buffer, newest: int | None = None) -> bytes:
        """Return an object of one part: header ‖ part 0 ‖ empty footer. `newest`: as for `sealer`."""
        sealer = self.sealer(kind, newest)
        return sealer.header + sealer.part(0, plaintext) + sealer.footer(1, b"")

    def open(self, kind: SealKind, sealed: Buffer) -> bytes:
        """Return the plaintext of `seal`. SealBroken unless every byte is as it was sealed."""
        view = memoryview(sealed)
        if len(view) < HEADER_BYTES + 2 * TAG_BYTES:
            raise SealBroken(f"a sealed {kind.word} is cut short")
        opener = self.opener(kind, view[:HEADER_BYTES])
        opener.footer(1, view[-TAG_BYTES:])
        return opener.part(0, view[HEADER_BYTES:-TAG_BYTES])

    def id_key(self, kind: ChunkKind) -> bytes:
        """Return the key of `blake3(chunk, key=…)` for chunks of this kind."""
        return self._id_keys[kind]

    def cut_seed(self) -> int:
        """Return the seed of the chunker's gear table: 63 bits under generation 1, so that cuts survive a rotation."""
        return int.from_bytes(derive(self._masters[1], _NO_SALT, "cuts")[:8], "big") >> 1

    def mac(self, purpose: str, data: Buffer) -> bytes:
        """Return 32 bytes: BLAKE3 keyed for `purpose` under generation 1."""
        return blake3(data, key=derive(self._masters[1], _NO_SALT, f"mac/{purpose}")).digest()

    def mac_matches(self, purpose: str, data: Buffer, tag: bytes) -> bool:
        return hmac.compare_digest(self.mac(purpose, data), tag)
