"""A second reader, written from docs/format.md alone: nothing of drtool is imported here, and nothing of it may be."""

import base64
import json

import msgspec
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

# fmt: off
ENTRY_FIELDS = (
    "name", "type", "mode", "uid", "gid", "user", "group", "size", "mtime", "ctime", "inode", "device", "links", "rdev",
    "link_target", "xattrs", "holes", "flags", "content", "content_depth", "subtree", "uncaptured", "acl_names",
)
KINDS = {
    1: "pack", 2: "segment", 3: "head", 4: "log-page", 5: "checkpoint", 6: "inbox", 7: "object", 8: "journal",
    9: "successor", 10: "mirror",
}
# fmt: on


def u(data):
    return int.from_bytes(data, "big")


def open_slot(document, password):
    """Master keys by generation."""
    slot = json.loads(document)
    kdf = slot["argon2id"]
    salt, nonce, wrapped = (base64.b64decode(text) for text in (kdf["salt"], slot["nonce"], slot["wrapped"]))
    key = Argon2id(
        salt=salt, length=32, iterations=kdf["passes"], lanes=kdf["lanes"], memory_cost=kdf["memory_kib"]
    ).derive(password)
    numbers = (slot["format"], kdf["memory_kib"], kdf["passes"], kdf["lanes"])
    bound = "\n".join(("drtool/1/slot", slot["repository"], slot["id"], slot["label"], *map(str, numbers), salt.hex()))
    return msgspec.msgpack.decode(AESGCM(key).decrypt(nonce, wrapped, bound.encode()))[0]


def read_mirror(masters, name, sealed):
    """(change, ballot, the head's fields) of a mirror under its name."""
    assert blake3(sealed).hexdigest() == name[-64:]
    row = _row(masters, sealed, "mirror")
    head = _row(masters, row[5], "head")
    assert name == f"manifest/mirror/g{row[1]:04d}-c{row[2]:06d}-s{head[0]:012d}-{name[-64:]}"
    return head[0], row[4], head


def _row(masters, data, kind):
    sealed = Sealed(masters, data[:48])
    assert sealed.kind == kind
    assert sealed.footer(1, data[-16:]) == b""
    return msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(sealed.part(0, data[48:-16])))


def derive(master, salt, purpose):
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"drtool/1/" + purpose.encode()).derive(master)


class Sealed:
    """One sealed object's parts."""

    def __init__(self, masters, header):
        assert header[:6] == b"drtool"
        assert header[6] == 1
        assert header[12:16] == bytes(4)
        self.header = header
        self.kind = KINDS[header[7]]
        self.cipher = AESGCM(derive(masters[u(header[8:12])], header[16:48], self.kind))

    def part(self, number, sealed):
        return self.cipher.decrypt(number.to_bytes(12, "big"), sealed, self.header + b"P" + number.to_bytes(8, "big"))

    def footer(self, parts, sealed):
        return self.cipher.decrypt(b"\xff" * 12, sealed, self.header + b"F" + parts.to_bytes(8, "big"))


def open_value(masters, sealed):
    """An object of one part."""
    opened = Sealed(masters, sealed[:48])
    assert opened.footer(1, sealed[-16:]) == b""
    return opened.part(0, sealed[48:-16])


def footer_of(data, magic):
    """(sealed footer, number in the trailer, where the footer begins)."""
    assert data[-4:] == magic
    length, number = u(data[-12:-8]), u(data[-8:-4])
    start = len(data) - 12 - length
    return data[start : start + length], number, start


def unpack(codec, body, text_length):
    text = body if codec == 0 else zstandard.ZstdDecompressor().decompress(body, max_output_size=text_length)
    assert len(text) == text_length
    return text


def read_pack(masters, data):
    """(kind, chunks by id) of a whole pack."""
    pack = Sealed(masters, data[:48])
    sealed_footer, count, end = footer_of(data, b"drtp")
    kind, blocks, *_ = msgspec.msgpack.decode(pack.footer(count, sealed_footer))
    assert len(blocks) == count
    chunks, at = {}, 48
    for number, (length, codec, text_length, ids, lengths) in enumerate(blocks):
        text = unpack(codec, pack.part(number, data[at : at + length]), text_length)
        at += length
        start = 0
        for place, chunk_length in enumerate(lengths):
            chunks[ids[place * 32 : place * 32 + 32]] = text[start : start + chunk_length]
            start += chunk_length
        assert start == text_length
    assert at == end
    return kind, chunks


class Segment:
    """An index segment, opened."""

    def __init__(self, masters, data):
        opened = Sealed(masters, data[:48])
        sealed_footer, count, end = footer_of(data, b"drts")
        row_count, table_length = msgspec.msgpack.decode(opened.footer(count, sealed_footer))
        at = 48 + table_length
        self.packs = msgspec.msgpack.decode(opened.part(0, data[48:at]))
        rows = b""
        for number in range(1, count):
            length = min(16384, row_count - (number - 1) * 16384) * 44 + 16
            rows += opened.part(number, data[at : at + length])
            at += length
        assert at == end
        self.rows = [rows[start : start + 44] for start in range(0, len(rows), 44)]
        assert self.rows == sorted(self.rows)
        assert len(self.rows) == row_count

    def read(self, masters, chunk, fetch):
        """A chunk's text; `fetch(pack name, start, length)` reads a part of a pack."""
        row = next(row for row in self.rows if row[:32] == chunk)
        name, _, _, _, blocks, header = self.packs[u(row[32:36])]
        block, offset, length = u(row[36:38]), u(row[38:41]), u(row[41:44])
        sealed_length, codec, text_length = blocks[block]
        sealed = fetch(name.hex(), 48 + sum(b[0] for b in blocks[:block]), sealed_length)
        return unpack(codec, Sealed(masters, header).part(block, sealed), text_length)[offset : offset + length]


def chunk_id(masters, kind, text):
    return blake3(text, key=derive(masters[1], bytes(32), f"id/{kind}")).digest()


def cut_seed(masters):
    """What every word of the gear table is XORed with where a repository hides sizes."""
    return u(derive(masters[1], bytes(32), "cuts")[:8]) >> 1


def size_class(size):
    """The next size that a padded pack may have."""
    exponent = size.bit_length() - 1
    free = max(0, exponent - exponent.bit_length() - 1)
    return (size + (1 << free) - 1) >> free << free


def read_page(text):
    """The entries of one page, as dicts."""
    assert text[:1] == b"P"
    rows = msgspec.msgpack.decode(text[1:])
    assert all(len(ENTRY_FIELDS) - 1 <= len(row) <= len(ENTRY_FIELDS) for row in rows)
    return [dict(zip(ENTRY_FIELDS, row, strict=False)) for row in rows]


def read_list(text):
    """(height, ids) of a list."""
    assert text[:1] == b"L"
    return text[1], [text[at : at + 32] for at in range(2, len(text), 32)]
