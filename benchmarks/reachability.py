"""`python -m benchmarks.reachability`: the cost of marking the live chunks among many, in time and memory.

It generates index segments on disk, and trees on the fly with files that name each chunk once. Then the production
code marks all chunks. Memory is the anonymous memory of the process, because the kernel can drop mapped segments at any time.
"""

import argparse
import hashlib
import heapq
import mmap
import random
import re
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

from drtool.crypto import HEADER_BYTES, Keyring
from drtool.model import ChunkId, PackId, RepositoryId, TargetName
from drtool.packing import SegmentPack, SegmentReader
from drtool.packing.segment import SEGMENT_ROWS_MAX, encode_segment, unseal_segment
from drtool.repository.marking import Marks
from drtool.trees import Entry, FileType, write_directory

_TEXT_BYTES = 4096
_CHUNKS_A_FILE = 4
_FILES_A_DIRECTORY = 250


def id_of(number: int) -> bytes:
    """Return the id of a data chunk."""
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=32).digest()


class Trees:
    """A root with directories that are generated on request, so only their numbers are in memory."""

    def __init__(self, chunks: int, seed: int) -> None:
        self.chunks = chunks
        self.draw = random.Random(seed)
        self.numbers: dict[bytes, int] = {}
        self.roots: dict[bytes, bytes] = {}
        self.tree_ids: list[bytes] = []

    def directory(self, number: int) -> bytes:
        """Return the page of one directory."""
        texts: list[bytes] = []
        span = _CHUNKS_A_FILE * _FILES_A_DIRECTORY
        first = number * span
        entries = [
            Entry(
                name=b"%08d" % at,
                type=FileType.FILE,
                mode=0o644,
                uid=0,
                gid=0,
                content=b"".join(id_of(n) for n in range(at, min(at + _CHUNKS_A_FILE, self.chunks))),
            )
            for at in range(first, min(first + span, self.chunks), _CHUNKS_A_FILE)
        ]

        def put(_kind: object, text: bytes) -> ChunkId:
            texts.append(text)
            return ChunkId(blake3(text).digest())

        write_directory(entries, put)
        return texts[0]

    def make(self) -> bytes:
        """Generate all names and return the root's name."""
        span = _CHUNKS_A_FILE * _FILES_A_DIRECTORY
        entries = []
        for number in range((self.chunks + span - 1) // span):
            name = blake3(self.directory(number)).digest()
            self.numbers[name] = number
            entries.append(
                Entry(name=b"%08d" % number, type=FileType.DIRECTORY, mode=0o755, uid=0, gid=0, subtree=name)
            )

        def put(_kind: object, text: bytes) -> ChunkId:
            name = blake3(text).digest()
            self.roots[name] = text
            return ChunkId(name)

        return write_directory(entries, put)

    def fetch(self, chunk: ChunkId) -> bytes:
        """Return the text of a tree chunk."""
        return self.roots[chunk] if chunk in self.roots else self.directory(self.numbers[chunk])

    def all_ids(self) -> Iterator[bytes]:
        """Yield the id of every chunk that must be found."""
        yield from self.numbers
        yield from self.roots
        yield from (id_of(number) for number in range(self.chunks))


def segments(ids: Iterator[bytes], total: int, pack_rows: int, folder: Path) -> Iterator[SegmentReader]:
    """Return segments of at most SEGMENT_ROWS_MAX rows, mapped from files as in the cache."""
    keyring = Keyring(RepositoryId(bytes(16)), {1: bytes([1]) * 32})
    at = 0
    while at < total:
        count = min(SEGMENT_ROWS_MAX, total - at)
        packs = (count + pack_rows - 1) // pack_rows
        block = ((_TEXT_BYTES * 256) + 16, 0, _TEXT_BYTES * 256)
        blocks = tuple(block for _ in range((pack_rows + 255) // 256))
        size = HEADER_BYTES + sum(length for length, _, _ in blocks) + 1000
        table = [
            SegmentPack(PackId(id_of(10**12 + at + n)), size, 0, (TargetName("a/main"),), blocks, bytes(HEADER_BYTES))
            for n in range(packs)
        ]
        rows = sorted(
            chunk
            + struct.pack(">I", n // pack_rows)
            + (n % pack_rows // 256).to_bytes(2, "big")
            + (n % 256 * _TEXT_BYTES).to_bytes(3, "big")
            + _TEXT_BYTES.to_bytes(3, "big")
            for n, chunk in zip(range(count), ids, strict=False)
        )
        sealed, row_count = encode_segment(keyring, table, heapq.merge(rows))
        path = folder / f"segment-{at}"
        path.write_bytes(unseal_segment(keyring, sealed))
        del rows, sealed, table
        with path.open("rb") as file:
            yield SegmentReader(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        at += row_count


def anonymous_mib() -> float:
    """Return the present anonymous memory of this process."""
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reachability", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--chunks", type=int, default=20_000_000)
    parser.add_argument("--pack-chunks", type=int, default=1000, help="chunks in a pack")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trees = Trees(options.chunks, 1)
        root = trees.make()
        total = options.chunks + len(trees.numbers) + len(trees.roots)
        readers = list(segments(trees.all_ids(), total, options.pack_chunks, Path(folder)))
        before_mib, peak_mib = anonymous_mib(), 0.0
        marks = Marks(readers)
        fetched = 0

        def fetch(chunk: ChunkId) -> bytes:
            nonlocal fetched, peak_mib
            fetched += 1
            if fetched % 64 == 0:
                peak_mib = max(peak_mib, anonymous_mib())
            return trees.fetch(chunk)

        started = time.monotonic()
        marks.mark_trees([root], fetch)
        wall_s = time.monotonic() - started
        live = sum(map(marks.live_rows_of, marks.live_bytes))
        print(f"{live:,} of {total:,} chunks in {len(readers)} segments marked in {wall_s:.1f} s")
        print(f"anonymous memory: {before_mib:.0f} MiB before, at most {peak_mib:.0f} MiB while marking")
        return 0 if live == total else 1


if __name__ == "__main__":
    sys.exit(main())
