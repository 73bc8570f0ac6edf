"""Reading one target's objects whole: their names against their bytes, then every seal, block and chunk id.

A pack that passes would restore: everything that a restore relies on was done with it.
"""

from blake3 import blake3

from drtool.crypto import HEADER_BYTES, Keyring, SealKind, object_name
from drtool.errors import DrtoolError, TargetOffline
from drtool.model import ChunkKind
from drtool.packing import PackKind, read_footer, unseal_segment
from drtool.packing.pack import decompress
from drtool.stores import Store

_ID_BYTES = 32


def problem_with(store: Store, name: str, keyring: Keyring) -> str:
    """Why an object is not what it should be; empty if it is. TargetOffline says nothing about the object and is raised."""
    try:
        data = store.get(name)
        if object_name(data).hex() != name.rpartition("/")[2]:
            return "its bytes are not those that its name promises"
        if name.startswith("index/"):
            unseal_segment(keyring, data)
        else:
            _open_everything(keyring, data)
    except TargetOffline:
        raise
    except DrtoolError as error:
        return error.message
    return ""


def _open_everything(keyring: Keyring, pack: bytes) -> None:
    contents = read_footer(keyring, pack)
    opener = keyring.opener(SealKind.PACK, pack[:HEADER_BYTES])
    kinds = (ChunkKind.DATA,) if contents.kind == PackKind.DATA else (ChunkKind.TREE, ChunkKind.LIST)
    keys = [keyring.id_key(kind) for kind in kinds]
    view = memoryview(pack)
    at = HEADER_BYTES
    for number, block in enumerate(contents.blocks):
        text = memoryview(decompress(block.codec, opener.part(number, view[at : at + block.length]), block.text_length))
        at += block.length
        _check_chunks(text, block.ids, block.lengths, keys)


def _check_chunks(text: memoryview, ids: bytes, lengths: tuple[int, ...], keys: list[bytes]) -> None:
    start = 0
    for number, length in enumerate(lengths):
        chunk = text[start : start + length]
        start += length
        wanted = ids[number * _ID_BYTES : (number + 1) * _ID_BYTES]
        if all(blake3(chunk, key=key).digest() != wanted for key in keys):
            raise DrtoolError("a chunk in it is not what its id promises")
