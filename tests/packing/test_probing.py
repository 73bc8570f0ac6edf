"""Compression is skipped only where there is nothing to gain."""

import random

import pytest
import zstandard

from drtool.packing.pack import Codec, compress

NOISE = random.Random(1).randbytes(300_000)
TEXT = b"the quick brown fox jumps over the lazy dog, again and again; " * 5_000


@pytest.mark.parametrize("text", [TEXT + NOISE, NOISE + TEXT, NOISE[:150_000] + TEXT + NOISE[150_000:]])
def test_a_chunk_of_two_kinds_is_compressed_whichever_comes_first(text):
    codec, body = compress(zstandard.ZstdCompressor(level=3), text)
    assert codec == Codec.ZSTD
    assert len(body) < len(NOISE) * 1.1


def test_noise_is_stored_as_it_is():
    codec, body = compress(zstandard.ZstdCompressor(level=3), NOISE)
    assert codec == Codec.RAW
    assert body == NOISE
