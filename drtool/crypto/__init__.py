"""Keys and sealing. Everything stored is encrypted and authenticated by one routine, with standard primitives only."""

from drtool.crypto.keyring import Keyring, object_name
from drtool.crypto.sealing import HEADER_BYTES, TAG_BYTES, Opener, Sealer, SealKind
from drtool.crypto.slots import KeySlot, open_slot, seal_slot
from drtool.model import ChunkKind

__all__ = [
    "HEADER_BYTES",
    "TAG_BYTES",
    "ChunkKind",
    "KeySlot",
    "Keyring",
    "Opener",
    "SealKind",
    "Sealer",
    "object_name",
    "open_slot",
    "seal_slot",
]
