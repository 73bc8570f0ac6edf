"""stdout writes every byte or reports why not."""

import errno
import io
import os

import pytest

from drtool.cli.core.streams import FullWriter


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_short_writes_are_continued(pipe, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda number, data: real(number, bytes(data[:7])))
    with io.BufferedWriter(FullWriter(pipe[1], "stdout")) as out:
        out.write(b"0123456789" * 100)
    assert os.read(pipe[0], 65_536) == b"0123456789" * 100


def test_a_full_non_blocking_pipe_is_waited_for(pipe, monkeypatch):
    os.set_blocking(pipe[1], False)
    room = os.write(pipe[1], bytes(10_000_000))
    read = b""

    class Poll:
        def register(self, number, events):
            assert (number, events) == (pipe[1], __import__("select").POLLOUT)

        def poll(self):
            nonlocal read
            read += os.read(pipe[0], room)

    monkeypatch.setattr("select.poll", Poll)
    assert FullWriter(pipe[1], "stdout").write(b"x" * room) == room
    assert read == bytes(room)
    assert os.read(pipe[0], room) == b"x" * room


def test_a_write_of_zero_bytes_is_a_full_disk(pipe, monkeypatch):
    monkeypatch.setattr(os, "write", lambda number, data: 0)
    with pytest.raises(OSError, match="stdout") as caught:
        FullWriter(pipe[1], "stdout").write(b"x")
    assert caught.value.errno == errno.ENOSPC


def test_a_reader_that_has_gone_is_a_broken_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with pytest.raises(BrokenPipeError):
            FullWriter(writing, "stdout").write(b"x")
    finally:
        os.close(writing)
