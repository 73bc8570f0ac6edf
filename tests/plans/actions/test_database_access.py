"""A plan reaches a server behind a DSN as the backup of the source does."""

from types import SimpleNamespace

import pytest
from action_world import run_context, work

from drtool.plans.actions import restoring_databases
from drtool.sources.databases import NO_ACCESS
from drtool.sources.inventory import Inventory

CONFIG = """
sites: {a: {main: {url: a}}}
sources:
  orders: {postgresql: {dsn: "service=orders", run_as: postgres, programs: bin}}
  shop: {mysql: {defaults_file: my.cnf}}
"""


@pytest.mark.parametrize("source", ["orders", "shop", "gone"])
def test_the_access_of_the_source_is_used(tmp_path, monkeypatch, source):
    config = tmp_path / "drtool.yaml"
    config.write_text(CONFIG)
    connected = []
    engine = SimpleNamespace(connect=lambda dsn, environ, watch, access: connected.append(access))
    monkeypatch.setattr(restoring_databases, "engine_of", lambda kind: engine)
    action = SimpleNamespace(to=SimpleNamespace(dsn="host=new", engine="postgresql"))
    world = run_context(tmp_path, config_path=config)
    restoring_databases._target(action, {"source": source}, Inventory(drtool="postgresql"), world, work())
    (access,) = connected
    assert (access.run_as, access.programs, access.defaults_file) == {
        "orders": ("postgres", tmp_path / "bin", None),
        "shop": (None, None, tmp_path / "my.cnf"),
        "gone": NO_ACCESS,
    }[source]
