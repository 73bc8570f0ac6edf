"""A real MariaDB server for tests, on a private socket; skipped where there is none, except on CI."""

import os
from collections.abc import Iterator

import pytest

from drtool.sources.databases import nobody_watches
from drtool.sources.inventory import Inventory
from drtool.sources.mysql.engine import ENGINE, MysqlTarget


def start() -> MysqlTarget:
    """Return a server without anything in it; `stop` it."""
    lacking = ENGINE.lacks(os.environ, Inventory(drtool="mysql"), scratch=True)
    if lacking:
        if os.environ.get("CI"):
            pytest.fail(lacking)
        pytest.skip(lacking)
    return ENGINE.start((), os.environ, Inventory(drtool="mysql"), 0, nobody_watches)


@pytest.fixture(scope="module")
def empty_mariadb() -> Iterator[MysqlTarget]:
    target = start()
    try:
        yield target
    finally:
        assert target.stop() == []
