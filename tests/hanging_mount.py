"""A mount that hangs, for real: a FUSE file system whose server never answers."""

import ctypes
import os
from contextlib import contextmanager
from pathlib import Path

import pytest

_libc = ctypes.CDLL(None, use_errno=True)
DETACH = 2


@contextmanager
def hung_mount(point: Path):
    """`point` hangs whoever looks into it, until the end; skips where that cannot be had."""
    try:
        server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        pytest.skip(f"no FUSE here: {error}")
    words = f"fd={server},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    if _libc.mount(b"hung", os.fsencode(point), b"fuse", 0, words.encode()):
        os.close(server)
        pytest.skip(f"may not mount: {os.strerror(ctypes.get_errno())}")
    try:
        yield point
    finally:
        os.close(server)  # whoever waits gets ENOTCONN now
        _libc.umount2(os.fsencode(point), DETACH)
