"""A Redis server, from the command line to a plan that puts it into a server of its own."""

import os
import subprocess
import time

import pytest
from command_shell import shell_in

from drtool.sources.guarded import Guarded
from drtool.sources.inventory import Inventory
from drtool.sources.redis.client import Client
from drtool.sources.redis.engine import ENGINE

PLAN = """\
version: 1
id: cache
title: The newest RDB loads
scope: scratch
steps:
  - {id: restore, uses: restore, with: {snapshot: {source: cache}, to: {scratch: true, engine: redis}}, outputs: {dsn: dsn}}
  - id: counted
    uses: compare
    needs: [restore]
    with: {left: "${{ steps.restore.outputs.dsn }}", right: "recorded:cache", what: [rowcount]}
"""


@pytest.mark.thorough
def test_a_plan_loads_what_was_backed_up(tmp_path):
    lacking = ENGINE.lacks(os.environ, Inventory(drtool="redis"), scratch=True)
    if lacking:
        if os.environ.get("CI"):
            pytest.fail(lacking)
        pytest.skip(lacking)
    shell = shell_in(tmp_path)
    assert shell("init", *(word for site in "abc" for word in ("--target", f"{site}={tmp_path / site}"))).code == 0
    guarded = Guarded((), os.environ, prefix="drtool-rd-", user=None, size_bytes=0)
    try:
        socket = guarded.directory / "socket"
        guarded.start(["redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", str(guarded.directory)])
        ends_at = time.monotonic() + 20
        while not socket.exists():
            assert time.monotonic() < ends_at, guarded.log()
            time.sleep(0.05)
        client = Client(f"unix://{socket}", os.environ)
        subprocess.run(client.words("SET", "key", "value"), check=True, stdout=subprocess.DEVNULL)
        with (tmp_path / "drtool.yaml").open("a") as config:
            config.write(f"sources: {{cache: {{redis: {{dsn: 'unix://{socket}'}}}}}}\n")
        assert shell("backup").code == 0
    finally:
        assert guarded.stop() == []
    assert shell("backup").code == 1, "the server is gone"
    (tmp_path / "cache.yaml").write_text(PLAN)
    done = shell("plan", "run", "cache.yaml", "--json")
    assert (done.code, done.document["verdict"]) == (0, "passed"), done.out
    refused = shell("restore", "latest", "--source", "cache", "--to-dsn", "redis://localhost", "--json")
    assert (refused.code, "cannot load an RDB" in refused.error["message"]) == (1, True)
