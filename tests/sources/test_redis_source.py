"""A live Redis server: its keys are restored into a private server, and an incomplete RDB leaves no snapshot."""

import os
import subprocess
import time

import pytest

from drtool.errors import DrtoolError
from drtool.operations.backup import SourceJob
from drtool.operations.inventories import recorded
from drtool.sources.databases import nobody_watches
from drtool.sources.guarded import Guarded
from drtool.sources.inventory import Inventory
from drtool.sources.redis import RedisSource
from drtool.sources.redis.client import Client, connection_options
from drtool.sources.redis.engine import ENGINE


@pytest.fixture(scope="module")
def server():
    lacking = ENGINE.lacks(os.environ, Inventory(drtool="redis"), scratch=True)
    if lacking:
        if os.environ.get("CI"):
            pytest.fail(lacking)
        pytest.skip(lacking)
    guarded = Guarded((), os.environ, prefix="drtool-rd-", user=None, size_bytes=0)
    try:
        socket = guarded.directory / "socket"
        words = ["--port", "0", "--unixsocket", str(socket), "--dir", str(guarded.directory), "--save", ""]
        guarded.start(["redis-server", *words, "--requirepass", "s3cret"])
        environ = {**os.environ, "REDISCLI_AUTH": "s3cret"}
        ends_at = time.monotonic() + 20
        while not socket.exists():
            assert time.monotonic() < ends_at, guarded.log()
            time.sleep(0.05)
        client = Client(f"unix://{socket}", environ)
        lines = "".join(f"SET key:{n} value-{n}\n" for n in range(5000)) + "SELECT 3\nHSET h a 1 b 2\n"
        subprocess.run(client.words(), input=lines.encode(), env=environ, check=True, stdout=subprocess.DEVNULL)
        yield f"unix://{socket}", environ
    finally:
        assert guarded.stop() == []


def stored(world, dsn, environ, **request):
    job = SourceJob(name="cache", captured=RedisSource(dsn))
    with world.open() as repository:
        return world.run_jobs(repository, job, environ=environ, **request).snapshots[0]


def fails(world, dsn, environ):
    with pytest.raises(DrtoolError) as caught:
        stored(world, dsn, environ)
    assert world.snapshots() == []
    assert caught.value.exit_code == 1
    return caught.value.message


def test_keys_are_restored_and_counted(world, server, tmp_path):
    report = stored(world, *server)
    assert report.errors == []
    assert world.restore(tmp_path / "out").errors == []
    with world.open() as repository:
        inventory = recorded(repository, list(repository.view.state.snapshots)[-1])
    assert inventory.databases[0].rows == {"db0": 5000, "db3": 1}
    target = ENGINE.start((), os.environ, inventory, 0, nobody_watches)
    try:
        chosen = target.put_back(inventory, tmp_path / "out", (), lambda _: None)
        assert target.differences(chosen, tmp_path / "out", ("rowcount",)) == []
        client = Client(target.url, os.environ)
        assert client.ask("GET", "key:77") == "value-77\n"
        client.ask("DEL", "key:77")
        found = target.differences(chosen, tmp_path / "out", ("rowcount",))
        assert [row.detail for row in found] == ["4999 rows; 5000 rows recorded"]
    finally:
        assert target.stop() == []
    dump = tmp_path / "out/redis/dump.rdb"
    dump.write_bytes(dump.read_bytes()[:-2000])
    broken = ENGINE.start((), os.environ, inventory, 0, nobody_watches)
    try:
        with pytest.raises(DrtoolError, match="redis-check-rdb"):
            broken.put_back(inventory, tmp_path / "out", (), lambda _: None)
    finally:
        assert broken.stop() == []


def test_servers_that_cannot_be_captured(world, server, tmp_path):
    dsn, environ = server
    assert "Redis at /nowhere" in fails(world, "unix:///nowhere", environ)
    assert "NOAUTH" in fails(world, dsn, dict(os.environ))
    wrong = fails(world, dsn, {**os.environ, "REDISCLI_AUTH": "wr0ng"})
    assert "wr0ng" not in wrong
    assert "there is no program redis-cli" in fails(world, dsn, {"PATH": str(tmp_path)})


def test_an_incomplete_rdb_leaves_nothing(world, server, tmp_path):
    program = tmp_path / "redis-cli"
    program.write_text(
        '#!/bin/sh\nfor word in "$@"; do\n[ "$word" = --rdb ] || continue\n'
        'head -c 500000 /dev/urandom; echo connection lost >&2; exit 1\ndone\nexec /usr/bin/redis-cli "$@"\n'
    )
    program.chmod(0o755)
    dsn, environ = server
    assert "connection lost" in fails(world, dsn, {**environ, "PATH": f"{tmp_path}:{environ['PATH']}"})


def test_a_dry_run_counts_keys_and_stores_nothing(world, server):
    report = stored(world, *server, dry_run=True)
    assert (report.id, world.snapshots()) == (None, [])
    assert "db0 5000 keys" in report.facts[0]


@pytest.mark.parametrize(
    ("dsn", "options", "password"),
    [
        ("", [], ""),
        ("redis://h:7/", ["-h", "h", "-p", "7"], ""),
        ("rediss://u:p%40@h", ["-h", "h", "--tls", "--user", "u"], "p@"),
        ("redis://:#?[]+%2F%25%@[::1]:1/", ["-h", "::1", "-p", "1"], "#?[]+/%%"),
        ("unix:///run/a%20b", ["-s", "/run/a b"], ""),
    ],
)
def test_dsns(dsn, options, password):
    assert connection_options(dsn) == (options, password)


@pytest.mark.parametrize("dsn", ["mysql://x/", "secret", "redis://", "redis://h:secret", "redis://u:a/secret@h"])
def test_an_invalid_dsn_is_refused_and_not_repeated(dsn):
    with pytest.raises(ValueError) as caught:
        RedisSource(dsn)
    assert "secret" not in str(caught.value)
