"""Makes the golden files: `python tests/golden/golden_make.py` writes them anew. Only ever do that for a new format version.

A small repository of generation 2 with one directory of three files; every random byte is drawn from a fixed stream. What
depends on the version of the zstd library (`zstd.pack`) was made once, and is only read since.
"""

import json
from pathlib import Path

import zstandard
from blake3 import blake3
from pyfastcdc.py.constants import GEAR

from drtool.crypto import ChunkKind, Keyring, SealKind, object_name, seal_slot
from drtool.crypto.sealing import derive
from drtool.manifest.head import NO_DIGEST, Head, digest_after, seal_head
from drtool.manifest.library import Learned
from drtool.manifest.mirror import seal_mirror
from drtool.manifest.ops import Found, make_change
from drtool.manifest.records import Config, KeyTable, Policy, Target, Voter
from drtool.manifest.state import begin
from drtool.model import ChunkId, PackId, RepositoryId, SessionId, SiteName, TargetName
from drtool.packing import CutBounds, Cutter, PackBuilder, PackKind, SegmentPack, encode_segment
from drtool.packing.segment import rows_of
from drtool.paxos import Ballot
from drtool.trees import Entry, FileType, write_content, write_directory

HERE = Path(__file__).parent
REPOSITORY = RepositoryId(bytes(range(16)))
MASTERS = {1: bytes(range(32)), 2: bytes(range(32, 64))}
PASSWORD = "pässword".encode()
SALT = bytes(range(64, 96))
CUT_TEXT = blake3(b"drtool/1/golden").digest(length=8 * 1024 * 1024)
FILES = {b"noise": CUT_TEXT[:300], b"same noise": CUT_TEXT[:300], "zwölf".encode(): CUT_TEXT[300:1000]}


class Stream:
    """The bytes that are drawn, always the same in the same order."""

    def __init__(self, name):
        self.name, self.drawn = name, 0

    def __call__(self, count):
        self.drawn += count
        return blake3(self.name.encode()).digest(length=self.drawn)[-count:]


class Raw:
    """A compressor that never gains anything, so that blocks are stored as they are."""

    @staticmethod
    def compress(text):
        return bytes(text) + b"\0"


def keyring(name):
    return Keyring(REPOSITORY, MASTERS, Stream(name))


def chunk_id(kind, text):
    return ChunkId(blake3(text, key=keyring("").id_key(kind)).digest())


def pack_of(name, kind, compressor, blocks, *, pads=False):
    builder = PackBuilder(keyring(name), kind, compressor, pads=pads)
    chunk_kind = ChunkKind.DATA if kind == PackKind.DATA else ChunkKind.TREE
    for texts in blocks:
        ids = [chunk_id(chunk_kind, text) for text in texts]
        builder.add_block(b"".join(texts), ids, [len(text) for text in texts])
    pack, data, contents = builder.finish()
    return pack, bytes(data), contents


def entries():
    return [
        Entry(
            name=name,
            type=FileType.FILE,
            mode=0o640,
            uid=1000,
            gid=100,
            user="ève",
            group="users",
            size_bytes=len(text),
            mtime_ns=-1,
            ctime_ns=1_700_000_000_123_456_789,
            inode=2**63 + number,
            device=66,
            links=1,
            rdev=0,
            link_target=b"",
            xattrs=((b"user.note", b"\xff\0"),),
            holes=((0, 4096),) if number else (),
            flags=16,
            content=chunk_id(ChunkKind.DATA, text),
            uncaptured=("acl: Permission denied",) if number else (),
        )
        for number, (name, text) in enumerate(FILES.items())
    ]


def page():
    texts = []

    def put(kind, text):
        texts.append(text)
        return chunk_id(kind, text)

    write_directory(entries(), put)
    return texts[0]


def long_list():
    """The chunks of kind list of a file of 1,025 chunks, lowest first, and what the entry holds."""
    texts = []

    def put(kind, text):
        texts.append(text)
        return chunk_id(kind, text)

    content, depth = write_content([ChunkId(number.to_bytes(32, "big")) for number in range(1025)], put)
    return texts, content, depth


def made_here():
    """Everything that this program must still make byte for byte."""
    texts = list(dict.fromkeys(FILES.values()))
    data = pack_of("data", PackKind.DATA, Raw(), [texts[:1], texts[1:]])
    trees = pack_of("trees", PackKind.TREES, Raw(), [[page()]])
    table, rows = [], []
    for number, (pack, sealed, contents) in enumerate((data, trees)):
        table.append(SegmentPack.of(PackId(pack), len(sealed), (TargetName("paris/nas"),), contents))
        rows += rows_of(number, contents)
    segment, _ = encode_segment(keyring("segment"), table, sorted(rows))
    return {
        "data.pack": data[1],
        "padded.pack": pack_of("padded", PackKind.DATA, Raw(), [texts[:1], texts[1:]], pads=True)[1],
        "trees.pack": trees[1],
        "index.segment": segment,
        "slot.json": seal_slot(Keyring(REPOSITORY, MASTERS), PASSWORD, "golden", Stream("slot")).encode(),
        "vectors.json": json.dumps(vectors(), indent=1).encode() + b"\n",
    }


def vectors():
    keys = keyring("value")
    lists, content, depth = long_list()
    return {
        "masters": {str(generation): key.hex() for generation, key in MASTERS.items()},
        "object_keys": {kind.word: derive(MASTERS[2], SALT, kind.word).hex() for kind in SealKind},
        "id_keys": {kind.name.lower(): keys.id_key(kind).hex() for kind in ChunkKind},
        "chunk_ids_of_abc": {kind.name.lower(): chunk_id(kind, b"abc").hex() for kind in ChunkKind},
        "mac_of_abc_for_marker": keys.mac("marker", b"abc").hex(),
        "object_name_of_abc": object_name(b"abc").hex(),
        "sealed_head_of_abc": keys.seal(SealKind.HEAD, b"abc").hex(),
        "root": chunk_id(ChunkKind.TREE, page()).hex(),
        "page": page().hex(),
        "lists_of_1025": [blake3(text).hexdigest() for text in lists],
        "content_of_1025": [content.hex(), depth],
        "gear_begins": [f"{word:016x}" for word in GEAR[:4]],
        "gear_blake3": blake3(b"".join(word.to_bytes(8, "big") for word in GEAR)).hexdigest(),
        "cuts_of_8_mib": {
            str(average): Cutter(CutBounds(average)).lengths(CUT_TEXT, final=True)
            for average in (64 * 1024, 512 * 1024, 1024 * 1024)
        },
        "cut_seed": f"{keys.cut_seed():016x}",
        "keyed_cuts_of_8_mib": {
            str(average): Cutter(CutBounds(average, keys.cut_seed())).lengths(CUT_TEXT, final=True)
            for average in (64 * 1024, 512 * 1024, 1024 * 1024)
        },
    }


def mirror():
    """A copy of a catalogue's first head, and what a reader finds in it."""
    keys, config = keyring("mirror"), Config(1, 1, (Voter(SiteName("paris"), TargetName("paris/main"), bytes(16)),), 1)
    targets = (Target(TargetName("oslo/main"), 1, "active", "s3://oslo"),)
    op = Found(REPOSITORY, "golden", Policy(copies=1), targets, 1, config, KeyTable(epoch=1, generation=2, drawn=2))
    state = begin(make_change(op, SessionId(bytes(16)), 0, 1, "paris"))
    digest = digest_after(NO_DIGEST, make_change(op, SessionId(bytes(16)), 0, 1, "paris"))
    head = Head(1, digest, config, (make_change(op, SessionId(bytes(16)), 0, 1, "paris"),), state.sessions)
    learned = Learned(seal_head(keys, head, state.keys), head, state, None)
    name, sealed = seal_mirror(keys, config, Ballot(7, bytes(range(16))), learned, 2, "paris")
    return {"name": name.key, "sealed": sealed.hex(), "head": learned.value.hex(), "digest": digest.hex()}


def only_read():
    """What a library of today made; nobody has to make it again."""
    texts = [b"drtool " * 3000, b"and more " * 100]
    return {
        "zstd.pack": pack_of("zstd", PackKind.DATA, zstandard.ZstdCompressor(level=3), [texts])[1],
        "mirror.json": json.dumps(mirror(), indent=1).encode() + b"\n",
    }


if __name__ == "__main__":
    for file, content in {**made_here(), **only_read()}.items():
        (HERE / file).write_bytes(content)
