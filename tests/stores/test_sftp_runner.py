"""The end of the event loop behind an SFTP connection."""

import asyncio
import threading

import pytest

from drtool.errors import StoreError
from drtool.stores.sftp_link import Runner


def test_a_runner_that_is_closed_while_a_call_is_under_way_ends_with_that_call():
    runner, begun, answers = Runner(), threading.Event(), []

    async def slow() -> str:
        begun.set()
        await asyncio.sleep(0.2)
        return "answered"

    caller = threading.Thread(target=lambda: answers.append(runner.run(slow())))
    caller.start()
    assert begun.wait(5)
    runner.close()
    caller.join(5)
    assert answers == ["answered"]
    with pytest.raises(StoreError, match="closed"):
        runner.run(asyncio.sleep(0))


def test_an_idle_runner_is_closed_at_once():
    runner = Runner()
    assert runner.run(asyncio.sleep(0, "answered")) == "answered"
    runner.close()
    with pytest.raises(StoreError, match="closed"):
        runner.run(asyncio.sleep(0))
