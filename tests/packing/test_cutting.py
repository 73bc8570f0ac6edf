"""Where texts are cut: within bounds, the same for every way of handing them over, and unmoved by edits far away."""

import hashlib
from itertools import accumulate

import pyfastcdc
import pytest
from blake3 import blake3
from hypothesis import example, given, settings
from hypothesis import strategies as st
from thoroughness import sample

from drtool.errors import DrtoolError, FormatError
from drtool.packing import CutBounds, Cutter, cutting

SMALL = CutBounds(4096)
TEXT = blake3(b"a text").digest(length=1024 * 1024)
GEAR = [int.from_bytes(hashlib.md5(bytes([byte]) * 64).digest()[:8], "big") for byte in range(256)]
MASKS = {4096: (0x0000D90313530000, 0x0000590003530000)}  # docs/format.md, "Cutting": those of 16 KiB and of 1 KiB


def cut_by_the_document(text, bounds):
    """docs/format.md, "Cutting", byte by byte and without a library."""
    narrow, wide = MASKS[bounds.average_bytes]
    start, lengths = 0, []
    while start < len(text):
        left = min(len(text) - start, bounds.maximum_bytes)
        lengths.append(_length(text[start : start + left], bounds, narrow, wide))
        start += lengths[-1]
    return lengths


def _length(text, bounds, narrow, wide):
    fingerprint = 0
    if len(text) <= bounds.minimum_bytes:
        return len(text)
    centre = min(bounds.average_bytes, len(text)) & ~1
    for position in range(bounds.minimum_bytes, len(text) & ~1):
        fingerprint = (fingerprint * 2 + GEAR[text[position]]) % 2**64
        if not fingerprint & (narrow if position < centre else wide):
            return position
    return len(text)


def piecewise(cutter, text, sizes):
    """Return the cuts of `text` in buffers that grow by `sizes`, each remainder carried into the next."""
    cuts, carried, at = [], b"", 0
    for size in sizes:
        carried += text[at : at + size]
        at += size
        lengths = cutter.lengths(carried, final=False)
        cuts += lengths
        carried = carried[sum(lengths) :]
    return cuts + cutter.lengths(carried + text[at:], final=True)


@pytest.mark.parametrize("average", [4096, 64 * 1024])
def test_chunks_are_within_their_bounds_and_cover_the_text(average):
    bounds = CutBounds(average)
    lengths = Cutter(bounds).lengths(TEXT, final=True)
    assert sum(lengths) == len(TEXT)
    assert all(bounds.minimum_bytes < length <= bounds.maximum_bytes for length in lengths[:-1])
    assert 0.5 < len(TEXT) / len(lengths) / average < 2


@pytest.mark.parametrize(
    "size", [0, 1, 2, 1023, 1024, 1025, 1026, 4095, 4096, 4097, 4099, 16383, 16384, 16385, 16386, 40000]
)
@pytest.mark.parametrize("byte", [None, 0, 255])
def test_the_library_cuts_as_the_document_says(size, byte):
    text = TEXT[:size] if byte is None else bytes([byte]) * size
    assert Cutter(SMALL).lengths(text, final=True) == cut_by_the_document(text, SMALL)


@settings(max_examples=sample(40))
@given(st.binary(max_size=64), st.integers(0, 100_000))
def test_the_library_cuts_every_text_as_the_document_says(seed, size):
    text = blake3(seed).digest(length=size)
    assert Cutter(SMALL).lengths(text, final=True) == cut_by_the_document(text, SMALL)


@settings(max_examples=sample(300))
@given(st.binary(max_size=8), st.integers(0, 60_000), st.lists(st.integers(0, 20_000), max_size=12))
@example(b"", 60_000, [1] * 100)
@example(b"", 60_000, [16384, 16384, 16384])
def test_pieces_are_cut_as_the_whole(seed, size, sizes):
    cutter = Cutter(SMALL)
    text = blake3(seed).digest(length=size)
    assert piecewise(cutter, text, sizes) == cutter.lengths(text, final=True)


def test_pieces_that_end_beside_a_cut_are_cut_as_the_whole():
    """The end of a buffer cuts too: one byte before, at and behind every cut, that must not show."""
    cutter = Cutter(SMALL)
    text = TEXT[:100_000]
    whole = cutter.lengths(text, final=True)
    for cut in accumulate(whole):
        for end in range(max(0, cut - 3), cut + 4):
            assert piecewise(cutter, text, [end]) == whole


def test_pieces_of_a_text_without_a_cut_are_cut_as_the_whole():
    cutter = Cutter(SMALL)
    text = bytes(100_000)
    whole = cutter.lengths(text, final=True)
    assert whole[:-1] == [SMALL.maximum_bytes] * 6
    for end in (16383, 16384, 16385, 32767, 32768, 32769):
        assert piecewise(cutter, text, [end]) == whole


def test_every_buffer_of_the_maximum_length_yields_a_chunk():
    """Else a reader with a buffer of that size would wait for ever."""
    cutter = Cutter(SMALL)
    for seed in range(200):
        text = blake3(bytes([seed])).digest(length=SMALL.maximum_bytes)
        assert cutter.lengths(text, final=False)
    assert cutter.lengths(bytes(SMALL.maximum_bytes), final=False) == [SMALL.maximum_bytes]
    assert cutter.lengths(b"", final=False) == cutter.lengths(b"", final=True) == []


@settings(max_examples=sample(60))
@given(st.integers(0, len(TEXT)), st.integers(1, 4096), st.binary(min_size=1, max_size=16))
def test_an_insertion_moves_only_the_cuts_beside_it(place, count, seed):
    cutter = Cutter(SMALL)
    edited = TEXT[:place] + blake3(seed).digest(length=count) + TEXT[place:]
    before, after = (_chunks(cutter, text) for text in (TEXT, edited))
    assert len(before & after) >= 0.9 * len(before)


def _chunks(cutter, text):
    ends = list(accumulate(cutter.lengths(text, final=True)))
    return {text[start:end] for start, end in zip([0, *ends], ends, strict=False)}


@pytest.mark.parametrize("average", [-1, 0, 1, 2048, 4095, 5000, 786_432, 2 * 1024 * 1024, 2**40])
def test_an_average_that_the_format_does_not_have_is_refused(average):
    with pytest.raises(FormatError):
        Cutter(CutBounds(average))


def test_a_library_that_cuts_otherwise_is_refused(monkeypatch):
    class Other(pyfastcdc.FastCDC):
        def cut_buf(self, buf):
            return list(super().cut_buf(buf))[:-1]

    Other.__module__ = pyfastcdc.FastCDC.__module__
    monkeypatch.setattr(pyfastcdc, "FastCDC", Other)
    cutting._check_library.cache_clear()
    with pytest.raises(DrtoolError, match="differently"):
        Cutter(SMALL)
    cutting._check_library.cache_clear()


def test_the_slow_library_is_refused(monkeypatch):
    from pyfastcdc.py import FastCDC

    monkeypatch.setattr(pyfastcdc, "FastCDC", FastCDC)
    with pytest.raises(DrtoolError, match="without its compiled part"):
        Cutter(SMALL)
