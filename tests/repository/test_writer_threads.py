"""Threads that put objects leave signals to the main thread, because only it can handle one at a safe point."""

import signal
import threading
from contextlib import closing

from drtool.repository.writing import Writer


def test_a_writing_thread_takes_no_interruption(world, monkeypatch):
    seen = []

    def put(_writer, _target, _name, _data):
        seen.append(
            (threading.current_thread() is threading.main_thread(), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        )

    monkeypatch.setattr(Writer, "_put", put)
    with world.open() as repository, closing(repository.writer()) as writer:
        writer.submit(repository.targets.online()[0], "packs/00/00", b"").result()
    ((in_main, blocked),) = seen
    assert not in_main
    assert {signal.SIGINT, signal.SIGTERM} <= blocked
