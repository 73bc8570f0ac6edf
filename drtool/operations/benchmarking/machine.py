"""The benchmark of this machine: each step of a backup on its own, then all of them, on one core and in every worker.

The data is generated here: random bytes, which are incompressible, and log-like lines, which compress well. Nothing is
kept.

Invariants
    Workers are forked before any thread starts. The file that is read back has no name, so a killed run leaves nothing
    behind.
"""

import mmap
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import zstandard
from blake3 import blake3

from drtool.crypto import TAG_BYTES, Keyring, SealKind
from drtool.model import ChunkId, ChunkKind, RepositoryId
from drtool.operations.benchmarking.request import MIB
from drtool.operations.benchmarking.results import CompressionSpeed, MachineSpeed
from drtool.packing import CutBounds, Cutter, PackBuilder, PackKind
from drtool.repository.workers import Channel, WorkerPool
from drtool.repository.writing import COMPRESSION_LEVEL

STEP_S = 0.15
DATA_BYTES = 16 * MIB
PIECE_BYTES = 512 * 1024
LEVELS = (1, 3, 9)
FILE_BYTES = 64 * MIB


class _Go(msgspec.Struct, frozen=True):
    text: bool


class _Went(msgspec.Struct, frozen=True):
    bytes_per_second: float


def measure_machine(workers: int, directory: Path) -> MachineSpeed:
    """Measure everything. This takes about two seconds."""
    random, text = random_bytes(), log_lines()
    keyring = Keyring.draw(RepositoryId(os.urandom(16)))
    all_random, all_text = _all_workers(workers, keyring, random, text)
    cutter = Cutter(CutBounds())
    key = keyring.id_key(ChunkKind.DATA)
    return MachineSpeed(
        cpus=os.cpu_count() or 1,
        workers=workers,
        chunk_bytes_per_second=_rate(lambda: len(random) * bool(cutter.lengths(random, final=True))),
        hash_bytes_per_second=_rate(lambda: sum(len(p) * bool(blake3(p, key=key).digest()) for p in _pieces(random))),
        seal_bytes_per_second=_rate(lambda: _sealed(keyring, random)),
        compression=[_compression(level, text) for level in LEVELS],
        pack_random_bytes_per_second=_packing_rate(keyring, random),
        pack_text_bytes_per_second=_packing_rate(keyring, text),
        all_workers_pack_random_bytes_per_second=all_random,
        all_workers_pack_text_bytes_per_second=all_text,
        disk_read_bytes_per_second=_disk_rate(directory, random),
        disk_read_directory=str(directory),
    )


def random_bytes(length: int = DATA_BYTES) -> bytes:
    """Return different bytes each time, without a pattern: BLAKE3's output, which is faster than the system's."""
    return blake3(os.urandom(32)).digest(length=length)


def log_lines() -> bytes:
    """Return unique log-like lines."""
    stamps = memoryview(random_bytes(1 * MIB)).cast("I")
    lines = (
        b"2026-11-23T%08x INFO request %d from 10.0.%d.7 took %d us\n" % (s, i, s % 251, s % 99_991)
        for i, s in enumerate(stamps)
    )
    return b"".join(lines)[:DATA_BYTES]


def _rate(step: Callable[[], int]) -> float:
    """Return the bytes per second of a step that returns how many bytes it handled.

    The first (cold) run does not count.
    """
    step()
    done_bytes, began_s = 0, time.monotonic()
    while True:
        done_bytes += step()
        taken_s = time.monotonic() - began_s
        if taken_s >= STEP_S:
            return done_bytes / taken_s


def _pieces(data: bytes) -> list[memoryview]:
    view = memoryview(data)
    return [view[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]


def _sealed(keyring: Keyring, data: bytes) -> int:
    sealer, room = keyring.sealer(SealKind.PACK), memoryview(bytearray(PIECE_BYTES + TAG_BYTES))
    for number, piece in enumerate(_pieces(data)):
        sealer.part_into(number, piece, room[: len(piece) + TAG_BYTES])
    return len(data)


def _compression(level: int, text: bytes) -> CompressionSpeed:
    compressor = zstandard.ZstdCompressor(level=level)
    pieces = _pieces(text[: 4 * MIB])
    small_bytes = sum(len(compressor.compress(piece)) for piece in pieces)
    rate = _rate(lambda: sum(len(piece) * bool(compressor.compress(piece)) for piece in pieces))
    ratio = round(sum(map(len, pieces)) / small_bytes, 2)
    return CompressionSpeed(level=level, bytes_per_second=rate, ratio=ratio, used=level == COMPRESSION_LEVEL)


def _packing_rate(keyring: Keyring, data: bytes) -> float:
    """Return a worker's rate for the bytes of a file, without reading and storing them."""
    builder = PackBuilder(keyring, PackKind.DATA, zstandard.ZstdCompressor(level=COMPRESSION_LEVEL))
    cutter, key = Cutter(CutBounds()), keyring.id_key(ChunkKind.DATA)
    view = memoryview(data)

    def pack() -> int:
        at = 0
        for length in cutter.lengths(view, final=True):
            chunk = view[at : at + length]
            builder.add_block(chunk, [ChunkId(blake3(chunk, key=key).digest())], [length])
            at += length
            if builder.full:
                builder.finish()
                builder.begin()
        return at

    return _rate(pack)


def _all_workers(count: int, keyring: Keyring, random: bytes, text: bytes) -> tuple[float, float]:
    """Return the rates of all workers at once, in processes of their own, as in a backup."""

    def serve(channel: "Channel[_Went, _Go]") -> None:
        while (request := channel.receive()) is not None:
            channel.send(_Went(_packing_rate(keyring, text if request.text else random)))

    pool = WorkerPool(count, serve, msgspec.msgpack.Decoder(_Go), msgspec.msgpack.Decoder(_Went))
    try:
        sums = [sum(reply.bytes_per_second for reply in pool.broadcast(_Go(is_text))) for is_text in (False, True)]
    finally:
        pool.close()
    return sums[0], sums[1]


def _disk_rate(directory: Path, data: bytes) -> float | None:
    """Return the rate of reading an uncached file, or None if none can be written or evicted from the cache."""
    if not hasattr(os, "posix_fadvise"):
        return None
    room = memoryview(mmap.mmap(-1, 4 * MIB))
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            for _ in range(FILE_BYTES // len(data)):
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            began_s, at = time.monotonic(), 0
            while got := os.preadv(file.fileno(), [room], at):
                at += got
            return at / (time.monotonic() - began_s)
    except OSError:
        return None
